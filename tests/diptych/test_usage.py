"""Help, versions and wrong usage of every command. Nothing runs here, so no process is needed."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from diptych import __version__
from diptych.cli import main

pytestmark = pytest.mark.blocking

COMMANDS = {
    "up": ["--host", "--retrieval-port", "--memory-port", "--model"],
    "ingest": ["PATH...", "--collection"],
    "search": [
        *("QUERY", "--collection", "--mode", "--limit", "--explain", "--rerank", "--rerank-model", "--no-duplicates"),
        *("--diversity", "--group-by-document", "--max-tokens"),
    ],
    "remember": ["SESSION", "TEXT", "--role", "--user", "--name", "--id"],
    "recall": ["--user", "--session", "--agent", "--kind", "--mode", "--limit", "--neighbours"],
    "context": ["--session", "--user", "--collection", "--max-tokens"],
    "forget": ["[ID]...", "--user", "--session", "--before", "--erase", "--yes"],
    "audit": ["--user", "--session"],
    "export": ["PATH", "--user", "--all", "--vectors"],
    "import": ["PATH"],
    "facts": ["list", "approve", "reject"],
    "facts list": ["--user", "--status", "--key", "--history", "--limit", "--cursor"],
    "facts approve": ["FACT..."],
    "facts reject": ["FACT..."],
    "feedback": ["add", "list", "delete", "export"],
    "feedback add": [
        *(
            "QUERY",
            "--collection",
            "--user",
            "--session",
            "--agent",
            "--right",
            "--wrong",
            "--grade",
            "--filter",
            "--as-of",
        ),
        "--comment",
    ],
    "feedback list": ["--collection", "--user", "--session", "--agent", "--all", "--limit", "--cursor"],
    "feedback delete": ["ID", "--recall"],
    "feedback export": ["--collection", "--user", "--session", "--agent", "--all", "--output", "--judged-only"],
    "keys": ["create", "list", "revoke"],
    "keys create": ["--tenant", "--name", "--scope", "--user"],
    "keys list": [],
    "keys revoke": ["KEY_ID"],
    "delete": ["ID", "--collection", "--filter"],
    "jobs": ["list", "show", "watch", "cancel", "retry"],
    "rebuild": ["COLLECTION"],
    "snapshot": ["--list"],
    "restore": ["SNAPSHOTS", "--replace"],
    "reindex": ["COLLECTION"],
    "flip": ["COLLECTION"],
    "check": [],
    "info": [],
    "demo": ["--question"],
    "mcp": ["retrieval|memory|both", "--user", "--embedded"],
    "retention": ["get", "set"],
    "retention get": [],
    "retention set": ["--days", "--turns", "--forever", "--yes"],
    "eval": ["retrieval", "memory", "context", "summaries", "report"],
    "eval retrieval": [
        "--dataset",
        "--limit",
        "--mode",
        "--fusion",
        "--rerank",
        "--output",
        "--baseline",
        "--tolerance",
    ],
    "eval memory": ["--dataset", "--limit", "--mode", "--kind", "--output", "--baseline", "--tolerance"],
    "eval context": ["--dataset", "--limit", "--budget", "--state", "--output", "--baseline", "--tolerance"],
    "eval summaries": ["--dataset", "--limit", "--output", "--baseline", "--tolerance"],
    "eval report": ["RESULT", "--output"],
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"COLUMNS": "200"})


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_arguments(command: str, flag: str) -> None:
    result = run(*command.split(), flag)

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command}")
    assert [part for part in COMMANDS[command] if part not in result.stdout] == []


def test_the_command_itself_lists_every_command_and_what_all_share() -> None:
    text = run("--help").stdout

    assert sorted({name.split()[0] for name in COMMANDS} | {"retrieval", "memory"}) == sorted(main.commands)
    assert [name for name in main.commands if f"\n  {name} " not in text] == []
    for option in ("--retrieval-url", "--memory-url", "--api-key", "--data-dir", "--keys-path", "--timeout", "--json"):
        assert option in text


def test_every_command_has_a_summary() -> None:
    context = click.Context(main)
    groups = [main, *(each for each in main.commands.values() if isinstance(each, click.Group))]

    assert [each.name for group in groups for each in group.commands.values() if not each.get_short_help_str()] == []
    assert main.get_help(context)


def test_the_version_is_the_package_s() -> None:
    assert run("--version").stdout == f"diptych, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serch"], "No such command 'serch'"),
        (["search"], "Missing argument 'QUERY'"),
        (["ingest"], "Missing argument 'PATH...'"),
        (["remember", "s"], "Missing argument 'TEXT'"),
        (["search", "x", "--mode", "fast"], "'fast' is not one of 'hybrid', 'dense', 'lexical'"),
        (["search", "x", "--limit", "many"], "'many' is not a valid integer"),
        (["remember", "s", "x", "--role", "boss"], "'boss' is not one of"),
        (["keys", "create", "--scope", "all"], "'all' is not one of"),
        (["search", "x", "--qury", "y"], "No such option"),
        (["--timeout", "soon", "info"], "'soon' is not a valid float"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(arguments: list[str], words: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert "Try 'main" in result.stderr


@pytest.mark.parametrize("url", ["localhost:7801", "", "http://[::1"])
def test_an_address_that_is_none_exits_with_2(url: str) -> None:
    result = run("--retrieval-url", url, "search", "x")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no address" in result.stderr


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_path_that_means_nothing_exits_with_2(tmp_path: Path, as_json: list[str]) -> None:
    missing = str(tmp_path / "[nowhere]")
    result = run(*as_json, "ingest", missing)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: there is no file, folder or match for {missing}\n"


def test_a_demo_without_documents_exits_with_2(tmp_path: Path) -> None:
    result = run("demo", str(tmp_path))

    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is nothing to ingest here" in result.stderr
