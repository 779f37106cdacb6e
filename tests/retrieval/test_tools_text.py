"""What agents read: both channels say the same, each within its budget; and names that are read as what they were given for."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from retrieval.agents.messages import DocumentsRead, SearchFound
from retrieval.agents.names import Place, ids_in, name_of, names_to_check, place_of, places_of
from retrieval.agents.passages import Passage, told_passages
from retrieval.agents.reading import Opened, told_documents
from shared.mcp.budget import CHARACTERS_MAX
from shared.mcp.catalogue import Told
from shared.retrieval_messages import Document, Hit, LegScores
from shared.tokens import estimate_tokens
from tests.shared.strategies import PROPERTY

LETTERS = st.characters(exclude_categories=["Cs", "Cc"])
IDS = st.text(LETTERS, min_size=1, max_size=16)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=600),
    # Escaped on one channel, three bytes each on both.
    st.sampled_from(['"\n' * 3000, "語" * 20_000, "word " * 9000, "\\" * 700]),
)
METADATA = st.dictionaries(st.text(LETTERS, max_size=8), st.text(LETTERS, max_size=200) | st.integers(), max_size=6)


@st.composite
def hits(draw: st.DrawFn) -> Hit:
    return Hit(
        chunk_id=1,
        document_id=draw(IDS),
        collection=draw(IDS),
        score=draw(st.floats(0, 1)),
        scores=LegScores(),
        text=draw(TEXTS),
        title=draw(st.text(LETTERS, max_size=200)),
        uri="",
        headings=draw(st.lists(st.text(LETTERS, max_size=200), max_size=3)),
        start=draw(st.integers(0, 10**6)),
        end=10**6,
        metadata=draw(METADATA),
        context=draw(st.none() | st.text(LETTERS, min_size=1, max_size=40)),
        is_cut=draw(st.booleans()),
    )


def check_budget(told: Told, max_tokens: int) -> None:
    fields = msgspec.json.encode(told.facts).decode()
    for channel in (told.text, fields):
        assert estimate_tokens(channel) <= max_tokens
        assert len(channel) <= CHARACTERS_MAX


@PROPERTY
@given(
    st.lists(hits(), min_size=1, max_size=6),
    st.text(LETTERS, min_size=1, max_size=300),
    st.sampled_from([None, "999999-0123456789abcdef"]),
    st.sampled_from(["concise", "detailed"]),
    st.integers(200, 20_000),
)
def test_a_search_is_told_alike_on_both_channels_and_within_its_budget(
    found: list[Hit], query: str, next_cursor: str | None, detail: Literal["concise", "detailed"], max_tokens: int
) -> None:
    passages = [Passage(hit, f"{hit.document_id}#{hit.start}") for hit in found]

    told, packed = told_passages(
        passages,
        document=found[0].document_id,
        query=query,
        mode="hybrid",
        next_cursor=next_cursor,
        with_metadata=detail == "detailed",
        max_tokens=max_tokens,
    )

    check_budget(told, max_tokens)
    facts = told.facts
    assert isinstance(facts, SearchFound)
    assert facts.hits
    assert len(facts.hits) + packed.left_out == len(found)
    assert facts.more is (next_cursor is not None)
    for passage, shown in zip(passages, facts.hits, strict=False):
        assert shown.id == passage.name
        assert told.text.index(f"(id {shown.id}, score {shown.score:g}") >= 0
        for said in (shown.title, shown.text, shown.uri, facts.hint, next_cursor):
            assert said is None or said in told.text
        if shown.metadata:
            assert msgspec.json.encode(shown.metadata).decode() in told.text
        whole = f"{passage.hit.context}\n{passage.hit.text}" if passage.hit.context else passage.hit.text
        assert shown.text in (whole, f"{whole}…") or whole.startswith(shown.text.removesuffix("…"))
        assert shown.text.endswith("…") or shown.text == whole


def document(text: str, *, document_id: str = "a", title: str = "") -> Document:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    details: dict[str, Any] = {"uri": "", "content_type": "text/plain", "metadata": {}, "chunks": 0, "passages": []}
    return Document(
        id=document_id,
        collection="c",
        title=title,
        characters=len(text),
        created_at=now,
        updated_at=now,
        text=text,
        **details,
    )


@PROPERTY
@given(
    st.lists(st.tuples(IDS, st.text(LETTERS, max_size=300), TEXTS, st.floats(0, 1)), max_size=10),
    st.lists(st.text(LETTERS, min_size=1, max_size=300), max_size=10),
    st.integers(500, 20_000),
)
def test_documents_are_told_alike_on_both_channels_and_within_their_budget(
    given_documents: Sequence[tuple[str, str, str, float]], missing: list[str], max_tokens: int
) -> None:
    opened = [
        Opened(document=document(text, document_id=name, title=title), name=name, start=int(len(text) * place))
        for name, title, text, place in given_documents
    ]
    missing = missing[: 10 - len(opened)]

    told = told_documents(opened, missing, max_tokens=max_tokens)

    check_budget(told, max_tokens)
    facts = told.facts
    assert isinstance(facts, DocumentsRead)
    assert bool(facts.documents) is bool(opened)
    assert len(facts.missing) == len(missing)
    assert all(name in told.text for name in facts.missing)
    assert facts.hint is None or facts.hint in told.text
    for each, shown in zip(opened, facts.documents, strict=False):
        text = each.document.text
        assert shown.text == text[shown.start : shown.end]
        assert (shown.start, shown.length) == (each.start, len(text))
        assert shown.next_start == (shown.end if shown.end < len(text) else None)
        for said in (
            f"(id {shown.id}, characters {shown.start} to {shown.end} of {shown.length}",
            shown.title,
            shown.text,
        ):
            assert said in told.text
    if sum(len(each.document.text) for each in opened) * 4 < max_tokens and max_tokens > 5000:
        assert len(facts.documents) == len(opened)
        assert all(shown.next_start is None for shown in facts.documents)


def test_a_document_is_always_read_on_by_something() -> None:
    """Or an agent that follows `next_start` would never end."""
    told = told_documents([Opened(document=document("語" * 5000), name="a", start=0)], [], max_tokens=500)

    assert isinstance(told.facts, DocumentsRead)
    assert told.facts.documents[0].end > 100


# Names that can be mistaken for each other.
ODD = st.text(st.sampled_from("ab/#1:%"), min_size=1, max_size=6) | st.sampled_from(
    ["doc://a/b", "doc://a/b#1", "a#1", "a/b", "a/b#1", "b"]
)
STORED = st.lists(st.tuples(st.text(st.sampled_from("ab/"), min_size=1, max_size=3), ODD), min_size=1, max_size=8)


def holders_of(stored: list[tuple[str, str]], wanted: list[str]) -> dict[str, list[str]]:
    """What the service answers when it is asked where documents of these ids are."""
    found: dict[str, list[str]] = {}
    for collection, document_id in sorted(set(stored)):
        if document_id in wanted:
            found.setdefault(document_id, []).append(collection)
    return found


@PROPERTY
@given(STORED, st.data())
def test_a_name_is_read_as_what_it_was_given_for(stored: list[tuple[str, str]], data: st.DataObject) -> None:
    collection, document_id = data.draw(st.sampled_from(stored))
    place = Place(collection, document_id, data.draw(st.none() | st.integers(0, 20)))

    name = name_of(place, holders_of(stored, ids_in(names_to_check(place))))

    assert places_of(name, holders_of(stored, ids_in([name]))) == [place]
    if "/" not in collection and not any(character in each for _, each in stored for character in "/#:%"):
        assert len(name) <= len(f"{collection}/{document_id}#20")


@PROPERTY
@given(STORED, ODD)
def test_a_name_that_nothing_fits_is_nothing(stored: list[tuple[str, str]], name: str) -> None:
    holders = holders_of(stored, ids_in([name]))

    for place in places_of(name, holders):
        assert (place.collection, place.document_id) in stored
    if not places_of(name, holders):
        assert place_of(name, holders) is None
        assert all(document_id != name for _, document_id in stored)
