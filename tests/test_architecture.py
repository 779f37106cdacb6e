"""The house keeps its shape: imports point one way, and no module or function outgrows a reader."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("shared", "retrieval", "memory", "diptych", "benchmarks", "evals")
FORBIDDEN = {
    "shared": {"retrieval", "memory", "diptych", "benchmarks", "evals", "tests"},
    "retrieval": {"memory", "diptych", "benchmarks", "evals", "tests"},
    "memory": {"retrieval", "diptych", "benchmarks", "evals", "tests"},
    "diptych": {"retrieval", "memory", "benchmarks", "evals", "tests"},
    "benchmarks": {"retrieval", "memory", "evals", "tests"},
    # How results are kept and shown is the same for both.
    "evals": {"retrieval", "memory", "tests"},
}
# What looks inside a package all the same, and why.
EXEMPT = {
    ("benchmarks/million.py", "retrieval"),  # a million texts would take hours to embed: it fills the index directly
    ("benchmarks/stored.py", "retrieval"),  # likewise, through the service's own store
    ("benchmarks/embedding.py", "retrieval"),  # the bare model, beside which the service is measured
    ("benchmarks/bare_model.py", "retrieval"),  # its batches
    ("benchmarks/bare.py", "retrieval"),  # model and indexes without the service around them
    ("benchmarks/transcripts.py", "memory"),  # made-up turns, in the type that summaries read
    ("benchmarks/compaction.py", "memory"),  # what a span says is worked out by pure modules, without a service
    ("benchmarks/memory_writes.py", "memory"),  # its store without the service around it, and the table of the bare row
    (
        "evals/ablation_memory.py",
        "memory",
    ),  # what has no switch is left out where memory's pure modules are put together
    ("evals/recall_parts.py", "memory"),  # there
    ("evals/summaries.py", "memory"),  # what a span says is worked out by pure modules, without a service
    ("evals/summarizers.py", "memory"),  # likewise
}
# One importer each, so that replacing one of them is a change in one place; two where it brings two things.
SINGLE_IMPORTERS = {
    "faiss": "retrieval/indexes/kernels.py",
    "tantivy": "retrieval/indexes/lexical.py",
    "sentence_transformers": "retrieval/models/embedder.py retrieval/models/cross_encoder.py",
    "aiohttp_sse": "shared/streaming.py",
    "pypdfium2": "retrieval/conversion/pdf.py",
    "mammoth": "retrieval/conversion/docx.py",
    "pptx": "retrieval/conversion/pptx.py",
    "python_calamine": "retrieval/conversion/sheets.py",
    "onnx": "retrieval/models/onnx_graph.py",
    "onnxruntime": "retrieval/models/onnx_embedder.py",
    "openvino": "retrieval/models/openvino_embedder.py",
    "prometheus_client.exposition": "shared/metrics.py",
    "pydantic_settings": "shared/settings.py",
    "jwt": "shared/oauth/access_tokens.py",
    "mcp": "shared/mcp/server.py shared/mcp/hosting.py diptych/mcp_relay.py diptych/mcp_upstream.py benchmarks/mcp.py",
    "httpx2": "diptych/mcp_upstream.py benchmarks/mcp.py",
    "msgpack": "shared/wire.py",
    "Stemmer": "memory/text/words.py",
    "py3langid": "memory/text/languages.py",
}
# What may be imported across all the same, and why.
# Whoever reads the environment, and why.
ENVIRONMENT_READERS = {
    "shared/settings.py",  # unknown variables are refused
    "diptych/supervisor.py",  # children inherit it
    "diptych/commands/services.py",  # as above
    "diptych/embedded.py",  # as above
    "benchmarks/memory_alone.py",  # a child inherits it
    "benchmarks/peer_process.py",  # as above
    "benchmarks/peers/memories.py",  # as above
    "benchmarks/ingest.py",  # it shows which settings the services will see
}
# The parts of a package: each may import those before it.
LAYERS = {
    "retrieval": (
        "truth",
        "models",
        "settings",
        "chunks",
        "conversion",
        "indexes",
        "jobs",
        "reindexing",
        "ingest",
        "searching",
        "feedback",
        "service",
        "agents",
        "handlers",
        "app",
        "__main__",
    ),
    "memory": (
        "settings",
        "truth",
        "text",
        "models",
        "context",
        "own_words",
        "embeddings",
        "compaction",
        "facts",
        "recall",
        "feedback",
        "forgetting",
        "transfer",
        "service",
        "ownership",
        "agents",
        "handlers",
        "app",
        "__main__",
    ),
}
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_P90_MAX = 35
# The error middleware, the loops of workers, converters and jobs, and the writer that hands errors to whoever sent the unit.
BROAD_EXCEPTS = {
    "shared/server.py": 1,
    "shared/database.py": 1,
    "shared/mcp/server.py": 1,
    "shared/threads.py": 1,
    "retrieval/models/batcher.py": 1,
    "shared/worker_process.py": 1,
    "retrieval/conversion/worker.py": 1,
    "retrieval/ingest/ingest.py": 2,
    "retrieval/ingest/runner.py": 2,
    "retrieval/indexes/projections.py": 2,
    "retrieval/indexes/tending.py": 1,
    "memory/compaction/compactor.py": 2,
    "memory/forgetting/retention.py": 1,
    "memory/embeddings.py": 1,
}


def modules(package: str) -> Iterator[tuple[str, ast.Module, str]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path.relative_to(ROOT).as_posix(), ast.parse(text), text


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.blocking
@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        (where, name)
        for where, tree, _ in modules(package)
        for name in imported(tree)
        if (top := name.split(".")[0]) in FORBIDDEN[package] and (where, top) not in EXEMPT
    ]

    assert wrong == []


@pytest.mark.blocking
@pytest.mark.parametrize("package", LAYERS)
def test_parts_build_on_those_before_them(package: str) -> None:
    layers = LAYERS[package]
    wrong = [
        (where, name)
        for where, tree, _ in modules(package)
        if (own := where.removesuffix(".py").split("/")[1]) != "__init__"
        for name in imported(tree)
        if name.startswith(f"{package}.") and layers.index(name.split(".")[1]) > layers.index(own)
    ]

    assert wrong == []


@pytest.mark.blocking
@pytest.mark.parametrize(("library", "importer"), SINGLE_IMPORTERS.items())
def test_a_library_that_may_be_replaced_has_one_importer(library: str, importer: str) -> None:
    importers = {
        where
        for package in PACKAGES
        for where, tree, _ in modules(package)
        if any(name == library or name.startswith(f"{library}.") for name in imported(tree))
    }

    assert set(importer.split()) == importers


@pytest.mark.blocking
def test_only_named_modules_read_the_environment() -> None:
    readers = {
        where
        for package in PACKAGES
        for where, tree, _ in modules(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    }

    assert readers <= ENVIRONMENT_READERS


@pytest.mark.blocking
@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_functions_fit_a_reader(package: str) -> None:
    lengths: list[int] = []
    outliers: list[str] = []
    for where, tree, text in modules(package):
        if text.count("\n") > MODULE_LINES_MAX:
            outliers.append(where)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                lengths.append(length)
                if length > FUNCTION_LINES_MAX:
                    outliers.append(f"{where}:{node.name}")

    assert outliers == []
    assert not lengths or sorted(lengths)[int(0.9 * len(lengths))] <= FUNCTION_LINES_P90_MAX


@pytest.mark.blocking
def test_broad_excepts_stand_only_in_the_loops_that_must_not_end() -> None:
    found: dict[str, int] = {}
    for package in ("shared", "retrieval", "memory", "diptych"):
        for where, tree, _ in modules(package):
            count = sum(
                isinstance(node, ast.ExceptHandler)
                and (
                    node.type is None
                    or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
                )
                for node in ast.walk(tree)
            )
            if count:
                found[where] = count

    # Catching everything in order to clean up, or to tell one kind apart, and raise it again hides nothing.
    assert {where for where in found if where not in BROAD_EXCEPTS} <= {
        "diptych/supervisor.py",
        "retrieval/indexes/lexical.py",
    }
    assert all(found.get(where, 0) <= count for where, count in BROAD_EXCEPTS.items())


@pytest.mark.blocking
@pytest.mark.parametrize("module", ["shared.server", "retrieval.app", "memory.app", "diptych.cli", "diptych"])
def test_a_module_imports_alone_and_without_warnings(module: str) -> None:
    heavy = {"torch", "sentence_transformers", "pypdfium2", "mammoth", "pptx", "python_calamine"}
    code = f"import {module}, sys; assert not {heavy} & set(sys.modules)"

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (result.returncode, result.stderr) == (0, "")
