"""A memory leaves as a stream of records and comes back the same, through a real server; and only whole, and only once."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych import Policy, SessionSpec
from retrieval.models.hash_embedder import HashEmbedder
from shared.errors import Forbidden, InvalidFields, Malformed, Overloaded, ServiceError, TooLarge
from shared.memory_messages import Retention
from shared.memory_stream import NDJSON
from shared.wire import MSGPACK
from tests.harness import (
    RunningMemory,
    RunningRetrieval,
    make_key,
    raw_session,
    running_memory,
    running_retrieval,
    until,
)
from tests.memory.exported import MOMENT, erase, export, fill, joined, lines, take_in
from tests.shared.strategies import PLAIN_VALUES, PRINTABLE

BOTH = pytest.mark.parametrize("media", [NDJSON, MSGPACK])
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": PRINTABLE | st.just("word " * 80)},
    optional={
        "name": PRINTABLE,
        "metadata": st.dictionaries(PRINTABLE, PLAIN_VALUES, max_size=2),
        "created_at": st.sampled_from(["2020-02-29T23:59:59.000001+05:45", "1999-12-31T00:00:00Z"]),
    },
)
SESSION = st.tuples(st.lists(TURN, min_size=1, max_size=8), st.none() | st.integers(0, 200), PRINTABLE)


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    """Memory without any retrieval."""
    async with running_memory(tmp_path) as running:
        yield running


@BOTH
async def test_what_was_erased_comes_back_the_same_byte_for_byte(alone: RunningMemory, media: str) -> None:
    await fill(alone)
    before = await export(alone.client, media=media)
    await erase(alone)
    assert len(await export(alone.client, media=media)) < 300

    report = await take_in(alone.client, before, media=media)

    assert await export(alone.client, media=media) == before
    counts = (report.sessions.created, report.turns.created, report.facts.created, report.feedback.created)
    assert (*counts, report.conflicts) == (2, 24, 4, 2, [])
    assert report.spans.created > 0
    assert (await alone.client.check()).clean


@settings(max_examples=20, deadline=None)
@given(
    sessions=st.dictionaries(st.sampled_from(["a", "b", "é/c"]), SESSION, min_size=1),
    media=st.sampled_from([NDJSON, MSGPACK]),
)
def test_any_memory_survives_export_erase_and_import(
    sessions: dict[str, tuple[list[dict[str, Any]], int | None, str]], media: str
) -> None:
    async def story(folder: Path) -> None:
        async with running_memory(folder) as running:
            client = running.client
            for name, (turns, keep, title) in sessions.items():
                await client.append(name, turns, user_id="u")
                spec = SessionSpec(title=title, policy=Policy(tail_tokens_max=9000, tail_tokens_keep=100))
                await client.put_session(name, spec)
                if keep is not None:
                    await client.compact(name, tail_tokens_keep=keep)
            before = await export(client, media=media)
            again = await take_in(client, before, media=media)
            await erase(running)
            back = await take_in(client, before, media=media, part_bytes=7)

            assert await export(client, media=media) == before
            assert (again.sessions.created, again.sessions.unchanged, again.conflicts) == (0, len(sessions), [])
            assert (back.sessions.created, back.conflicts) == (len(sessions), [])
            assert (await client.check()).clean

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(story(Path(folder)))


async def test_importing_twice_or_twice_at_once_changes_nothing(alone: RunningMemory, tmp_path: Path) -> None:
    await fill(alone)
    data = await export(alone.client)
    async with running_memory(tmp_path / "other") as other:
        both = await asyncio.gather(take_in(other.client, data), take_in(other.client, data))
        third = await take_in(other.client, data)

        assert await export(other.client) == data
        assert sum(report.turns.created for report in both) == sum(report.turns.unchanged for report in both) == 24
        assert (third.turns.created, third.facts.unchanged, third.spans.created, third.vectors) == (0, 4, 0, 0)
        assert (await other.client.check()).clean


async def test_a_value_of_a_key_for_a_time_that_has_another_is_refused(alone: RunningMemory, tmp_path: Path) -> None:
    await fill(alone)
    data = await export(alone.client)
    async with running_memory(tmp_path / "other") as other:
        await other.client.put_fact(user_id="u", key="x", text="own", valid_from=MOMENT + timedelta(hours=1))
        report = await take_in(other.client, data)

        assert [(each.type, each.id) for each in report.conflicts[:2]] == [("fact", "u-f0"), ("fact", "u-f1")]
        assert (report.facts.created, report.facts.refused) == (2, 2)
        # What judged one of them does not come without it.
        assert [each.type for each in report.conflicts[2:]] == ["feedback"]
        assert [fact.text for fact in (await other.client.facts("u", key="x")).items] == ["own"]
        assert (await other.client.check()).clean


async def test_imported_facts_are_recalled(alone: RunningMemory, tmp_path: Path) -> None:
    await fill(alone)
    data = await export(alone.client)
    async with running_memory(tmp_path / "other") as other:
        await take_in(other.client, data)

        for running in (alone, other):
            found = await running.client.recall("spelt", user_id="u", kinds=["fact"])
            assert [item.text for item in found.items] == ["spelt"]


async def test_a_session_that_went_on_is_left_as_it_is_and_one_that_differs_is_refused(alone: RunningMemory) -> None:
    await fill(alone)
    data = await export(alone.client)
    await alone.client.append("u-a", [{"id": "later", "role": "user", "content": "and on"}])
    await alone.client.erase_session("u-b")
    await alone.client.append("u-b", [{"id": "t0", "role": "user", "content": "another beginning"}], user_id="u")

    report = await take_in(alone.client, data)

    assert (report.sessions.unchanged, report.sessions.refused, report.turns.refused) == (1, 1, 12)
    assert [(each.type, each.id if each.type == "session" else "") for each in report.conflicts] == [
        ("session", "u-b"),
        ("feedback", ""),
    ]
    assert (await alone.client.session("u-a")).turns == 13
    assert [turn.content for turn in (await alone.client.turns("u-b")).items] == ["another beginning"]


async def test_an_export_is_of_one_user_and_nobody_else(alone: RunningMemory) -> None:
    await fill(alone, "u")
    await fill(alone, "v")

    of_one, of_all = lines(await export(alone.client, "v")), lines(await export(alone.client, None))

    assert {record["id"] for record in of_one if record["type"] == "session"} == {"v-a", "v-b"}
    assert {record["user_id"] for record in of_one if record["type"] == "fact"} == {"v"}
    assert len([record for record in of_all if record["type"] == "session"]) == 4
    assert lines(await export(alone.client, "nobody"))[-1] == {
        "type": "end", "sessions": 0, "turns": 0, "spans": 0, "facts": 0
    }  # fmt: skip
    with pytest.raises(InvalidFields, match="either user_id or everything"):
        await anext(alone.client.export_bytes())
    with pytest.raises(InvalidFields, match="either user_id or everything"):
        await anext(alone.client.export_bytes(user_id="u", everything=True))


async def test_tenants_do_not_see_each_other_and_the_whole_needs_an_administrator(tmp_path: Path) -> None:
    ours = await make_key(tmp_path, "one")
    theirs = await make_key(tmp_path, "two", "memory:read", "memory:write", "admin")
    async with running_memory(tmp_path, key=ours) as running, running_memory(tmp_path / "x") as other:
        await running.client.append("s", [{"id": "t", "role": "user", "content": "ours"}], user_id="u")
        with pytest.raises(Forbidden):
            await export(running.client, None)
        data = await export(running.client)
        async with raw_session(running.url) as raw:
            response = await raw.get("/v1/export?everything=true", headers={"Authorization": f"Bearer {theirs}"})
            assert lines(await response.read())[-1]["sessions"] == 0
            posted = await raw.post(
                "/v1/import",
                data=data,
                headers={"Authorization": f"Bearer {theirs}", "Content-Type": NDJSON},
            )
            assert (await posted.json())["sessions"]["created"] == 1
        assert (await take_in(other.client, data)).sessions.created == 1
        assert await export(running.client) == data


async def test_a_writer_goes_on_during_an_export_and_is_not_in_it(alone: RunningMemory) -> None:
    await fill(alone, words="word " * 4000)
    stream = alone.client.export_bytes(user_id="u")
    first = await anext(stream)
    await alone.client.append("u-b", [{"id": "late", "role": "user", "content": "late"}])
    data = first + b"".join([part async for part in stream])

    assert "late" not in [record["id"] for record in lines(data) if record["type"] == "turn"]
    assert lines(data)[-1]["turns"] == 24


def _changed(records: list[dict[str, Any]], number: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**record, **fields} if place == number else record for place, record in enumerate(records, start=1)]


@pytest.mark.parametrize(
    ("number", "fields", "message"),
    [
        (1, {"version": 2}, r"record 1: \$\.version: version 2 is not known here"),
        (1, {"type": "other"}, r"record 1: \$\.type: a stream has one header"),
        (2, {"policy": {"tail_tokens_max": 1}}, r"record 2: \$\.policy\.tail_tokens_max"),
        (2, {"policy": {"tail_tokens_max": 300, "tail_tokens_keep": 400}}, r"record 2: \$\.policy\.tail_tokens_keep"),
        (3, {"role": "robot"}, r"record 3: \$\.role"),
        (3, {"unknown": 1}, r"record 3: .*unknown"),
        (3, {"content": "x" * 1_000_001}, r"record 3: \$\.content: 1000001 characters"),
        (4, {"seq": 1}, r"record 4: \$\.seq: turns come in order"),
        (4, {"session_id": "other"}, r"record 4: \$\.session_id: turns and spans follow their own session"),
        (4, {"vector": [1.0]}, r"record 4: \$\.vector: the header says that there are no vectors"),
        (-1, {"turns": 23}, r"record \d+: \$\.turns: says 23, and 24 came before"),
    ],
)
async def test_bad_input_names_the_record_and_the_field_and_changes_nothing(
    alone: RunningMemory, number: int, fields: dict[str, Any], message: str
) -> None:
    await fill(alone)
    good = lines(await export(alone.client))
    await erase(alone)
    place = number if number > 0 else len(good)
    bad = joined(_changed(good, place, **fields))

    with pytest.raises(InvalidFields, match=message) as caught:
        await take_in(alone.client, bad)

    assert caught.value.errors[0].path.startswith(f"$[{place}]")
    assert lines(await export(alone.client))[-1]["sessions"] == 0


@BOTH
async def test_a_stream_that_was_cut_off_changes_nothing(alone: RunningMemory, media: str) -> None:
    await fill(alone)
    data = await export(alone.client, media=media)
    await erase(alone)

    for length in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(Malformed):
            await take_in(alone.client, data[:length], media=media)
    with pytest.raises(Malformed, match="comes after the end"):
        await take_in(alone.client, data + data, media=media)

    assert lines(await export(alone.client))[-1]["sessions"] == 0


async def test_what_is_no_stream_of_records_is_refused(alone: RunningMemory) -> None:
    with pytest.raises(Malformed, match=r"record 1: it is not valid JSON"):
        await take_in(alone.client, b"{nothing\n")
    with pytest.raises(Malformed, match=r"record 1: it is not valid MessagePack"):
        await take_in(alone.client, b"\xc1", media=MSGPACK)
    with pytest.raises(ServiceError, match="is no stream of records"):
        await take_in(alone.client, b"{}", media="application/json")
    with pytest.raises(InvalidFields, match="record 1"):
        await take_in(alone.client, msgpack.packb([1]), media=MSGPACK)


async def test_spans_that_do_not_fit_their_turns_are_refused_with_their_session(alone: RunningMemory) -> None:
    await fill(alone)
    good = lines(await export(alone.client))
    await erase(alone)
    (span, *_) = [place for place, record in enumerate(good, start=1) if record["type"] == "span"]

    for fields, message in (
        ({"source_hash": "0" * 64}, "was made from other turns"),
        ({"last_seq": 11}, "its spans do not fit its turns"),
        ({"parent_id": "nobody"}, "stands in 'nobody', which is not there"),
    ):
        report = await take_in(alone.client, joined(_changed(good, span, **fields)))
        assert message in report.conflicts[0].message
        assert report.conflicts[0].id == "u-a"
        await erase(alone)


async def test_records_and_streams_have_limits(tmp_path: Path) -> None:
    async with running_memory(tmp_path, import_record_bytes_max=2000, import_bytes_max=6000) as running:
        await fill(running)
        data = await export(running.client)
        await erase(running)
        with pytest.raises(TooLarge, match="import_bytes_max"):
            await take_in(running.client, data)
        with pytest.raises(TooLarge, match="import_record_bytes_max"):
            await take_in(running.client, b"x" * 2500)
        assert lines(await export(running.client))[-1]["sessions"] == 0


async def _until_filled(running: RunningMemory) -> None:
    async def is_filled() -> bool:
        return not (await running.client.check()).checked["pending"]

    await until(is_filled)


async def test_vectors_that_come_along_are_used_where_the_model_is_the_same(
    memory: RunningMemory, retrieval: RunningRetrieval, tmp_path: Path
) -> None:
    await fill(memory)
    await _until_filled(memory)
    data = await export(memory.client, vectors=True)
    before = len(retrieval.embedder.embedded)

    async with running_memory(tmp_path / "other", retrieval_url=retrieval.url) as other:
        report = await take_in(other.client, data)
        await _until_filled(other)
        assert await export(other.client, vectors=True) == data
        assert (report.vectors, len(retrieval.embedder.embedded) - before) == (
            24 + report.spans.created + report.facts.created,
            0,
        )
        found = await other.client.recall("assistant 3", user_id="u")
        assert not found.degraded
        assert found.items[0].scores.dense is not None
        assert (await other.client.check()).clean


@pytest.mark.parametrize(
    ("embedder", "header"),
    [
        (HashEmbedder(name="another"), {}),
        (HashEmbedder(dimensions=32), {}),
        (HashEmbedder(), {"embed_text": "an older version"}),
    ],
    ids=["another model", "another length", "another text"],
)
async def test_vectors_are_made_anew_where_they_would_be_others(
    memory: RunningMemory, tmp_path: Path, embedder: HashEmbedder, header: dict[str, Any]
) -> None:
    await fill(memory)
    await _until_filled(memory)
    data = joined(_changed(lines(await export(memory.client, vectors=True)), 1, **header))

    async with (
        running_retrieval(tmp_path / "r", embedder=embedder) as retrieval,
        running_memory(tmp_path / "m", retrieval_url=retrieval.url) as other,
    ):
        report = await take_in(other.client, data)
        await _until_filled(other)
        assert (report.vectors, len(embedder.embedded)) == (0, 24 + report.spans.created + report.facts.created)
        assert (await other.client.check()).clean
        assert (await other.client.recall("assistant 3", user_id="u")).items[0].scores.dense is not None


async def test_without_retrieval_the_vectors_that_came_along_serve(memory: RunningMemory, tmp_path: Path) -> None:
    await fill(memory)
    await _until_filled(memory)
    data = await export(memory.client, vectors=True)

    async with running_memory(tmp_path / "other") as other:
        report = await take_in(other.client, data)
        assert report.vectors == 24 + report.spans.created + report.facts.created
        assert await export(other.client, vectors=True) == data


async def test_no_more_than_a_few_transfers_go_on_at_once(tmp_path: Path) -> None:
    async with running_memory(tmp_path, transfers_in_flight_max=1) as running:
        # More than the sockets between take, so that the export waits for its reader.
        await running.client.put_session("s", SessionSpec(user_id="u", policy=Policy(tail_tokens_max=10_000_000)))
        for number in range(10):
            await running.client.append("s", [{"id": str(number), "role": "user", "content": "x" * 900_000}])
        stream = running.client.export_bytes(user_id="u")
        await anext(stream)
        with pytest.raises(Overloaded, match="transfers_in_flight_max"):
            await export(running.client)
        await stream.aclose()

        async def is_free() -> bool:
            try:
                return bool(lines(await export(running.client))[-1]["turns"] == 10)
            except Overloaded:
                return False

        await until(is_free)


async def test_what_was_forgotten_before_an_export_stays_forgotten_and_leaves_its_gap(alone: RunningMemory) -> None:
    await fill(alone)
    await alone.client.put_session("u-b", SessionSpec(retention=Retention(days_max=900)))
    for session in ("u-a", "u-b"):
        await alone.client.forget(session_id=session, ids=["t0", "t4", "t5"], dry_run=False)
    data = await export(alone.client)
    await erase(alone)

    assert (await take_in(alone.client, data)).conflicts == []

    assert await export(alone.client) == data
    assert [turn.seq for turn in (await alone.client.turns("u-b")).items] == [2, 3, 4, 7, 8, 9, 10, 11, 12]
    assert (await alone.client.append("u-b", [{"role": "user", "content": "on"}])).turns[0].seq == 13
    assert (await alone.client.check()).clean
