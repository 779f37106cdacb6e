"""The invariant of compaction under any order of appends, folds, late folds, forgetting and crashes, on a real database."""

import asyncio
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client import CollectorRegistry

from memory.compaction.compactor import Compactor
from memory.compaction.folding import plan_fold
from memory.compaction.spans import Spans
from memory.compaction.summaries import Summaries
from memory.forgetting.audit import Audit
from memory.forgetting.forgetting import Forgetting, Order
from memory.forgetting.selection import Selection
from memory.recall.indexes import ScopeIndexes
from memory.settings import MemorySettings
from memory.truth.history import History
from memory.truth.schema import migrations
from memory.truth.store import Store
from shared.database import Database
from shared.forgetting_messages import AuditScope
from shared.memory_messages import AppendRequest, EraseReport, Role, SpansQuery, TurnIn, TurnsQuery
from shared.worker import Worker

ResultT = TypeVar("ResultT")
ROLES: list[Role] = ["user", "assistant", "tool"]
PICKED = st.lists(st.integers(0, 1000), min_size=1, max_size=8)
TURNS = st.lists(st.tuples(st.sampled_from(ROLES), st.integers(0, 60)), min_size=1, max_size=12)


# One for all runs, as starting it takes half a second.
WORKER = Worker("compaction", idle_s=3600.0)
USERS = {"a": "ada", "b": "grace"}


def teardown_module() -> None:
    asyncio.run(WORKER.close())


def _nobody() -> None:
    """Nobody waits for new spans here."""


class Compactions(RuleBasedStateMachine):
    """The model is the texts that each session was given, by number, and the marks of those that were forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.threads = ThreadPoolExecutor(1)
        self.said: dict[str, dict[int, str]] = {}
        self.last: dict[str, int] = {}
        self.forgotten: set[str] = set()
        self.marks = count()
        self.open()

    def open(self) -> None:
        self.database = Database.open(Path(self.folder.name) / "memory.db", migrations, readers=1)
        self.store, self.spans = Store(self.database), Spans(self.database)
        chosen = MemorySettings(data_dir=Path(self.folder.name), span_source_tokens_max=256)
        self.compactor = Compactor(
            self.spans, Summaries(WORKER, None), chosen, on_spans=_nobody, registry=CollectorRegistry()
        )
        indexes = ScopeIndexes(History(self.database), threads=self.threads, items_max=1000)
        self.forgetting = Forgetting(
            self.database,
            Audit(self.database),
            indexes,
            threads=self.threads,
            span_share=chosen.span_tokens_share,
            on_spans=_nobody,
        )

    def run_now(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self.loop.run_until_complete(work)

    @rule(session=st.sampled_from("ab"), turns=TURNS)
    def append(self, session: str, turns: list[tuple[Role, int]]) -> None:
        self.run_now(self.store.append("t", session, self.request(session, turns)))

    def request(self, session: str, turns: list[tuple[Role, int]]) -> AppendRequest:
        """Turns with marks of their own, which the model takes for said."""
        texts = [f"mark{next(self.marks):06d} {'word ' * words}" for _, words in turns]
        said, last = self.said.setdefault(session, {}), self.last.get(session, 0)
        said |= dict(enumerate(texts, start=last + 1))
        self.last[session] = last + len(texts)
        return AppendRequest(
            user_id=USERS[session],
            turns=[
                TurnIn(id=text.split()[0], role=turn[0], content=text) for turn, text in zip(turns, texts, strict=True)
            ],
        )

    def order(self, session: str, picked: list[int]) -> Order:
        """To forget some turns of the session, which the model forgets now."""
        said = self.said[session]
        seqs = {sorted(said)[pick % len(said)] for pick in picked} if said else set()
        marks = tuple(said.pop(seq).split()[0] for seq in seqs)
        self.forgotten.update(marks)
        row = self.run_now(self.store.session("t", session))
        return Order(selection=Selection(tenant="t", session=row.id, turn_ids=marks), scope=AuditScope())

    @rule(session=st.sampled_from("ab"), keep=st.integers(0, 400))
    def compact(self, session: str, keep: int) -> None:
        if session in self.said:
            row = self.run_now(self.store.session("t", session))
            self.run_now(self.compactor.compact(row, tokens_max=keep, tokens_keep=keep))

    @rule(session=st.sampled_from("ab"), turns=TURNS, keep=st.integers(0, 400))
    def compact_twice_at_once_beside_an_append(self, session: str, turns: list[tuple[Role, int]], keep: int) -> None:
        if session not in self.said:
            return
        row = self.run_now(self.store.session("t", session))
        other = Compactor(
            self.spans,
            Summaries(WORKER, None),
            self.compactor._settings,
            on_spans=_nobody,
            registry=CollectorRegistry(),
        )
        request = self.request(session, turns)

        async def all_at_once() -> None:
            await asyncio.gather(
                self.compactor.compact(row, tokens_max=keep, tokens_keep=keep),
                self.store.append("t", session, request),
                other.compact(row, tokens_max=keep // 2, tokens_keep=keep // 2),
            )

        self.run_now(all_at_once())

    @rule(session=st.sampled_from("ab"))
    def a_summary_that_comes_too_late_is_dropped(self, session: str) -> None:
        """Made from a tail that somebody else folds before it is stored."""
        if session not in self.said:
            return
        row = self.run_now(self.store.session("t", session))
        tail = self.run_now(self.spans.tail(row.id))
        pieces = plan_fold(tail, tokens_max=0, tokens_keep=0, piece_tokens_max=256)
        if not pieces:
            return
        late = self.run_now(self.compactor._made(row, pieces[0]))
        assert late is not None
        self.run_now(self.compactor.compact(row, tokens_max=0, tokens_keep=0))
        assert self.run_now(self.spans.fold(row.id, late)) is False

    @rule(session=st.sampled_from("ab"), picked=PICKED)
    def forget_turns(self, session: str, picked: list[int]) -> None:
        if self.said.get(session):
            report = self.run_now(self.forgetting.forget(order := self.order(session, picked)))
            assert report.verified
            assert report.turns == len(order.selection.turn_ids or ())

    @rule(session=st.sampled_from("ab"), picked=PICKED, turns=TURNS, keep=st.integers(0, 400))
    def forget_beside_an_append_and_a_fold(
        self, session: str, picked: list[int], turns: list[tuple[Role, int]], keep: int
    ) -> None:
        if not self.said.get(session):
            return
        row = self.run_now(self.store.session("t", session))
        order, request = self.order(session, picked), self.request(session, turns)

        async def all_at_once() -> EraseReport:
            _, report, _ = await asyncio.gather(
                self.compactor.compact(row, tokens_max=keep, tokens_keep=keep),
                self.forgetting.forget(order),
                self.store.append("t", session, request),
            )
            return report

        assert self.run_now(all_at_once()).verified

    @rule(session=st.sampled_from("ab"), picked=PICKED)
    def a_summary_of_what_was_forgotten_meanwhile_is_dropped(self, session: str, picked: list[int]) -> None:
        if not self.said.get(session):
            return
        row = self.run_now(self.store.session("t", session))
        tail = self.run_now(self.spans.tail(row.id))
        for piece in plan_fold(tail, tokens_max=0, tokens_keep=0, piece_tokens_max=256)[:1]:
            late = self.run_now(self.compactor._made(row, piece))
            assert late is not None
            before = set(self.said[session])
            self.run_now(self.forgetting.forget(self.order(session, picked)))
            gone = before - set(self.said[session])
            is_stale = any(piece.first_seq <= seq <= piece.last_seq for seq in gone)
            assert self.run_now(self.spans.fold(row.id, late)) is not is_stale

    @rule(session=st.sampled_from("ab"), by_user=st.booleans())
    def forget_all(self, session: str, by_user: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        if session not in self.said:
            return
        row = self.run_now(self.store.session("t", session))
        chosen = Selection(tenant="t", user_id=USERS[session]) if by_user else Selection(tenant="t", session=row.id)
        report = self.run_now(self.forgetting.forget(Order(selection=chosen, scope=AuditScope())))
        assert (report.verified, report.sessions, report.turns) == (True, 1, len(self.said[session]))
        self.forgotten.update(text.split()[0] for text in self.said.pop(session).values())
        del self.last[session]

    @rule()
    def crash(self) -> None:
        """Everything in memory is gone; what was answered is in the file."""
        self.database.close()
        self.open()

    @invariant()
    def nothing_is_lost_and_nothing_stands_twice(self) -> None:
        counts, problems = self.run_now(History(self.database).problems())
        assert problems + self.run_now(self.spans.problems()) == []
        for session, said in self.said.items():
            row = self.run_now(self.store.session("t", session))
            page = self.run_now(self.store.turn_page(row, TurnsQuery(limit=1000)))
            assert {turn.seq: turn.content for turn in page.items} == said
            assert self.run_now(self.store.describe(row)).turns == len(said)
            opened: list[str] = []
            for span in self.run_now(self.spans.outermost(row.id, as_of=None)):
                turns = self.run_now(self.spans.turn_page("t", span.id, TurnsQuery(limit=1000)))
                opened += [turn.content for turn in turns.items]
            tail = self.run_now(self.store.tail(row, tokens_max=10**9, as_of=None))
            assert opened + [turn.content for turn in tail] == [said[seq] for seq in sorted(said)]
            spans = self.run_now(self.spans.page(row, SpansQuery(limit=1000))).items
            assert self.forgotten.isdisjoint(word for span in spans for word in span.text.split())
        assert counts["sessions"] == len(self.said)

    def teardown(self) -> None:
        self.database.close()
        raw = b"".join(path.read_bytes() for path in Path(self.folder.name).rglob("memory.db*"))
        assert not [mark for mark in self.forgotten if mark.encode() in raw]
        self.threads.shutdown()
        self.loop.close()
        self.folder.cleanup()


TestCompactions = Compactions.TestCase
TestCompactions.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
