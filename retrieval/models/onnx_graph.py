"""A sentence encoder as an ONNX graph: token ids and mask in, unit vectors out. The only importer of onnx. Pure.

BERT is six kinds of node, so the graph is written here node by node; exporters trace it out of torch, need torch and two
more packages, take a quarter of a minute, and leave shapes and masks that no one wrote. The fp32 graph keeps to standard
operators, which other runtimes read too. The int8 graph uses ONNX Runtime's own for what it does best.

int8, after SmoothQuant (Xiao et al. 2023) and LLM.int8() (Dettmers et al. 2022): weights have a scale for each output,
activations a scale for each token, found as it comes. So a vector does not depend on what else is in the batch, as it
would with one scale for the whole tensor. A few channels of BERT are ten times as large as the others and would take the
range from them; they are divided and the weights that read them multiplied, for which the layer norm before gets a second
set of parameters. What comes out of GELU is never below -0.17, so its range starts there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from retrieval.models.files import SentenceEncoder
from shared.vectors import Float32Array

Precision = Literal["fp32", "int8"]
# By the name of the layer norm: the largest magnitude seen in each channel that comes out of it.
Magnitudes = Mapping[str, Float32Array]

INPUTS: Final = ("input_ids", "attention_mask")
_OPSET: Final = 20  # the first with Gelu
_IR_VERSION: Final = 10  # of the same year, so that no newer runtime than the one tested is asked for
_RUNTIME: Final = "com.microsoft"
_GELU_MIN: Final = -0.17
# How far large channels are evened out at the expense of the weights. Measured on MiniLM: a third of the error of 0, and
# flat from 0.5 to 0.7.
_SMOOTHING: Final = 0.7
_MASKED: Final = -1e4
_TINY: Final = 1e-12  # so that nothing is divided by 0


def build_graph(
    encoder: SentenceEncoder,
    weights: Mapping[str, Float32Array],
    *,
    magnitudes: Magnitudes | None = None,
    observe: bool = False,
) -> bytes:
    """fp32, or int8 where `magnitudes` are given. With `observe`, outputs named like the layer norms follow the vectors:
    what `magnitudes` is to be found from.
    """
    graph = _Graph()
    builder = _Builder(graph, encoder, weights, magnitudes)
    vectors = builder.encode()
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in INPUTS]
    outputs = [helper.make_tensor_value_info(vectors, TensorProto.FLOAT, ["texts", encoder.dimensions])]
    if observe:
        shape: list[str | int | None] = ["rows", encoder.dimensions]
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in builder.norms]
    made = helper.make_graph(graph.nodes, "sentence_encoder", inputs, outputs, list(graph.constants.values()))
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_RUNTIME, 1)]
    serialized: bytes = helper.make_model(made, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()
    return serialized


class _Graph:
    """Nodes and constants. A value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.require(value, requirements="C"), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(f"integers {values}", np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        return self.constant(f"number {value}", np.array(value, dtype=np.float32))

    def add(self, operator: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        output = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output


@dataclass(frozen=True, slots=True)
class _Rows:
    """Shape (texts * tokens, width). Of rows out of a layer norm it is kept how they were made, to make them smoothed."""

    value: str
    norm: str = ""
    before: str = ""


class _Builder:
    def __init__(
        self,
        graph: _Graph,
        encoder: SentenceEncoder,
        weights: Mapping[str, Float32Array],
        magnitudes: Magnitudes | None,
    ) -> None:
        self._graph = graph
        self._encoder = encoder
        self._weights = {name.removeprefix("bert."): np.asarray(value, np.float32) for name, value in weights.items()}
        self._magnitudes = magnitudes
        self.norms: list[str] = []

    def encode(self) -> str:
        graph, width = self._graph, self._encoder.dimensions
        ids, mask = INPUTS
        shape = graph.add("Shape", ids)
        real = graph.add("Cast", mask, to=TensorProto.FLOAT)
        absent = graph.add("Mul", graph.add("Sub", graph.number(1.0), real), graph.number(_MASKED))
        absent = graph.add("Unsqueeze", absent, graph.integers(1, 2))
        rows = self._norm(self._embeddings(ids, shape), "embeddings.LayerNorm")
        for layer in range(self._encoder.layers):
            rows = self._layer(rows, f"encoder.layer.{layer}", shape, absent)
        tokens = graph.add("Reshape", rows.value, graph.add("Concat", shape, graph.integers(width), axis=0))
        return self._pool(tokens, real)

    def _embeddings(self, ids: str, shape: str) -> str:
        graph = self._graph
        words = graph.constant("words", self._weights["embeddings.word_embeddings.weight"])
        # Every text is the first of its pair, so its type can be added to the places for good.
        types = self._weights["embeddings.token_type_embeddings.weight"]
        places = graph.constant("places", self._weights["embeddings.position_embeddings.weight"] + types[0])
        length = graph.add("Slice", shape, graph.integers(1), graph.integers(2))
        used = graph.add("Slice", places, graph.integers(0), length, graph.integers(0))
        return self._as_rows(graph.add("Add", graph.add("Gather", words, ids), used))

    def _as_rows(self, value: str) -> str:
        return self._graph.add("Reshape", value, self._graph.integers(-1, self._encoder.dimensions))

    def _layer(self, rows: _Rows, layer: str, shape: str, absent: str) -> _Rows:
        add = self._graph.add
        projected = self._linear(rows, *(f"{layer}.attention.self.{part}" for part in ("query", "key", "value")))
        attended = _Rows(self._attention(projected, shape, absent))
        output = self._linear(attended, f"{layer}.attention.output.dense")
        rows = self._norm(add("Add", output, rows.value), f"{layer}.attention.output.LayerNorm")
        inner = _Rows(self._linear(rows, f"{layer}.intermediate.dense", activate=True))
        outer = self._linear(inner, f"{layer}.output.dense", least=_GELU_MIN)
        return self._norm(add("Add", outer, rows.value), f"{layer}.output.LayerNorm")

    def _attention(self, projected: str, shape: str, absent: str) -> str:
        add, graph, heads = self._graph.add, self._graph, self._encoder.heads
        size = self._encoder.dimensions // heads
        split = add("Reshape", projected, add("Concat", shape, graph.integers(3, heads, size), axis=0))
        ahead = add("Transpose", split, perm=[2, 0, 3, 1, 4])
        query, key, value = (add("Gather", ahead, graph.constant(f"part {n}", np.array(n)), axis=0) for n in range(3))
        query = add("Mul", query, graph.number(size**-0.5))
        scores = add("Add", add("MatMul", query, add("Transpose", key, perm=[0, 1, 3, 2])), absent)
        mixed = add("MatMul", add("Softmax", scores, axis=-1), value)
        return self._as_rows(add("Transpose", mixed, perm=[0, 2, 1, 3]))

    def _pool(self, tokens: str, real: str) -> str:
        """Unit length makes a sum as good as a mean."""
        add, axis = self._graph.add, self._graph.integers(1)
        if self._encoder.pooling == "cls":
            pooled = add("Gather", tokens, self._graph.constant("part 0", np.array(0)), axis=1)
        else:
            pooled = add("Squeeze", add("MatMul", add("Unsqueeze", real, axis), tokens), axis)
        return add("Div", pooled, add("ReduceL2", pooled, axis, keepdims=1))

    def _norm(self, before: str, name: str) -> _Rows:
        value = self._norm_with(before, name, np.ones(1, np.float32), output=name)
        self.norms.append(name)
        return _Rows(value, norm=name, before=before)

    def _norm_with(self, before: str, name: str, divisors: Float32Array, *, output: str = "") -> str:
        constant = self._graph.constant
        kind = "" if output else " smoothed"
        scale = constant(f"{name}.weight{kind}", self._weights[f"{name}.weight"] / divisors)
        bias = constant(f"{name}.bias{kind}", self._weights[f"{name}.bias"] / divisors)
        return self._graph.add(
            "LayerNormalization", before, scale, bias, name=output, axis=-1, epsilon=self._encoder.epsilon
        )

    def _linear(self, rows: _Rows, *names: str, activate: bool = False, least: float = 0.0) -> str:
        """The layers `names` side by side, of the same rows. `least` is below what the rows hold, where that is known."""
        graph, name = self._graph, names[0]
        matrix = np.concatenate([self._weights[f"{each}.weight"] for each in names]).T
        bias = np.concatenate([self._weights[f"{each}.bias"] for each in names])
        if self._magnitudes is None:
            product = graph.add("MatMul", rows.value, graph.constant(f"{name}.weight", matrix))
            sum_ = graph.add("Add", product, graph.constant(f"{name}.bias", bias))
            return graph.add("Gelu", sum_) if activate else sum_
        value = rows.value
        if rows.norm:
            divisors = _divisors(self._magnitudes[rows.norm], matrix)
            matrix = matrix * divisors[:, None]
            value = self._norm_with(rows.before, rows.norm, divisors)
        product, shift = self._int8_product(value, matrix, name, least)
        constant = graph.constant(f"{name}.bias", (bias + shift).astype(np.float32))
        if activate:
            return graph.add("BiasGelu", product, constant, domain=_RUNTIME)
        return graph.add("Add", product, constant)

    def _int8_product(self, value: str, matrix: Float32Array, name: str, least: float) -> tuple[str, Float32Array]:
        """The product without its bias, and what must be added to the bias for it."""
        add, graph = self._graph.add, self._graph
        scales = np.maximum(np.abs(matrix).max(axis=0), _TINY) / 127
        integers = np.rint(matrix / scales).astype(np.int8)
        if least:
            value = add("Sub", value, graph.number(least))
            largest, steps, zero = add("ReduceMax", value, graph.integers(1), keepdims=0), 255, 0
        else:
            largest, steps, zero = add("ReduceMax", add("Abs", value), graph.integers(1), keepdims=0), 127, 128
        step = add("Max", add("Mul", largest, graph.number(1 / steps)), graph.number(_TINY))
        zeros = add("Expand", graph.constant(f"zero {zero}", np.array([zero], np.uint8)), add("Shape", step))
        quantized = add("QuantizeLinear", value, step, zeros, axis=0)
        product = add(
            "MatMulIntegerToFloat",
            quantized,
            graph.constant(f"{name}.integers", integers),
            graph.number(1.0),
            graph.constant(f"{name}.scales", scales.astype(np.float32)),
            graph.constant(f"byte {zero}", np.array(zero, np.uint8)),
            domain=_RUNTIME,
        )
        shift: Float32Array = (least * (integers * scales).sum(axis=0)).astype(np.float32)
        return add("Mul", product, add("Unsqueeze", step, graph.integers(1))), shift


def _divisors(magnitudes: Float32Array, matrix: Float32Array) -> Float32Array:
    """What to divide each channel by: more where activations are large, less where weights are; 1 on (geometric) average."""
    activations = np.maximum(magnitudes, _TINY) ** _SMOOTHING
    weights = np.maximum(np.abs(matrix).max(axis=1), _TINY) ** (1 - _SMOOTHING)
    ratio = activations / weights
    divisors: Float32Array = (ratio / np.exp(np.log(ratio).mean())).astype(np.float32)
    return divisors
