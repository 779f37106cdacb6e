"""What runs in the process of a `Worker`: `python -m shared.worker_process`. Reads calls, writes what they return or raise."""

import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any

from shared.python_process import end_with_the_service, own_output


def main() -> None:
    calls, answers = sys.stdin.buffer, own_output()
    # Whoever stops the service may tell all of its processes; the service decides when this one ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_the_service()
    while True:
        try:
            function, arguments = pickle.load(calls)  # noqa: S301 - from the service that started us, by a pipe that nobody else has
        except EOFError:
            return
        answers.write(pickle.dumps(_answer(function, arguments)))
        answers.flush()


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except Exception as error:  # noqa: BLE001 - raised again where it was called
        return None, error


if __name__ == "__main__":
    main()
