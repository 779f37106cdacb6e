"""What is kept of a text, by hand-made cases, and dialogues as they are read."""

from pathlib import Path

import pytest

from diptych.evaluation.dialogues import read_dialogues, sliced_dialogues
from diptych.evaluation.kept import content_words, identifiers, kept_identifiers, kept_words, rouge_scores
from shared.errors import SettingsError


def test_words_that_every_text_has_do_not_count() -> None:
    assert content_words("The bees are in the Garden, and it is Überraschung!") == {"bees", "garden", "überraschung"}
    assert kept_words({"bees", "garden"}, "Bees. Everywhere bees.") == 0.5
    assert kept_words(set(), "anything") is None


def test_identifiers_are_what_must_be_kept_letter_by_letter() -> None:
    text = (
        "We saw Ann at 16:30. Tickets cost $4.50 (ZX-4471), see src/app.py or a_name, mail ann@example.org. "
        "A well-known thing happened. I knew it: The end."
    )

    assert identifiers(text) == {
        "Ann",
        "16:30",
        "$4.50",
        "ZX-4471",
        "src/app.py",
        "a_name",
        "ann@example.org",
    }


def test_an_identifier_in_part_is_lost() -> None:
    assert kept_identifiers({"ZX-44", "Ann", "$4.50"}, "ZX-4471 was Ann's for $4.50.") == pytest.approx(2 / 3)
    assert kept_identifiers(set(), "anything") is None


def test_rouge_is_as_worked_out_by_hand() -> None:
    # Six words and four, of which three are the same, in one run of three and in pairs of two.
    scores = rouge_scores("the cat sat on the mat", "the cat sat down")

    assert scores["ROUGE-1"] == pytest.approx(2 * (3 / 4) * (3 / 6) / (3 / 4 + 3 / 6))
    assert scores["ROUGE-2"] == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert scores["ROUGE-L"] == scores["ROUGE-1"]
    assert scores["recall-1"] == 0.5


def test_dialogues_are_read_with_their_speakers(tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    file.write_text(
        '{"fname": "a", "dialogue": "#P1#: Hi: you.\\n\\nno speaker", "summary": "They meet.", "topic": "x"}\n'
        '{"dialogue": "#P1#: Hi.", "summary": "They meet again."}\n'
        '{"dialogue": "#P1#: Hi.", "summary": " "}\n'
    )
    dataset = read_dialogues(tmp_path)

    assert dataset.name == "talks"
    assert [(each.id, each.turns) for each in dataset.dialogues] == [
        ("a", [("#P1#", "Hi: you."), ("", "no speaker")]),
        ("2", [("#P1#", "Hi.")]),
    ]
    assert dataset.counts == {"dialogues": 2, "turns": 3}
    one = sliced_dialogues(dataset, dialogues_max=1)
    assert len(one.dialogues) == 1
    assert one.sha256 != dataset.sha256 == read_dialogues(file).sha256


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"neither turns\.jsonl .* \(none\)"),
        ({"a.jsonl": "", "b.jsonl": ""}, r"neither .* \(a\.jsonl, b\.jsonl\)"),
        ({"a.jsonl": ""}, "has no dialogue with a summary"),
        ({"a.jsonl": '{"dialogue": "x"}'}, r"a\.jsonl line 1: .*summary"),
        ({"a.jsonl": '{"id": "1", "dialogue": "x", "summary": "y"}\n' * 2}, "has two dialogues 1"),
    ],
)
def test_what_holds_no_dialogues_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(SettingsError, match=message):
        read_dialogues(tmp_path)
