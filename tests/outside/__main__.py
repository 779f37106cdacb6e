"""`make outside`: both services with the real model, and others' clients and checkers let loose on them."""

import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from diptych.ports import free_ports
from diptych.supervisor import Supervisor
from tests.outside import day
from tests.outside.hosting import hosting_checks
from tests.outside.programs import HERE, INSTALLED, Check, offer_diptych, run_all, succeed
from tests.outside.servers import checks_of
from tests.outside.snippets import snippet_checks, stdio_listed

_READY_TIMEOUT_S: Final = 180.0
# Good arguments for every tool there is; what deletes comes last. `$id` is that of the memory in the last answer that had one.
_RETRIEVAL_CALLS: Final[dict[str, dict[str, Any]]] = {
    "add_documents": {"collection": "inspected", "documents": [{"id": "a", "text": "Keys rotate every 90 days."}]},
    "search_documents": {"query": "how often do keys change?", "limit": 1},
    "get_document": {"ids": ["a"]},
    "list_collections": {},
    "delete_documents": {"ids": ["a"]},
}
_MEMORY_CALLS: Final[dict[str, dict[str, Any]]] = {
    "add_memory": {"text": "The office is in Lisbon."},
    "get_context": {"task": "book a flight"},
    "search_memories": {"query": "office"},
    "record_messages": {"session_id": "inspected", "messages": [{"role": "user", "content": "Hello."}]},
    "get_session": {"session_id": "inspected"},
    "update_memory": {"id": "$id", "text": "The office is in Porto."},
    "delete_memories": {"ids": ["$id"]},
}


async def main(chosen: Iterable[str]) -> int:
    """Only checks whose names have one of `chosen` in them, if there are any."""
    shutil.copytree(HERE / "clients", INSTALLED / "clients", dirs_exist_ok=True)
    shutil.copy(HERE / "day.json", INSTALLED)
    offer_diptych()
    # Of the servers in this process only what is wrong, as of the others.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="diptych-outside-") as scratch:
        retrieval_port, memory_port = free_ports(2)
        environment = {
            "DIPTYCH_DATA_DIR": str(Path(scratch) / "data"),
            "DIPTYCH_LOG_LEVEL": "error",
            "DIPTYCH_MEMORY_MCP_USER": "somebody",
        }
        async with Supervisor(
            host="127.0.0.1", retrieval_port=retrieval_port, memory_port=memory_port, environment=environment
        ) as pair:
            await pair.wait_ready(_READY_TIMEOUT_S)
            checks = _checks(Path(scratch), pair.retrieval_url, pair.memory_url)
            wanted = list(chosen)
            return await run_all(
                [check for check in checks if not wanted or any(each in check.name for each in wanted)]
            )


def _checks(scratch: Path, retrieval_url: str, memory_url: str) -> list[Check]:
    retrieval, memory = f"{retrieval_url}/mcp", f"{memory_url}/mcp"
    scripts = (("typescript_v1", ()), ("typescript_v2", ("auto",)), ("typescript_v2", ("legacy",)))
    return [
        *hosting_checks(),
        *(
            Check(f"a day with the Python SDK, {era}", partial(day.live, f"python-{era}", era, retrieval, memory))
            for era in ("auto", "legacy")
        ),
        *(
            Check(f"a day with {script} {' '.join(more)}", partial(_day_of, script, retrieval, memory, *more))
            for script, more in scripts
        ),
        *checks_of("retrieval", retrieval, _RETRIEVAL_CALLS),
        *checks_of("memory", memory, _MEMORY_CALLS),
        Check("inspector over standard input and output", partial(stdio_listed, retrieval_url, memory_url)),
        *snippet_checks(scratch, retrieval_url, memory_url, scratch / "data"),
    ]


async def _day_of(script: str, retrieval: str, memory: str, *more: str) -> str:
    name = "-".join((script.replace("_", "-"), *more))
    ended = await succeed("node", f"clients/{script}.mjs", name, retrieval, memory, *more)
    return ended.out.strip()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])) and 1)
