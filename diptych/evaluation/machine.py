"""What a run was made on: no path, host or user name."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

# Those that a number may depend on, here and in a service that was started for the run.
_LIBRARIES: Final = (
    "diptych",
    "faiss-cpu",
    "ir-measures",
    "numpy",
    "onnxruntime",
    "pytrec-eval-terrier",
    "rouge-score",
    "scipy",
    "sentence-transformers",
    "tantivy",
    "torch",
)
_PROCESSORS: Final = Path("/proc/cpuinfo")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    cpu: str
    cores: int
    system: str
    python: str


def this_machine() -> Machine:
    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def versions() -> dict[str, str]:
    """Of what is installed beside this process."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    if _PROCESSORS.is_file():
        for line in _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
