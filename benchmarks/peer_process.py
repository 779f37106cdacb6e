"""Another system in a process of its own, in an environment of its own, spoken to by lines of JSON (benchmarks/peers/host.py)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from shared.errors import DiptychError, SettingsError

_ROOT: Final = Path(__file__).parent.parent
_DEFAULT: Final = _ROOT / ".venv-peers" / "bin" / "python"
_LINE_BYTES_MAX: Final = 64 * 1024 * 1024
_STOP_TIMEOUT_S: Final = 30.0
# Nothing is sent anywhere, and nothing is fetched: a peer that wants to fails, and is listed with what it said.
_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "MEM0_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    # Two threads that share two cores with a server wait for each other: torch then takes ten times as long for a sentence.
    "OMP_NUM_THREADS": "1",
}


class PeerFailed(DiptychError):
    """It could not be started, or did not do what it was asked for."""


def peers_option(names: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--peers-python`, and `--peer`, which may be repeated."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        python = click.option(
            "--peers-python",
            type=click.Path(path_type=Path),
            default=_DEFAULT,
            show_default=".venv-peers/bin/python, which `make bench-peers-env` makes",
            help="A Python with what benchmarks/requirements-peers.txt names.",
        )
        peer = click.option(
            "--peer", "peers", multiple=True, default=tuple(names), type=click.Choice(names), help="Only these."
        )
        return python(peer(function))

    return decorate


class PeerProcess:
    """One question at a time."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    async def ask(self, what: str, *arguments: Any, timeout_s: float = 600.0) -> Any:
        """Raises PeerFailed with the last line of what it complained about."""
        reader, writer = self._process.stdout, self._process.stdin
        if reader is None or writer is None:
            raise PeerFailed("it has no pipes")
        try:
            writer.write(msgspec.json.encode([what, *arguments]) + b"\n")
            await writer.drain()
            async with asyncio.timeout(timeout_s):
                line = await reader.readline()
        except TimeoutError as error:
            # Its late answer would be taken for that to another question.
            self._process.kill()
            raise PeerFailed(f"{what} took longer than {timeout_s:g} s") from error
        except ConnectionError as error:
            raise PeerFailed(self._complaint()) from error
        if not line:
            await self._process.wait()
            raise PeerFailed(self._complaint())
        return msgspec.json.decode(line)

    def _complaint(self) -> str:
        lines = [
            line for line in self._errors.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        code = self._process.returncode or 0
        if code < 0:
            return f"the process ended by {signal.Signals(-code).name}"
        return lines[-1][:300] if lines else f"the process ended with {code}"


@asynccontextmanager
async def running_peer(
    python: Path, kind: str, name: str, folder: Path, **variables: str
) -> AsyncIterator[PeerProcess]:
    """Peer `name` of benchmarks/peers/`kind`.py, with `folder` for its data. Leaving ends it. Raises SettingsError where there is no such
    Python."""
    if not await asyncio.to_thread(python.is_file):
        raise SettingsError(f"{python} is missing; `make bench-peers-env` installs the systems to measure beside")
    errors = folder / f"{name}.errors"
    with errors.open("wb") as complaints:
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-m", "benchmarks.peers.host", kind, name, str(folder)),
            cwd=_ROOT,
            env={**os.environ, **_ENVIRONMENT, **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaints,
            limit=_LINE_BYTES_MAX,
        )
    try:
        yield PeerProcess(process, errors)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It ends with its input; what does not is killed."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
