"""Embedding with OpenVINO, from the same ONNX file as ONNX Runtime's fp32. The only importer of openvino, an optional
package: as fast as ONNX Runtime in the batches that a service makes, and more than twice its size.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from retrieval.models.embedder import TextKind
from retrieval.models.encoder_inputs import EncoderInputs
from retrieval.models.files import SentenceEncoder
from retrieval.models.onnx_embedder import converted_model
from shared.errors import SettingsError
from shared.vectors import Float32Array

if TYPE_CHECKING:
    from retrieval.models.onnx_graph import Precision

# Activations share a scale by this many channels of a token. Measured: 32 is a third slower, 384 doubles the error.
_GROUP_CHANNELS: Final = 128


class OpenVinoEmbedder:
    backend: Final = "openvino"
    # It has one request, with memory of its own.
    batches_at_once: Final = 1

    def __init__(
        self, encoder: SentenceEncoder, *, name: str, precision: "Precision", models_dir: Path, threads: int
    ) -> None:
        """As OnnxEmbedder. Raises SettingsError where openvino is not installed."""
        try:
            import openvino  # noqa: PLC0415 - optional, and only needed here
        except ImportError as error:
            raise SettingsError("openvino is not installed.\n  pip install 'diptych[openvino]'") from error
        self.name = name
        self.precision = precision
        self.dimensions = encoder.dimensions
        self._inputs = EncoderInputs(encoder)
        self.tokens_max = self._inputs.tokens_max
        core = openvino.Core()
        model = core.read_model(converted_model(encoder, name, "fp32", models_dir))
        if precision == "int8":
            _compress_weights(model)
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP_CHANNELS if precision == "int8" else 0,
        }
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        ids, mask = self._inputs.encode(texts, kind)
        # Copied, because the next call writes into the same memory.
        return np.array(self._request.infer({0: ids, 1: mask})[0], dtype=np.float32)

    def token_starts(self, text: str) -> Sequence[int]:
        return self._inputs.token_starts(text)


def _compress_weights(model: Any) -> None:
    """Each constant matrix as int8 with a scale an output: what lets the runtime quantize the activations that meet it."""
    from openvino import opset13  # noqa: PLC0415

    for node in model.get_ops():
        if node.get_type_name() != "MatMul" or node.input_value(1).get_node().get_type_name() != "Constant":
            continue
        matrix = node.input_value(1).get_node().data
        axis = 1 if node.get_attributes()["transpose_b"] else 0
        scales = np.maximum(np.abs(matrix).max(axis=axis, keepdims=True), 1e-12) / 127
        integers = opset13.constant(np.rint(matrix / scales).astype(np.int8))
        scaled = opset13.multiply(opset13.convert(integers, "f32"), opset13.constant(scales.astype(np.float32)))
        node.input(1).replace_source_output(scaled.output(0))
