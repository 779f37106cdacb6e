"""A process that converts files, one at a time: `python -m retrieval.conversion.worker`.

It reads requests from its standard input and writes answers to its standard output, each behind its length. What a file
can do to it ends here: memory and processor time are limited by the system, and Python code that would open a socket,
start a program or touch a file that is not Python's own is refused. The service kills it when it is late, and it ends by
itself when the service is gone, however that ended: its standard input then hangs up.
"""

import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from retrieval.conversion.converting import convert_content, convert_text
from retrieval.conversion.framing import Answer, Request, read_frame, write_frame
from retrieval.conversion.limits import Limits, Unreadable
from shared.python_process import end_with_the_service, own_output

# Python's own 1000 is reached by honest web pages; deeper ones than this are not.
_RECURSION_MAX: Final = 5000
_REFUSED: Final = frozenset(
    {
        *("socket.__new__", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn"),
        *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod"),
        *("os.listdir", "os.scandir"),
    }
)


def main() -> None:
    requests, answers = sys.stdin.buffer, own_output()
    end_with_the_service()
    sys.setrecursionlimit(_RECURSION_MAX)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(Guard())
    while (frame := read_frame(requests)) is not None:
        request = msgspec.msgpack.decode(frame, type=Request)
        _limit(request)
        write_frame(answers, msgspec.msgpack.encode(_answer(request)))


def _answer(request: Request) -> Answer:
    limits = Limits(
        characters_max=request.characters_max,
        pages_max=request.pages_max,
        unzipped_bytes_max=request.unzipped_bytes_max,
        unzipped_ratio_max=request.unzipped_ratio_max,
    )
    try:
        if request.text is not None:
            return Answer(parsed=convert_text(request.text, request.declared, limits))
        return Answer(parsed=convert_content(request.content or b"", request.declared, request.file_name, limits))
    except Unreadable as error:
        return Answer(reason=str(error))
    except MemoryError:
        return Answer(reason="takes too much memory to read (convert_memory_bytes_max); split it")
    except Exception as error:  # noqa: BLE001 - told to the service, which logs it; a worker's loop: a file that breaks its parser fails alone
        return Answer(reason=f"broken: it could not be read ({type(error).__name__})", defect=repr(error))


def _limit(request: Request) -> None:
    """Memory once and for all, processor time anew for each file: it counts what the process has used since it began.
    A loop inside a library holds the interpreter, so that only the system can end it."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = request.memory_bytes_max if hard == resource.RLIM_INFINITY else min(request.memory_bytes_max, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = int(used.ru_utime + used.ru_stime + request.timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


class Guard:
    """Refuses what no converter needs. Not a sandbox: native code is not asked. It makes a mistake harmless."""

    def __init__(self) -> None:
        self._readable = tuple({str(Path(root).resolve()) for root in (*sys.path, sys.prefix, sys.base_prefix) if root})

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REFUSED and not self._is_import(event, arguments):
            raise PermissionError(f"a converter may not do {event}")
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if flags & (os.O_WRONLY | os.O_RDWR) or not os.path.realpath(path).startswith(self._readable):
                raise PermissionError(f"a converter may not open {path}")

    def _is_import(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Finding a module lists folders."""
        return event in {"os.listdir", "os.scandir"} and str(arguments[0]).startswith(self._readable)


if __name__ == "__main__":
    main()
