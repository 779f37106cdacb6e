"""Every benchmark can be found, started as it is listed, and ended."""

import importlib
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

import benchmarks
from benchmarks.__main__ import main
from benchmarks.registry import SUITES, Suite, suites_named
from benchmarks.running import Run, keep_run, read_runs, run_limited
from shared.errors import SettingsError
from tests.harness import is_gone, until

FOLDER = Path(benchmarks.__file__).parent


def command_of(suite: Suite) -> click.Command:
    found = importlib.import_module(f"benchmarks.{suite.module}").main
    assert isinstance(found, click.Command)
    return found


class TestRegistry:
    def test_every_program_that_publishes_results_is_listed_and_names_are_one_of_a_kind(self) -> None:
        programs = {path.stem for path in FOLDER.glob("*.py") if "output.publish(" in path.read_text()}
        assert {suite.module for suite in SUITES} == programs
        assert len({suite.name for suite in SUITES}) == len(SUITES)

    @pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
    @pytest.mark.parametrize("is_quick", [False, True])
    def test_its_arguments_are_ones_that_it_takes(self, suite: Suite, *, is_quick: bool) -> None:
        arguments = ["--results", "/nowhere", *suite.arguments(is_quick=is_quick)]
        command = command_of(suite)
        parsed = command.make_context(suite.module, arguments).params
        assert parsed["results_dir"] == Path("/nowhere")
        assert {"show_json"} <= set(parsed)

    def test_quick_ones_take_minutes_all_together(self) -> None:
        assert sum(suite.quick_minutes for suite in SUITES if not suite.has_peers) < 10
        assert all(suite.quick_minutes < suite.minutes for suite in SUITES)

    def test_a_name_that_is_none_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(SettingsError, match=r"no benchmark serch; there are: search, .*memory-peers"):
            suites_named(("search", "serch"))

    def test_names_are_put_into_the_order_of_the_registry(self) -> None:
        assert [suite.name for suite in suites_named(("append", "search"))] == ["search", "append"]

    def test_each_command_says_what_it_does(self) -> None:
        assert set(main.commands) == {"list", "run", "quick", "all"}
        assert all(command.help for command in main.commands.values())


class TestRunning:
    @pytest.mark.parametrize(("code", "ended"), [("", "done"), ("raise SystemExit(3)", "failed")])
    async def test_it_says_how_a_benchmark_ended(self, code: str, ended: str) -> None:
        assert await run_limited(("-c", code), 30.0) == ended

    @pytest.mark.blocking
    async def test_one_that_takes_too_long_is_told_as_by_ctrl_c_so_that_it_can_tidy_up(self, tmp_path: Path) -> None:
        tidied = tmp_path / "tidied"
        # A shell that started the tests in the background has made them ignore it, and children inherit that.
        listen = "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        code = f"{listen}try:\n  time.sleep(60)\nexcept KeyboardInterrupt:\n  open({str(tidied)!r}, 'w').close()"
        assert await run_limited(("-c", code), 3.0, stop_s=10.0) == "stopped: it took too long"
        assert tidied.exists()

    @pytest.mark.blocking
    async def test_one_that_does_not_listen_is_killed_with_what_it_started(self, tmp_path: Path) -> None:
        noted = tmp_path / "pid"
        deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
        code = (
            f"import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', {deaf!r}])\n"
            f"open({str(noted)!r}, 'w').write(str(child.pid))\n{deaf}"
        )
        assert await run_limited(("-c", code), 3.0, stop_s=0.5) == "stopped: it took too long"
        pid = int(noted.read_text())

        async def has_ended() -> bool:
            return is_gone(pid)

        await until(has_ended)

    def test_the_last_run_of_each_is_kept(self, tmp_path: Path) -> None:
        assert read_runs(tmp_path) == {}
        runs = [
            Run(name=name, ended="done", seconds=seconds, commit="abc", date=datetime(2026, 1, 1, tzinfo=UTC))
            for name, seconds in (("search", 1.0), ("append", 2.0), ("search", 3.0))
        ]
        for run in runs:
            keep_run(tmp_path, run)
        assert read_runs(tmp_path) == {"search": runs[2], "append": runs[1]}
