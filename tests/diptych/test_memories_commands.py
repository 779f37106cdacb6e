"""`diptych remember`, `recall` and `context`."""

from pathlib import Path

import pytest

from diptych.ports import free_ports
from shared.memory_messages import AppendAnswer, ContextAnswer, RecallAnswer
from shared.wire import JSON, decode
from tests.diptych.command import Shell
from tests.harness import RunningMemory, RunningRetrieval, running_memory

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


async def test_a_turn_is_remembered_once(shell: Shell, memory: RunningMemory) -> None:
    arguments = ["remember", "s", "We deploy on Fridays.", "--user", "ada", "--id", "t1", "--name", "Ada"]

    first = await shell.run("--json", *arguments)
    again = await shell.run(*arguments)

    assert (first.code, again.code) == (0, 0)
    answer = decode(first.out.encode(), JSON, AppendAnswer)
    assert [(turn.id, turn.seq, turn.status) for turn in answer.turns] == [("t1", 1, "stored")]
    assert again.out == f"duplicate: turn 1 of s, tail {answer.tail_tokens} tokens\n"
    (turn,) = (await memory.client.turns("s")).items
    assert (turn.role, turn.name, turn.content) == ("user", "Ada", "We deploy on Fridays.")
    assert (await memory.client.session("s")).user_id == "ada"


async def test_a_turn_may_come_from_standard_input(shell: Shell, memory: RunningMemory) -> None:
    done = await shell.run_process("remember", "s", "-", "--role", "assistant", stdin="two\nlines é\n")

    assert done.code == 0
    (turn,) = (await memory.client.turns("s")).items
    assert (turn.role, turn.content) == ("assistant", "two\nlines é\n")


async def test_the_same_id_with_other_words_is_a_conflict(shell: Shell) -> None:
    await shell.run("remember", "s", "one", "--id", "t1")
    done = await shell.run("remember", "s", "two", "--id", "t1")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: ")


async def test_what_was_said_is_recalled_with_its_neighbours(shell: Shell, memory: RunningMemory) -> None:
    words = ["Good morning.", "The retry limit is [/three].", "Noted."]
    await memory.client.append("s", [{"role": "user", "content": word} for word in words], user_id="ada")

    found = await shell.run("--json", "recall", "retry limit", "--user", "ada", "--mode", "lexical")
    text = await shell.run("recall", "retry limit", "--session", "s", "-n", "1", "--neighbours", "1")
    newest = await shell.run("recall", "--user", "ada", "--json")
    nothing = await shell.run("recall", "retry limit", "--user", "grace")

    assert [done.code for done in (found, text, newest, nothing)] == [0, 0, 0, 0]
    # What stands beside it is found by its words too, and comes after it.
    assert decode(found.out.encode(), JSON, RecallAnswer).items[0].text == words[1]
    assert [line.strip() for line in text.lines[1:]] == [f"user: {word}" for word in words]
    assert text.lines[0].endswith("s#2")
    assert [item["seq"] for item in newest.json["items"]] == [3, 2, 1]
    assert nothing.out == "Nothing recalled.\n"


async def test_spans_are_recalled_by_kind(shell: Shell, memory: RunningMemory) -> None:
    await memory.client.append("s", [{"role": "user", "content": word} for word in ("one", "two")], user_id="ada")
    await memory.client.compact("s", tail_tokens_keep=0)

    found = await shell.run("recall", "two", "--user", "ada", "--kind", "span")

    assert found.lines[0].endswith("s#1-2")
    assert found.lines[1].strip().startswith("span: ")


async def test_recalling_for_nobody_is_wrong_usage(shell: Shell) -> None:
    done = await shell.run("recall", "anything")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: $.user_id: ")


async def test_a_context_is_assembled_from_both_services(
    shell: Shell, retrieval: RunningRetrieval, memory: RunningMemory
) -> None:
    await retrieval.client.ingest("notes", [{"id": "ports", "text": "Memory listens on port 7802."}])
    await memory.client.append("s", [{"role": "user", "content": "Which port was it?"}], user_id="ada")
    arguments = ["context", "which port", "--session", "s", "--user", "ada", "-c", "notes", "--max-tokens", "500"]

    as_json = await shell.run("--json", *arguments)
    text = await shell.run_process(*arguments)

    assert (as_json.code, text.code) == (0, 0)
    answer = decode(as_json.out.encode(), JSON, ContextAnswer)
    assert {part.kind for part in answer.parts} == {"turn", "document"}
    assert (answer.degraded, answer.tokens <= 500) == (False, True)
    assert text.out == answer.text + "\n"
    assert text.err == f"{answer.tokens} of 500 tokens, {len(answer.parts)} parts, omitted: nothing\n"


async def test_without_retrieval_words_are_compared_and_people_are_told(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await running.client.append("s", [{"role": "user", "content": "The retry limit is three."}], user_id="ada")
        shell = Shell({"DIPTYCH_MEMORY_URL": running.url})
        recalled = await shell.run("recall", "retry limit", "--user", "ada")
        assembled = await shell.run("context", "retry limit", "--session", "s", "-c", "notes")

    assert (recalled.code, assembled.code) == (0, 0)
    assert "The retry limit is three." in recalled.out
    assert recalled.err == "retrieval is away: only words were compared\n"
    assert "retrieval is away: the context has no documents or compared only words" in assembled.err


async def test_names_with_the_signs_of_markup_are_shown_as_they_are(shell: Shell) -> None:
    remembered = await shell.run("remember", "[/s]", "[bold]words[/bold] [/x]", "--user", "[ada]", "--name", "[/Ada]")
    recalled = await shell.run("recall", "words", "--session", "[/s]")
    missing = await shell.run("recall", "words", "--session", "[/none]")

    assert remembered.out.startswith("stored: turn 1 of [/s], ")
    assert recalled.lines[0].endswith("[/s]#1")
    assert recalled.lines[1].strip() == "[/Ada]: [bold]words[/bold] [/x]"
    assert (missing.code, missing.err) == (1, "Error: there is no session '[/none]'\n")


async def test_a_memory_service_that_does_not_run_is_unreachable() -> None:
    (port,) = free_ports(1)
    done = await Shell({"DIPTYCH_MEMORY_URL": f"http://127.0.0.1:{port}"}).run_process("remember", "s", "x")

    assert (done.code, done.out) == (3, "")
    assert f"http://127.0.0.1:{port} cannot be reached" in done.err
