"""What the lexical index finds in text: identifiers, scripts without spaces, languages, with real tantivy."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.indexes.analysis import STEMMERS, searchable
from retrieval.indexes.lexical import LexicalIndex
from retrieval.truth.records import ChunkTexts, TextChanges
from shared.retrieval_messages import Language
from tests.shared.strategies import PROPERTY

LANGUAGES: tuple[Language, ...] = get_args(Language)


def index_of(directory: Path, texts: list[str], language: Language = "en") -> LexicalIndex:
    index = LexicalIndex(directory, language)
    index.apply(TextChanges(1, [ChunkTexts(key, "", "", text) for key, text in enumerate(texts)], []))
    return index


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("plain words, nothing more.", []),
        ("Title Case and UPPER", []),
        ("parseHttpHeader", ["parse", "Http", "Header"]),
        ("HTTPServer", ["HTTP", "Server"]),
        ("parse_http_header", ["parsehttpheader"]),
        ("__init__", []),
        ("my_module.myFunc", ["my", "Func", "mymodule", "mymodulemyFunc"]),
        ("os.path.join(root)", ["ospathjoin"]),
        ("src/utils/io.py", ["srcutilsiopy"]),
        ("std::vector", ["stdvector"]),
        ("p53", ["p", "53"]),
        ("well-known", []),
        ("end. Start", []),
    ],
)
def test_identifiers_get_their_parts_and_their_whole(text: str, added: list[str]) -> None:
    extended = searchable(text, role="chunk")

    assert extended.startswith(text)
    assert sorted(added) == sorted(extended[len(text) :].split())


@pytest.mark.parametrize(
    ("text", "chunk", "query"),
    [
        ("中国人", "中 国 人 中国 国人", "中国 国人"),
        ("中", "中", "中"),
        ("ｶﾀｶﾅ", "カ タ カ ナ カタ タカ カナ", "カタ タカ カナ"),
        ("한국어 책", "한 국 어 한국 국어 책", "한국 국어 책"),
        ("use 中国 now", "use 中 国 中国 now", "use 中国 now"),
    ],
)
def test_text_without_spaces_becomes_characters_and_pairs(text: str, chunk: str, query: str) -> None:
    assert chunk.split() == searchable(text, role="chunk").split()
    assert query.split() == searchable(text, role="query").split()


@given(st.text(max_size=300))
@PROPERTY
def test_any_text_keeps_its_words_and_grows_linearly(text: str) -> None:
    extended = searchable(text, role="chunk")

    assert len(extended) <= 64 * len(text) + 1
    if text.isascii():
        assert extended.startswith(text)


@pytest.mark.parametrize(
    "query",
    ["parse_http_header", "parseHttpHeader", "parse http header", "header", "ParseHTTPHeader", "parsehttpheader"],
)
@pytest.mark.parametrize("written", ["def parse_http_header(raw):", "parseHttpHeader(raw)"])
def test_an_identifier_is_found_however_it_is_written(tmp_path: Path, query: str, written: str) -> None:
    index = index_of(tmp_path, ["nothing of that kind", written, "raw data"])

    assert list(index.search(query, 10)) == [1]


def test_the_exact_identifier_comes_before_texts_with_its_parts(tmp_path: Path) -> None:
    parts = "get the user and get the name of the user: name, user name"
    index = index_of(tmp_path, [parts, "def get_user_name(): pass", "def get_user_mail(): pass"])

    assert next(iter(index.search("get_user_name", 10))) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_chinese_japanese_and_korean_are_found_by_substring_in_every_language(
    tmp_path: Path, language: Language
) -> None:
    texts = ["中华人民共和国", "東京都の天気予報です", "대한민국의 수도는 서울", "the weather in Tokyo 東京"]
    index = index_of(tmp_path, texts, language)

    found = {query: set(index.search(query, 10)) for query in ("人民", "天気予報", "민국", "京", "東京", "国华")}

    assert found == {"人民": {0}, "天気予報": {1}, "민국": {2}, "京": {1, 3}, "東京": {1, 3}, "国华": set()}


@pytest.mark.parametrize(
    ("language", "text", "query", "is_found"),
    [
        ("en", "the horses were running", "horse run", True),
        ("none", "the horses were running", "horse run", False),
        ("de", "die Häuser der Stadt", "Haus", True),
        ("none", "die Häuser der Stadt", "Haus", False),
        ("de", "Straßen", "strasse", True),
        ("fr", "les chevaux nationaux", "national", True),
        ("ru", "новые книги", "книга", True),
        ("es", "las canciones", "cancion", True),
        ("zh", "horses", "horse", False),
        ("none", "Café", "CAFE", True),
    ],
)
def test_words_are_stemmed_in_the_collections_language(
    tmp_path: Path, language: Language, text: str, query: str, *, is_found: bool
) -> None:
    assert is_found == bool(index_of(tmp_path, [text], language).search(query, 10))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_exact_word_is_found_in_every_language(tmp_path: Path, language: Language) -> None:
    words = ["Häuser", "running", "канцелярия", "naïveté", "ευχαριστώ", "çocuklar", "kitab", "x86_64", "ship", "ships"]
    index = index_of(tmp_path, words, language)

    assert [word for key, word in enumerate(words) if key not in index.search(word, 20)] == []


@pytest.mark.parametrize("language", ["en", "de", "none"])
def test_a_query_of_function_words_alone_still_finds_them(tmp_path: Path, language: Language) -> None:
    index = index_of(tmp_path, ["to be or not to be", "what have you", "wer die ist und was", "other text"], language)

    assert 0 in index.search("to be or not to be", 10)
    assert 1 in index.search("what have you", 10)
    assert 2 in index.search("wer die ist und was", 10)


def test_question_words_do_not_choose_what_is_found(tmp_path: Path) -> None:
    index = index_of(tmp_path, ["how what why which", "rotating keys"])

    assert {1} == index.search("How do I rotate what key?", 10).keys()


def test_every_named_stemmer_exists(tmp_path: Path) -> None:
    assert STEMMERS.keys() <= set(LANGUAGES)
    for language in LANGUAGES:
        assert index_of(tmp_path, ["word"], language).search("word", 1)


def test_scores_of_given_chunks_are_those_of_a_search(tmp_path: Path) -> None:
    index = index_of(tmp_path, ["red fox", "red red hen", "blue hen", "a red hen and a fox", ""])

    found = index.search("red hen of mars", 10)

    assert pytest.approx(found) == index.score("red hen of mars", list(found))
    assert index.score("red hen", [2, 4, 77]) == {2: pytest.approx(index.search("red hen", 10)[2]), 4: 0.0, 77: 0.0}
    assert index.score("zebra", [1]) == {1: 0.0}
    assert index.score("?!", [1]) == {1: 0.0}
    assert index.score("red", []) == {}


def test_no_score_reaches_the_ceiling_and_unknown_words_raise_it(tmp_path: Path) -> None:
    index = index_of(tmp_path, ["fox", "fox " * 500, "hen and dog", "dog"])

    ceiling = index.ceiling("fox")

    assert 0.5 * ceiling < max(index.search("fox", 10).values()) < ceiling
    assert index.ceiling("fox zebra") > 2 * ceiling
    assert index.ceiling("?") == 0.0


def test_a_title_counts_more_than_the_text(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path, "en")
    index.apply(TextChanges(1, [ChunkTexts(1, "", "", "keys locks"), ChunkTexts(2, "keys", "", "locks")], []))

    scores = index.search("keys", 10)

    assert scores[2] > scores[1]
