"""Programs that others wrote, run to their end within a bounded time."""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
# Where `make outside` installs them.
INSTALLED: Final = ROOT / ".outside"
# Far more than any of them takes on a busy machine.
PROGRAM_TIMEOUT_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


class Failed(Exception):
    """A check that did not hold, and why."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    run: Callable[[], Awaitable[str]]


def offer_diptych() -> None:
    """The command on the path, also where the package was not installed but is run from its checkout."""
    if (Path(sys.executable).parent / "diptych").exists():
        return
    command = INSTALLED / "node_modules/.bin/diptych"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m diptych "$@"\n', encoding="utf-8")
    command.chmod(0o755)


async def run(*command: str | Path, **variables: str) -> Ended:
    """Raises Failed when it takes too long. Finds node and `diptych` first."""
    paths = [INSTALLED / "node_modules/.bin", Path(sys.executable).parent]
    found = os.pathsep.join([*map(str, paths), os.environ.get("PATH", "")])
    if shutil.which(str(command[0]), path=found) is None:
        raise Failed(f"{command[0]} is not there; `make outside` installs it")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIPTYCH_")}
    environment["PATH"] = found
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=INSTALLED,
        env={**environment, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PROGRAM_TIMEOUT_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Failed(f"not done within {PROGRAM_TIMEOUT_S:g} s") from None
    return Ended(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


async def succeed(*command: str | Path, **variables: str) -> Ended:
    """Raises Failed unless it ends with 0."""
    ended = await run(*command, **variables)
    if ended.code:
        said = "\n".join((ended.out + ended.err).strip().splitlines()[-30:])
        raise Failed(f"exit code {ended.code}\n{said}")
    return ended


async def run_all(checks: list[Check]) -> int:
    """One after another, with a line for each. Answers how many failed."""
    failed = 0
    for check in checks:
        started = time.perf_counter()
        try:
            detail, mark = await check.run(), "ok  "
        except Failed as error:
            detail, mark = str(error), "FAIL"
            failed += 1
        print(f"{mark} {time.perf_counter() - started:5.1f} s  {check.name}: {detail}", flush=True)  # noqa: T201
    print(f"{len(checks) - failed} of {len(checks)} outside checks hold")  # noqa: T201
    return failed
