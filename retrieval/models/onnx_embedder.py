"""Embedding with ONNX Runtime: several times as fast as torch on a CPU, and started in a fifth of a second. The only
importer of onnxruntime.

Each batch has one thread, and as many batches are computed at once as there are cores for them. Two threads for one batch
wait for each other at every operator: on two cores that way gave 53 texts a second where this one gives 78, and a query took
4.5 ms where it takes 3.0 (int8, no spinning).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from retrieval.models.cache import cached_file
from retrieval.models.embedder import TextKind
from retrieval.models.encoder_inputs import EncoderInputs
from retrieval.models.files import WEIGHTS, SentenceEncoder
from shared.vectors import Float32Array

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from retrieval.models.onnx_graph import Precision

log = structlog.get_logger()

# Random words reach the channels that any text reaches: as good a sample as real texts (measured), and no data to ship.
_SAMPLE_SHAPE: Final = (16, 120)
_SAMPLE_SEED: Final = 7
# int8 of MiniLM agrees with fp32 to 0.9990; a model that does not survive it falls far lower.
_AGREEMENT_MIN: Final = 0.99


class PrecisionLost(ValueError):
    """The model's vectors in int8 are too far from those in fp32."""


class OnnxEmbedder:
    backend: Final = "onnx"

    def __init__(
        self, encoder: SentenceEncoder, *, name: str, precision: "Precision", models_dir: Path, threads: int
    ) -> None:
        """Loads the model, and converts it first where that was not done before: seconds, in a thread."""
        self.name = name
        self.precision = precision
        self.dimensions = encoder.dimensions
        self._inputs = EncoderInputs(encoder)
        self.tokens_max = self._inputs.tokens_max
        self.batches_at_once = threads or os.cpu_count() or 1
        self._session = _open(converted_model(encoder, name, precision, models_dir), threads=1)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        return _run(self._session, *self._inputs.encode(texts, kind))[0]

    def token_starts(self, text: str) -> Sequence[int]:
        return self._inputs.token_starts(text)


def converted_model(encoder: SentenceEncoder, name: str, precision: "Precision", models_dir: Path) -> Path:
    """The model as an ONNX file under `models_dir`, from the cache where it is there."""
    directory = models_dir / f"{Path(name).name}-{encoder.digest()[:16]}"
    return cached_file(directory, f"{precision}.onnx", lambda: _convert(encoder, precision))


def _convert(encoder: SentenceEncoder, precision: "Precision") -> bytes:
    # Imported here because the files, once made, need neither.
    from safetensors.numpy import load_file  # noqa: PLC0415

    from retrieval.models.onnx_graph import build_graph  # noqa: PLC0415

    weights = load_file(encoder.directory / WEIGHTS)
    if precision == "fp32":
        converted = build_graph(encoder, weights)
    else:
        reference = _open(build_graph(encoder, weights, observe=True), threads=0)
        ids = _sample(encoder)
        vectors, *norms = _run(reference, ids, np.ones_like(ids))
        names = [output.name for output in reference.get_outputs()[1:]]
        magnitudes = {name: np.abs(rows).max(axis=0) for name, rows in zip(names, norms, strict=True)}
        converted = build_graph(encoder, weights, magnitudes=magnitudes)
        approximate = _run(_open(converted, threads=0), ids, np.ones_like(ids))[0]
        agreement = float((vectors * approximate).sum(axis=1).min())
        if agreement < _AGREEMENT_MIN:
            raise PrecisionLost(f"its vectors in int8 agree with those in fp32 to {agreement:.3f} only")
    log.info("model_converted", directory=str(encoder.directory), precision=precision, bytes=len(converted))
    return converted


def _sample(encoder: SentenceEncoder) -> NDArray[np.int64]:
    """Random words between the first and last token of a real text."""
    words = np.random.default_rng(_SAMPLE_SEED).integers(encoder.vocabulary, size=_SAMPLE_SHAPE)
    (frame,), _ = EncoderInputs(encoder).encode([""], "document")
    words[:, 0], words[:, -1] = frame[0], frame[-1]
    return words


def _open(model: Path | bytes, threads: int) -> "InferenceSession":
    # Imported here because `--help` and other backends need not wait for it.
    import onnxruntime  # noqa: PLC0415

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Threads that spin between two operators would take the cores from the searches beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        str(model) if isinstance(model, Path) else model,
        options,
        providers=["CPUExecutionProvider"],
        # The fused operator takes eight times as long as the two that it replaces (1.32, CPU).
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def _run(session: "InferenceSession", ids: NDArray[np.int64], mask: NDArray[np.int64]) -> list[Float32Array]:
    outputs: list[Float32Array] = session.run(None, {"input_ids": ids, "attention_mask": mask})
    return outputs
