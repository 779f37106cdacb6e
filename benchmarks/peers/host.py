"""One peer in a process of its own, asked line by line: `python -m benchmarks.peers.host KIND NAME FOLDER`.

Every line of standard input is a JSON array, the name of something to do and its arguments; every line of standard output the
answer. What libraries print goes to standard error, so that it cannot come between. The process ends with its input.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO


def main(kind: str, name: str, folder: Path) -> None:
    answers = _own_output()
    module = importlib.import_module(f"benchmarks.peers.{kind}")
    stage = module.Stage(name, folder)
    try:
        for line in sys.stdin:
            what, *arguments = json.loads(line)
            answers.write(json.dumps(_done(stage, what, arguments)) + "\n")
            answers.flush()
    finally:
        stage.close()


def _done(stage: Any, what: str, arguments: list[Any]) -> Any:
    return getattr(stage, what)(*arguments)


def _own_output() -> TextIO:
    """Standard output for answers alone; whatever else is printed goes to standard error."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
