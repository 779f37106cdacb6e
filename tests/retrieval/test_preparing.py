"""A prepared document: what the model reads fits its window, and says what the text alone does not."""

import re
from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.chunks.parsing import parse
from retrieval.chunks.preparing import content_hash, prepare
from retrieval.truth.records import PreparedDocument
from shared.retrieval_messages import Chunking, DocumentIn
from tests.retrieval.test_chunking import KINDS, markdown, starts

TABLE = "# Parts\n\n| name | size |\n|---|---|\n" + "\n".join(f"| part{n} | {n} mm |" for n in range(30))


def prepared(text: str, *, tokens_max: int, kind: str = "text/markdown", title: str | None = None) -> PreparedDocument:
    return prepare(
        DocumentIn(id="d", text=text, content_type=kind, title=title),
        parse(text, kind),
        Chunking(max_tokens=tokens_max),
        token_starts=starts,
        model_tokens_max=200,
    )


def fickle(text: str) -> Sequence[int]:
    """Tokens of three characters from a word's start, so that a cut word is other tokens than it was in the whole."""
    return [at for word in re.finditer(r"\S+", text) for at in range(word.start(), word.end(), 3)]


@settings(deadline=None)
@given(markdown, st.integers(16, 300), KINDS, st.sampled_from([None, "", "A title of five words", "long " * 40]))
def test_what_the_model_reads_never_exceeds_the_limit(text: str, limit: int, kind: str, title: str | None) -> None:
    document = prepared(text, tokens_max=limit, kind=kind, title=title)

    for piece in document.pieces:
        assert len(starts(piece.embed_text)) <= min(limit, 200)
        assert piece.embed_text.endswith(piece.text)
        assert document.text[piece.start : piece.end] == piece.text
        assert piece.context in document.text[: piece.start]


@settings(deadline=None)
@given(st.text(alphabet="abc d.\n", max_size=300), st.integers(16, 40))
def test_the_limit_holds_for_tokenizers_that_read_a_part_otherwise_than_the_whole(text: str, limit: int) -> None:
    document = prepare(
        DocumentIn(id="d", text=text, title="one two"),
        parse(text, "text/plain"),
        Chunking(max_tokens=limit),
        token_starts=fickle,
        model_tokens_max=512,
    )

    assert all(len(fickle(piece.embed_text)) <= limit for piece in document.pieces)


def test_every_part_of_a_table_is_read_under_its_headings_and_header() -> None:
    first, *rest = prepared(TABLE, tokens_max=64).pieces

    assert first.context == ""
    assert first.embed_text.startswith("Parts\n# Parts\n\n| name | size |\n|---|---|\n| part0 | 0 mm |")
    assert len(rest) > 1
    for piece in rest:
        assert piece.context == "| name | size |"
        assert piece.text.startswith("| part")
        assert piece.embed_text == f"Parts\n| name | size |\n{piece.text}"


def test_short_headings_leave_their_room_to_the_text() -> None:
    words = " ".join(f"word{n}" for n in range(100))

    assert len(prepared(words, tokens_max=100, kind="text/plain").pieces) == 1
    assert len(prepared(words, tokens_max=100, kind="text/plain", title="Title").pieces) == 2


def test_another_pipeline_or_chunking_is_another_content() -> None:
    document = DocumentIn(id="d", text="x")

    assert content_hash(document, Chunking()) == content_hash(document, Chunking())
    assert content_hash(document, Chunking()) != content_hash(document, Chunking(max_tokens=64))
    assert content_hash(document, Chunking()) != content_hash(msgspec.structs.replace(document, title="y"), Chunking())
