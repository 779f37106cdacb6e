"""`diptych export` and `diptych import`."""

import asyncio
import os
from pathlib import Path

import pytest

from shared.memory_records import ImportReport
from shared.wire import JSON, decode
from tests.diptych.command import Shell
from tests.harness import RunningMemory, running_memory
from tests.memory.exported import erase, export, fill

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


@pytest.mark.parametrize("name", ["memory.ndjson", "memory.msgpack"])
async def test_a_memory_goes_into_a_file_and_comes_back(
    shell: Shell, memory: RunningMemory, tmp_path: Path, name: str
) -> None:
    await fill(memory)
    before = await export(memory.client)
    path = tmp_path / name

    written = await shell.run("export", str(path), "--user", "u")
    as_json = await shell.run("--json", "export", str(path), "--all")
    await erase(memory)
    taken = await shell.run("import", str(path))
    again = await shell.run("import", str(path), "--json")

    assert [done.code for done in (written, as_json, taken, again)] == [0, 0, 0, 0]
    spans = as_json.json["spans"]
    assert written.out == f"{path}: 2 sessions, 24 turns, {spans} spans, 4 facts, 2 feedback\n"
    assert as_json.json == {
        "path": str(path), "sessions": 2, "turns": 24, "spans": spans, "facts": 4, "feedback": 2
    }  # fmt: skip
    assert taken.lines == [
        "sessions: 2 created, 0 unchanged, 0 refused",
        "turns: 24 created, 0 unchanged, 0 refused",
        f"spans: {spans} created, 0 unchanged, 0 refused",
        "facts: 4 created, 0 unchanged, 0 refused",
        "feedback: 2 created, 0 unchanged, 0 refused",
    ]
    assert decode(again.out.encode(), JSON, ImportReport).turns.unchanged == 24
    assert await export(memory.client) == before
    assert [name for name in await asyncio.to_thread(os.listdir, tmp_path) if name.endswith(".part")] == []


async def test_a_memory_is_piped_from_one_service_into_another(
    shell: Shell, memory: RunningMemory, tmp_path: Path
) -> None:
    await fill(memory)
    out = await shell.run_process("export", "-", "--user", "u")
    async with running_memory(tmp_path / "other") as other:
        done = await Shell({"DIPTYCH_MEMORY_URL": other.url}).run_process("import", "-", stdin=out.out)
        assert (out.code, done.code) == (0, 0)
        assert await export(other.client) == out.out.encode()


async def test_what_differs_is_refused_and_a_shell_hears_of_it(
    shell: Shell, memory: RunningMemory, tmp_path: Path
) -> None:
    await fill(memory)
    path = tmp_path / "memory.ndjson"
    await shell.run("export", str(path), "--user", "u")
    await memory.client.erase_session("u-b")
    await memory.client.append("u-b", [{"id": "t0", "role": "user", "content": "another beginning"}], user_id="u")

    done = await shell.run("import", str(path))

    assert done.code == 1
    assert done.lines[0] == "sessions: 0 created, 1 unchanged, 1 refused"
    conflicts = done.err.splitlines()[-2:]
    assert [line.split()[0] for line in conflicts] == ["session", "feedback"]
    assert conflicts[0].startswith("session u-b (record ")


async def test_a_bad_file_is_told_by_record_and_field(shell: Shell, memory: RunningMemory, tmp_path: Path) -> None:
    await fill(memory)
    path = tmp_path / "memory.ndjson"
    path.write_bytes((await export(memory.client)).replace(b'"role":"user"', b'"role":"robot"', 1))
    neither = await shell.run("export", str(tmp_path / "x"))

    done = await shell.run("import", str(path))

    assert (done.code, done.out) == (2, "")
    assert "Error: record 3: $.role: " in done.err
    assert (neither.code, "either user_id or everything" in neither.err) == (2, True)
    assert not [name for name in await asyncio.to_thread(os.listdir, tmp_path) if name.startswith("x")]
