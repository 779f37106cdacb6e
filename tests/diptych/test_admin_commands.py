"""`diptych check` and `diptych info`, and running one service through the command."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from diptych import __version__
from shared.messages import CheckReport, Info
from tests.diptych.command import Shell
from tests.harness import RunningMemory, RunningRetrieval, make_key

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


async def test_clean_services_are_reported_clean(
    shell: Shell, retrieval: RunningRetrieval, memory: RunningMemory
) -> None:
    await retrieval.client.ingest("notes", [{"id": "a", "text": "hello"}])
    await memory.client.append("s", [{"role": "user", "content": "hello"}], user_id="ada")

    text, as_json = await shell.run("check"), await shell.run("check", "--json")

    assert (text.code, as_json.code) == (0, 0)
    assert [line.split(" (")[0] for line in text.lines] == ["retrieval: clean", "memory: clean"]
    reports = msgspec.convert(as_json.json, dict[str, CheckReport])
    assert [report.clean for report in reports.values()] == [True, True]
    assert (reports["retrieval"].checked["chunks"], reports["memory"].checked["turns"]) == (1, 1)


async def test_a_difference_is_reported_and_exits_with_1(shell: Shell, retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("notes", [{"id": "a", "text": "hello"}])
    database = retrieval.settings.directory / "retrieval.db"
    await asyncio.to_thread(write_past, database, "UPDATE chunks SET text = 'not what is at its offsets'")

    text, as_json = await shell.run("check"), await shell.run_process("--json", "check")

    assert (text.code, as_json.code) == (1, 1)
    assert any(line.startswith("retrieval: ") and " findings (" in line for line in text.lines)
    findings = as_json.json["retrieval"]["findings"]
    assert findings
    assert all(f"  {each['where']}: {each['problem']}" in text.out for each in findings)
    assert as_json.json["memory"]["clean"]


async def test_a_name_with_the_signs_of_markup_is_shown_as_it_is(shell: Shell, memory: RunningMemory) -> None:
    await memory.client.append("[/s]", [{"role": "user", "content": "hello"}], user_id="ada")
    await asyncio.to_thread(write_past, memory.settings.directory / "memory.db", "DELETE FROM turns")

    text = await shell.run("check")

    assert text.code == 1
    assert "  sqlite: session '[/s]' has gaps in its turns" in text.lines


def write_past(path: Path, statement: str) -> None:
    """The service knows nothing of it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


async def test_checking_needs_an_administrator(shell: Shell, tmp_path: Path) -> None:
    key, admin = await make_key(tmp_path, "acme"), await make_key(tmp_path, "acme", "admin")

    refused, allowed = await shell.run("--api-key", key, "check"), await shell.run("--api-key", admin, "check")

    assert (refused.code, allowed.code) == (1, 0)
    assert "this key lacks the scope 'admin'" in refused.err


async def test_info_tells_versions_model_and_limits(shell: Shell) -> None:
    as_json, text = await shell.run("--json", "info"), await shell.run("info")

    assert (as_json.code, text.code) == (0, 0)
    found = msgspec.convert(as_json.json, dict[str, Info])
    assert {name: (info.service, info.version) for name, info in found.items()} == {
        name: (name, __version__) for name in ("retrieval", "memory")
    }
    assert found["retrieval"].details["model"] == "hash"
    assert found["memory"].details["body_bytes_max"] == 16 * 1024 * 1024
    assert "turn_characters_max" in text.out


async def test_the_help_of_a_service_is_its_own() -> None:
    done = await Shell({}).run_process("memory", "--help")

    assert (done.code, done.err) == (0, "")
    assert "Run the memory service." in done.out
    assert "--drain-timeout-s" in done.out
