"""Python processes beside a service: they inherit nothing of it but two pipes, and end with it, however that ends."""

import contextlib
import os
import select
import subprocess
import sys
import threading
from typing import BinaryIO

Process = subprocess.Popen[bytes]


def start_python(module: str) -> Process:
    """Runs `python -m module`, with pipes for its standard input and output. Blocking."""
    return subprocess.Popen(  # noqa: S603 - a module of our own
        [sys.executable, "-P", "-m", module],  # -P: not the folder that we stand in
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        close_fds=True,
        # Only what Python needs to find its modules.
        env={"PYTHONPATH": ":".join(part for part in sys.path if part), "LANG": "C.UTF-8"},
        cwd="/",
        # Ctrl-C in a terminal is for the service, which ends its work first.
        start_new_session=True,
    )


def pipes_of(process: Process) -> tuple[BinaryIO, BinaryIO]:
    """Its standard input and output."""
    if process.stdin is None or process.stdout is None:  # both are pipes
        raise AssertionError(process)
    return process.stdin, process.stdout  # type: ignore[return-value]


def kill(process: Process) -> None:
    """At once, with all that belongs to it. Idempotent."""
    process.kill()
    process.wait()
    for pipe in pipes_of(process):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def end_with_the_service() -> None:
    """To be called in such a process: nobody writes to its standard input any more once the service is gone, killed included."""
    threading.Thread(target=_end_at_hang_up, daemon=True).start()


def own_output() -> BinaryIO:
    """The pipe of answers for us alone: what a library prints must not stand between them."""
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


def _end_at_hang_up() -> None:
    poll = select.poll()
    poll.register(0, 0)  # hanging up is always told
    poll.poll()
    os._exit(0)
