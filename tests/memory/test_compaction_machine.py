"""The invariant of compaction under any order of appends, folds, late folds, erasing and crashes, on a real database."""

import asyncio
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client import CollectorRegistry

from memory.compactor import Compactor
from memory.folding import plan_fold
from memory.history import History
from memory.schema import migrations
from memory.settings import MemorySettings
from memory.spans import Spans
from memory.store import Store
from memory.summaries import Summaries
from shared.database import Database
from shared.memory_messages import AppendRequest, Role, TurnIn, TurnsQuery

ResultT = TypeVar("ResultT")
ROLES: list[Role] = ["user", "assistant", "tool"]
TURNS = st.lists(st.tuples(st.sampled_from(ROLES), st.integers(0, 60)), min_size=1, max_size=12)


class Compactions(RuleBasedStateMachine):
    """The model is the list of texts that each session was given, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.threads = ThreadPoolExecutor(1)
        self.said: dict[str, list[str]] = {}
        self.open()

    def open(self) -> None:
        self.database = Database.open(Path(self.folder.name) / "memory.db", migrations, readers=1)
        self.store, self.spans = Store(self.database), Spans(self.database)
        chosen = MemorySettings(data_dir=Path(self.folder.name), span_source_tokens_max=256)
        self.compactor = Compactor(self.spans, Summaries(self.threads, None), chosen, registry=CollectorRegistry())

    def run_now(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return self.loop.run_until_complete(work)

    @rule(session=st.sampled_from("ab"), turns=TURNS)
    def append(self, session: str, turns: list[tuple[Role, int]]) -> None:
        texts = [f"{role} {'word ' * words}" for role, words in turns]
        request = AppendRequest(
            turns=[TurnIn(role=turn[0], content=text) for turn, text in zip(turns, texts, strict=True)]
        )
        self.run_now(self.store.append("t", session, request))
        self.said.setdefault(session, []).extend(texts)

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
            self.spans, Summaries(self.threads, None), self.compactor._settings, registry=CollectorRegistry()
        )
        texts = [f"{role} {'late ' * words}" for role, words in turns]
        request = AppendRequest(
            turns=[TurnIn(role=turn[0], content=text) for turn, text in zip(turns, texts, strict=True)]
        )

        async def all_at_once() -> None:
            await asyncio.gather(
                self.compactor.compact(row, tokens_max=keep, tokens_keep=keep),
                self.store.append("t", session, request),
                other.compact(row, tokens_max=keep // 2, tokens_keep=keep // 2),
            )

        self.run_now(all_at_once())
        self.said[session].extend(texts)

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
        self.run_now(self.compactor.compact(row, tokens_max=0, tokens_keep=0))
        assert self.run_now(self.spans.fold(row.id, late)) is False

    @rule(session=st.sampled_from("ab"))
    def erase(self, session: str) -> None:
        if session in self.said:
            self.run_now(self.store.erase_session(self.run_now(self.store.session("t", session))))
            del self.said[session]

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
            assert [turn.content for turn in page.items] == said[:1000]
            opened: list[str] = []
            for span in self.run_now(self.spans.outermost(row.id, as_of=None)):
                turns = self.run_now(self.spans.turn_page("t", span.id, TurnsQuery(limit=1000)))
                opened += [turn.content for turn in turns.items]
            tail = self.run_now(self.store.tail(row, tokens_max=10**9, as_of=None))
            assert (opened + [turn.content for turn in tail])[:1000] == said[:1000]
        assert counts["sessions"] == len(self.said)

    def teardown(self) -> None:
        self.database.close()
        self.threads.shutdown()
        self.loop.close()
        self.folder.cleanup()


TestCompactions = Compactions.TestCase
TestCompactions.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
