"""Which files a path means, and what they are called: the same each time, so that ingesting again finds them again."""

from pathlib import Path

import pytest

from diptych.files import Selection, SourceFile, select_files
from shared.content_types import SUFFIXES
from shared.errors import SettingsError

FILES = {
    "docs/a.md": "# A",
    "docs/b.txt": "B",
    "docs/image.png": "",
    "docs/deep/er/c.html": "<p>C</p>",
    "docs/.hidden.md": "no",
    "docs/.git/config.txt": "no",
    "docs/deep/.cache/d.md": "no",
    "notes.md": "N",
    "Makefile": "",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the command runs."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids(selection: Selection) -> list[str]:
    return [file.document_id for file in selection.files]


def test_a_folder_is_read_with_everything_below_it(folder: Path) -> None:
    found = select_files(["docs"])

    assert ids(found) == ["docs/a.md", "docs/b.txt", "docs/deep/er/c.html"]
    assert [file.content_type for file in found.files] == ["text/markdown", "text/plain", "text/html"]
    assert [(folder / file.path).read_text(encoding="utf-8") for file in found.files] == ["# A", "B", "<p>C</p>"]


def test_files_of_other_kinds_are_counted_and_hidden_ones_are_not(folder: Path) -> None:
    assert [path.name for path in select_files([str(folder)]).skipped] == ["image.png"]


def test_what_tools_wrote_is_left_out(tmp_path: Path) -> None:
    for name in (
        "a.py",
        "node_modules/b.js",
        "__pycache__/c.py",
        "env/pyvenv.cfg",
        "env/d.py",
        "e.min.js",
        "package-lock.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "round").symlink_to(tmp_path)

    assert select_files([str(tmp_path)]) == Selection(
        [SourceFile(tmp_path / "a.py", f"{tmp_path.name}/a.py", "text/x-source")], []
    )


def test_ids_are_the_same_wherever_the_folder_is_named_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relative = ids(select_files(["docs"]))

    assert ids(select_files(["./docs/"])) == relative
    assert ids(select_files([str(folder / "docs")])) == relative
    monkeypatch.chdir(folder / "docs")
    assert ids(select_files(["."])) == relative
    assert ids(select_files(["../docs"])) == relative


def test_ids_do_not_depend_on_the_order_of_the_file_system(folder: Path) -> None:
    (folder / "docs" / "0.md").write_text("0", encoding="utf-8")

    assert ids(select_files(["docs"])) == ["docs/0.md", "docs/a.md", "docs/b.txt", "docs/deep/er/c.html"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("docs/*.md", ["docs/a.md"]),
        ("docs/?.*", ["docs/a.md", "docs/b.txt"]),
        ("*.md", ["notes.md"]),
        ("docs/**/*.html", ["docs/deep/er/c.html"]),
        ("docs/**", ["docs/a.md", "docs/b.txt", "docs/deep/er/c.html"]),
        ("**/*.md", ["docs/a.md", "notes.md"]),
    ],
)
def test_a_pattern_means_what_it_matches_once(folder: Path, pattern: str, expected: list[str]) -> None:
    assert ids(select_files([pattern])) == expected
    assert ids(select_files([str(folder / "docs" / "*.md")])) == ["a.md"]


def test_a_folder_that_a_pattern_matches_is_read_like_one_that_was_named(folder: Path) -> None:
    assert folder.is_dir()
    assert ids(select_files(["docs/d*"])) == ids(select_files(["docs/deep"])) == ["deep/er/c.html"]


def test_a_file_may_be_named_itself_even_a_hidden_one(folder: Path) -> None:
    assert ids(select_files(["docs/a.md", "notes.md", "docs/.hidden.md"])) == [
        "docs/a.md",
        "notes.md",
        "docs/.hidden.md",
    ]
    assert ids(select_files([str(folder / "docs" / "a.md")])) == ["a.md"]


def test_a_name_with_the_signs_of_a_pattern_is_a_name_first(folder: Path) -> None:
    (folder / "[a].md").write_text("x", encoding="utf-8")

    assert ids(select_files(["[a].md"])) == ["[a].md"]


def test_the_same_file_named_twice_is_taken_once(folder: Path) -> None:
    assert ids(select_files(["docs", "docs/a.md", str(folder / "docs")])) == [
        "docs/a.md",
        "docs/b.txt",
        "docs/deep/er/c.html",
    ]


def test_two_files_that_would_be_one_document_are_refused(folder: Path) -> None:
    other = folder / "other" / "docs"
    other.mkdir(parents=True)
    (other / "a.md").write_text("another A", encoding="utf-8")

    with pytest.raises(SettingsError, match="would both be the document 'docs/a") as caught:
        select_files(["docs", str(other)])

    assert str(other / "a.md") in str(caught.value)


@pytest.mark.parametrize("missing", ["nowhere", "nowhere.md", "docs/*.pdf", "docs/**/*.pdf", ""])
def test_what_means_nothing_is_refused_by_its_name(folder: Path, missing: str) -> None:
    assert folder.is_dir()
    with pytest.raises(FileNotFoundError) as caught:
        select_files(["docs", missing])

    assert str(caught.value) == missing


def test_a_folder_without_documents_selects_nothing(tmp_path: Path) -> None:
    assert select_files([str(tmp_path)]) == Selection([], [])


def test_the_ending_of_a_name_tells_its_kind_in_any_case(tmp_path: Path) -> None:
    for ending in SUFFIXES:
        (tmp_path / f"x{ending.upper()}").write_text("x", encoding="utf-8")

    found = select_files([str(tmp_path)])

    assert {file.path.suffix.lower(): file.content_type for file in found.files} == SUFFIXES


def test_a_link_to_nowhere_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "link.md").symlink_to(tmp_path / "gone.md")

    assert select_files([str(tmp_path)]) == Selection([], [])
