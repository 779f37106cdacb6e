"""The command `diptych` against services that run in the test: mostly as a call in a thread, because a process takes half
a second to start, and as a process of its own where that is the point."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from click.testing import CliRunner

from diptych.cli import main
from tests.harness import clean_environment, diptych_command

ROOT: Final = Path(__file__).parent.parent.parent
# Importing everything takes half a second; much longer on a machine that is busy.
COMMAND_WAIT_S: Final = 30.0
# Wide enough that no line is folded.
_WIDE: Final = {"COLUMNS": "300"}


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        assert self.out.count("\n") == 1
        return msgspec.json.decode(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True, slots=True)
class Shell:
    """The environment's DIPTYCH_ variables."""

    variables: dict[str, str]

    async def run(self, *arguments: str, stdin: str = "") -> Done:
        """In a thread with an event loop of its own. An error that the command does not report itself is raised here."""
        runner = CliRunner(env=_WIDE | self.variables)
        result = await asyncio.to_thread(
            runner.invoke, main, list(arguments), input=stdin, prog_name="diptych", catch_exceptions=False
        )
        return Done(result.exit_code, result.stdout, result.stderr)

    async def run_process(self, *arguments: str, stdin: str = "") -> Done:
        process = await asyncio.create_subprocess_exec(
            *diptych_command(*arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=clean_environment(**_WIDE, **self.variables),
        )
        try:
            async with asyncio.timeout(COMMAND_WAIT_S):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())
