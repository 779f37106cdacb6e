"""`diptych feedback`."""

from pathlib import Path

import pytest

from benchmarks.data import read_records
from tests.diptych.command import Shell
from tests.harness import RunningMemory, RunningRetrieval

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


async def test_searches_are_judged_listed_and_become_a_set(
    shell: Shell, retrieval: RunningRetrieval, tmp_path: Path
) -> None:
    await retrieval.client.ingest("c", [{"id": name, "text": f"about {name}"} for name in ("a", "b=2", "[c]")])

    added = await shell.run(
        *("feedback", "add", "what is a?", "-c", "c", "--right", "a", "--wrong", "[c]", "--grade", "b=2=3"),
        *("--filter", '{"x": 1}', "--comment", "[why]"),
    )
    again = await shell.run("feedback", "add", "what is a?", "-c", "c", "--filter", '{"x": 1}', "-r", "a", "--json")
    await shell.run("feedback", "add", "nothing", "-c", "c", "--wrong", "a")
    listed = await shell.run("feedback", "list", "--collection", "c")
    first = await shell.run("feedback", "list", "-c", "c", "-n", "1")
    rest = await shell.run("feedback", "list", "-c", "c", "--cursor", first.lines[-1].split()[-1], "--json")
    written = await shell.run("feedback", "export", "-c", "c", "--output", str(tmp_path / "set"))
    as_json = await shell.run("feedback", "export", "-c", "c", "-o", str(tmp_path / "set"), "--judged-only", "--json")
    deleted = await shell.run("feedback", "delete", again.json["id"])
    gone = await shell.run("feedback", "delete", again.json["id"])

    assert added.out == f"created: {again.json['id']}, 3 judged\n"
    assert (again.json["status"], again.json["judged"]) == ("unchanged", 3)
    assert all(text in listed.out for text in ("a, b=2=3", "[c]", "[why]", "nothing"))
    assert [each["query"] for each in rest.json["items"]] == ["nothing"]
    assert written.out == f"{tmp_path / 'set'}: 3 documents, 1 queries, 3 judgments\n"
    assert "1 left out" in written.err
    assert as_json.json == {
        "path": str(tmp_path / "set"), "documents": 3, "queries": 1, "judgments": 3, "left_out": 1
    }  # fmt: skip
    assert (deleted.code, gone.code) == (0, 1)
    assert "there is no feedback" in gone.err


async def test_recalls_are_judged_by_number_or_fact_listed_and_become_a_set(
    shell: Shell, memory: RunningMemory, tmp_path: Path
) -> None:
    turns = [{"id": f"t{number}", "role": "user", "content": f"turn {number}"} for number in range(3)]
    await memory.client.append("a#b", turns, user_id="ada")
    source = {"session_id": "a#b", "turn_id": "t2"}
    await memory.client.put_fact(id="f", user_id="ada", text="a fact", sources=[source])

    judged = ("--right", "a#b#1", "--wrong", "a#b#2", "--grade", "fact:f=3")
    added = await shell.run("feedback", "add", "when?", "--user", "ada", *judged, "--json")
    earlier = await shell.run(
        *("feedback", "add", "when?", "--session", "a#b", "-r", "a#b#1", "--as-of", "2999-01-01T00:00:00Z")
    )
    listed = await shell.run("feedback", "list", "--user", "ada")
    everything = await shell.run("feedback", "list", "--all", "--json")
    written = await shell.run("feedback", "export", "--user", "ada", "-o", str(tmp_path / "set"))
    deleted = await shell.run("feedback", "delete", "--recall", added.json["id"], "--json")

    assert (added.json["judged"], earlier.code) == (3, 0)
    assert all(text in listed.out for text in ("a#b#1, fact:f=3", "a#b#2", "when?"))
    assert len(everything.json["items"]) == 2
    assert written.out == f"{tmp_path / 'set'}: 1 conversations, 3 turns, 2 questions\n"
    questions = read_records(tmp_path / "set", "questions.jsonl")
    assert [each["grades"] for each in questions] == [{"a#b#1": 1, "a#b#3": 3}, {"a#b#1": 1}]
    assert (deleted.json["feedback"], deleted.json["verified"]) == (1, True)


async def test_what_was_judged_is_evaluated(
    shell: Shell, retrieval: RunningRetrieval, memory: RunningMemory, tmp_path: Path
) -> None:
    said = {"kiln": "A kiln fires clay.", "loom": "A loom weaves wool.", "forge": "A forge heats iron."}
    await retrieval.client.ingest("c", [{"id": name, "text": text} for name, text in said.items()])
    await memory.client.append(
        "s" * 256, [{"id": name, "role": "user", "content": text} for name, text in said.items()], user_id="ada"
    )
    await shell.run("feedback", "add", "what fires clay?", "-c", "c", "-r", "kiln", "-w", "loom")
    await shell.run("feedback", "add", "what is never found?", "-c", "c", "-r", "forge")
    await shell.run("feedback", "add", "what weaves wool?", "--user", "ada", "-r", f"{'s' * 256}#2")
    searches, recalls = str(tmp_path / "searches"), str(tmp_path / "recalls")
    await shell.run("feedback", "export", "-c", "c", "-o", searches)
    await shell.run("feedback", "export", "--user", "ada", "-o", recalls)

    lexical = ("--mode", "lexical", "-k", "1", "--no-latency", "--json")
    of_searches = await shell.run("eval", "retrieval", "--dataset", searches, *lexical)
    of_recalls = await shell.run("eval", "memory", "--dataset", recalls, *lexical)

    assert (of_searches.code, of_recalls.code) == (0, 0), (of_searches.err, of_recalls.err)
    scores = {query["id"]: query["scores"]["recall@1"] for query in of_searches.json["queries"]}
    kept = {each.query: each.id for each in (await retrieval.client.feedback("c")).items}
    assert scores == {kept["what fires clay?"]: 1.0, kept["what is never found?"]: 0.0}
    assert [query["scores"]["all@1"] for query in of_recalls.json["queries"]] == [1.0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("add", "q"), "--collection"),
        (("add", "q", "-c", "c", "--user", "u", "-r", "a"), "--collection"),
        (("add", "q", "-c", "c"), "--right"),
        (("add", "q", "-c", "c", "-g", "a=4"), "--grade"),
        (("add", "q", "-c", "c", "-r", "a", "--as-of", "2026-01-01T00:00:00Z"), "--as-of"),
        (("add", "q", "--user", "u", "-r", "s#1", "--filter", "{}"), "--filter"),
        (("add", "q", "--user", "u", "-r", "s#1", "--as-of", "yesterday"), "--as-of"),
        (("add", "q", "--user", "u", "-r", "t1"), "SESSION#NUMBER"),
        (("list",), "--collection"),
        (("export", "-o", "nowhere"), "--collection"),
        (("export", "--user", "u", "-o", "nowhere", "--judged-only"), "--judged-only"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_wrong_usage(shell: Shell, arguments: tuple[str, ...], named: str) -> None:
    done = await shell.run("feedback", *arguments)
    assert (done.code, done.out) == (2, "")
    assert named in done.err
