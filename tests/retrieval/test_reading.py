"""Answers packed to a budget, at a running service: exact ranges, merged, with what their text continues."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlite_utils

from retrieval.truth.schema import migrations
from shared.retrieval_messages import Chunking, CollectionSpec, Hit
from shared.tokens import estimate_tokens
from tests.harness import RunningRetrieval, running_retrieval

_STORIES = "\n\n".join(
    f"Story {n} tells of {word} and of nothing else." for n, word in enumerate(["bees", "cats", "dogs"])
)
_ROWS = "\n".join(f"| bolt{n} | {n} mm |" for n in range(12))
TEXT = f"# Tales\n\n{_STORIES}\n\n# Parts\n\n| fastener | diameter |\n|---|---|\n{_ROWS}\n"


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as running:
        await running.client.put_collection("docs", CollectionSpec(chunking=Chunking(max_tokens=32)))
        await running.client.ingest("docs", [{"id": "a", "text": TEXT, "content_type": "text/markdown"}])
        yield running


def cost(hits: list[Hit]) -> int:
    return sum(estimate_tokens(hit.text) + estimate_tokens(hit.context or "") for hit in hits)


@pytest.mark.parametrize("budget", [1, 5, 12, 20, 40, 80, 1000])
async def test_passages_are_exact_ranges_within_the_budget_and_repeat_nothing(
    filled: RunningRetrieval, budget: int
) -> None:
    document = await filled.client.document("docs", "a")

    answer = await filled.client.search("cats bolt7", limit=5, max_tokens=budget)

    assert answer.hits
    assert cost(answer.hits) <= budget
    taken: set[int] = set()
    for hit in answer.hits:
        assert document.text[hit.start : hit.end] == hit.text
        assert not taken & set(range(hit.start, hit.end))
        taken |= set(range(hit.start, hit.end))
        assert hit.chunk_ids is not None
        assert hit.chunk_ids[0] == hit.chunk_id


async def test_a_hit_is_read_with_its_section_and_not_with_the_next_one(filled: RunningRetrieval) -> None:
    plain = await filled.client.search("dogs", mode="lexical")
    packed = await filled.client.search("dogs", mode="lexical", max_tokens=1000)

    assert [hit.text for hit in plain.hits] == ["Story 2 tells of dogs and of nothing else."]
    assert plain.hits[0].chunk_ids is None
    assert [hit.text for hit in packed.hits] == [f"# Tales\n\n{_STORIES}"]
    assert packed.hits[0].chunk_id == plain.hits[0].chunk_id
    assert packed.hits[0].score == plain.hits[0].score


async def test_a_part_of_a_table_is_found_by_its_header_and_says_it(filled: RunningRetrieval) -> None:
    document = await filled.client.document("docs", "a")
    parts = [passage for passage in document.passages if "bolt" in passage.text]
    assert len(parts) > 2
    assert [part.context for part in parts] == [None] + ["| fastener | diameter |"] * (len(parts) - 1)

    answer = await filled.client.search("diameter", mode="lexical")

    assert {hit.chunk_id for hit in answer.hits} == {part.id for part in parts}
    assert {hit.chunk_id: hit.context for hit in answer.hits} == {part.id: part.context for part in parts}
    last = await filled.client.search("bolt11", mode="lexical", limit=1, max_tokens=30)
    assert [hit.context for hit in last.hits] == ["| fastener | diameter |"]


async def test_context_costs_of_the_budget_and_goes_before_the_text_is_cut(filled: RunningRetrieval) -> None:
    (whole,) = (await filled.client.search("bolt11", mode="lexical", limit=1)).hits
    assert whole.context is not None

    (without,) = (
        await filled.client.search("bolt11", mode="lexical", limit=1, max_tokens=estimate_tokens(whole.text))
    ).hits
    (cut,) = (
        await filled.client.search("bolt11", mode="lexical", limit=1, max_tokens=estimate_tokens(whole.text) - 2)
    ).hits

    assert (without.text, without.context) == (whole.text, None)
    assert whole.text.startswith(cut.text)
    assert cut.text != ""


@pytest.mark.blocking
def test_chunks_from_before_contexts_were_stored_have_none(tmp_path: Path) -> None:
    database = sqlite_utils.Database(sqlite3.connect(tmp_path / "old.db"))
    migrations.apply(database, stop_before="m008_chunk_context")
    database.execute(
        "INSERT INTO chunks (collection_id, document, ordinal, start, stop, headings, text, embed_hash) "
        "VALUES (1, 1, 0, 0, 1, '[]', 'x', x'00')"
    )

    migrations.apply(database)

    assert database.execute("SELECT text, context FROM chunks").fetchall() == [("x", "")]
    database.close()
