"""Commands, error lines, quotes and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.text.phrases import find_phrases, is_command
from shared.memory_messages import Role
from tests.memory.hostile import GROWTH_MAX, HOSTILE_UNITS, growth


def of_kind(kind: str, text: str, role: Role = "assistant") -> list[str]:
    found = sorted(find_phrases(text, role), key=lambda each: each.start)
    return [each.text for each in found if each.kind == kind]


def test_commands_stand_after_a_prompt_in_ticks_in_shell_fences_and_in_calls() -> None:
    assert of_kind("command", "$ kubectl get pods\nada@host:~/x$ make all") == ["kubectl get pods", "make all"]
    assert of_kind("command", "Run `git status`, then read `the notes`.") == ["git status"]
    assert of_kind("command", "```bash\n# first\nnpm ci && npm test\n```") == ["npm ci && npm test"]
    assert of_kind("command", "```\ncargo build --release\nfinished\n```") == ["cargo build --release"]
    assert of_kind("command", '{"command": "ls -la /srv"}', "tool") == ["ls -la /srv"]


def test_code_is_no_command() -> None:
    assert of_kind("command", "```python\nx = 1\nprint(x)\n```\n`x + 1`") == []


def test_a_command_says_what_its_program_shall_do() -> None:
    assert is_command("./deploy.sh --now")
    assert not is_command("git")
    assert not is_command("gitter is a place")


ERRORS = {
    "E       AssertionError: expected 3, got 4": "AssertionError: expected 3, got 4",
    "psycopg.errors.UniqueViolation: duplicate key": "psycopg.errors.UniqueViolation: duplicate key",
    "bash: foo: command not found": "bash: foo: command not found",
    "12:30 ERROR lost the connection": "ERROR lost the connection",
    "fatal: not a git repository": "fatal: not a git repository",
    "Process exited with code 137": "exited with code 137",
    "error[E0382]: borrow of moved value": "error[E0382]: borrow of moved value",
    "cat: /etc/x: No such file or directory": "cat: /etc/x: No such file or directory",
}


@pytest.mark.parametrize(("line", "expected"), ERRORS.items())
def test_an_error_is_its_line(line: str, expected: str) -> None:
    assert of_kind("error", f"before\n{line}\nafter", "tool") == [expected]


def test_in_prose_an_error_ends_with_its_sentence() -> None:
    assert of_kind("error", "It says TypeError: x is not a function. I will mend that.") == [
        "TypeError: x is not a function"
    ]


def test_a_long_error_is_cut_at_a_blank() -> None:
    [error] = of_kind("error", "ValueError: " + "word " * 100, "tool")
    assert len(error) <= 200
    assert error.endswith("word")


def test_quotes_of_every_kind_are_found_and_apostrophes_are_not() -> None:
    text = "He said \"do it now\" and 'never' and “quoted”, «citat», 「引用」; they don't and it isn't."
    assert of_kind("quote", text, "user") == ["do it now", "never", "quoted", "citat", "引用"]


def test_names_are_runs_of_capitals_or_single_ones_within_a_sentence() -> None:
    text = "Then Ada Lovelace met Bob in Paris on Monday. However nothing came of it. University of Oslo wrote."
    assert of_kind("name", text, "user") == ["Ada Lovelace", "Bob", "Paris", "University of Oslo"]


def test_what_tools_print_has_neither_quotes_nor_names() -> None:
    text = 'Ada Lovelace said "do it now"'
    assert {each.kind for each in find_phrases(text, "user")} == {"name", "quote"}
    assert list(find_phrases(text, "tool")) == []


def test_code_in_a_fence_has_neither_quotes_nor_names() -> None:
    assert list(find_phrases('```python\nname = "Ada Lovelace"\n```', "user")) == []


@given(
    st.text(max_size=300) | st.lists(st.sampled_from(HOSTILE_UNITS), max_size=60).map("".join),
    st.sampled_from(["user", "assistant", "tool", "system"]),
)
def test_every_phrase_stands_in_the_text_where_it_says(text: str, role: Role) -> None:
    for each in find_phrases(text, role):
        assert text[each.start : each.start + len(each.text)] == each.text


@pytest.mark.parametrize("unit", HOSTILE_UNITS)
@pytest.mark.parametrize("role", ["user", "tool"])
def test_hostile_text_costs_no_more_than_its_length(unit: str, role: Role) -> None:
    assert growth(lambda text: list(find_phrases(text, role)), unit) < GROWTH_MAX
