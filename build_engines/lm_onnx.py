# SPDX-License-Identifier: Apache-2.0
"""The language model as an ONNX graph for onnxruntime on a CPU.

Built by hand, operator by operator, because two things matter that an exporter does not give:
keys and values are written in place (com.microsoft GroupQueryAttention with past and present in
one buffer), and the weights stay in `lm.safetensors`, which the graph points into.

Inputs: `input_ids` int64 [B, S, K]; `position_ids` int64 [B, S]; `seqlens_k` int32 [B], rows
after this call minus one; `total_length` int32 [1], the largest of them plus one; `cos`, `sin`
[R, head_dim / 2]; `past_key_i`, `past_value_i` [B, kv heads, R, head_dim] per layer. Outputs:
`logits` [B, sum(V_c)] behind the last row; `hidden` [B, hidden size], the last row behind the
final norm, for comparisons (it is on the way to the logits: unbound, it costs nothing and changes
no bit); `present_key_i`, `present_value_i`, to be bound to the buffers of the past. S > 1 needs
B = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto

from duologue.build_engines.onnx_builder import MICROSOFT, GraphBuilder
from duologue.build_engines.quantize import (
    BLOCK,
    BLOCKS_SUFFIX,
    QUANTIZED_BITS,
    SCALES_SUFFIX,
    quantized_entries,
)
from duologue.runtime.backbone.layout import EMBEDDING, FINAL_NORM, HEAD, head_name, lm_shapes
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.config import LmConfig

FLOAT = TensorProto.FLOAT
NO_SINK = np.finfo(np.float32).min
"""Of GroupQueryAttention's head_sink: adds exactly nothing to the softmax. With a sink onnxruntime
takes another path, which with a scale of 1 decodes twice as fast (measured on version 1.31 with
AVX-512, 8 heads of 32: 5.9 us instead of 12 behind 100 rows, 31 instead of 67 behind 1,000)."""
WIDEST_WITH_SINK = 64
"""Of wider heads it gains nothing (16 of 128: 424 us instead of 478, but 2,186 instead of 1,886
behind 4,000 rows)."""
ACCURACY_LEVEL = 4
"""Of MatMulNBits: activations in 8 bits. Measured with AVX-512: several times faster than level 0,
and unlike it gives a row the same bits alone and in a batch."""


def write_lm_onnx(
    lm: LmConfig, weights_path: Path, graph_path: Path, *, quantization: str | None = None
) -> None:
    """Write the graph of a language model.

    Args:
        lm: shape of the model.
        weights_path: `lm.safetensors` (see `checkpoint.write_lm_safetensors`), or its quantised
            copy; it must lie beside the graph. Weights stored narrower than float32 are widened
            when the graph is loaded.
        graph_path: the file to write.
        quantization: "int8" or "int4" if `weights_path` is a quantised copy (see `quantize`).

    Raises:
        ConfigError: the weights do not fit the model.
    """
    _LmGraph(lm, weights_path, quantization).save(graph_path)


class _LmGraph:
    def __init__(self, lm: LmConfig, weights_path: Path, quantization: str | None) -> None:
        self._lm = lm
        self._file_name = weights_path.name
        self._bits = QUANTIZED_BITS.get(quantization or "")
        stored = TensorFile(weights_path)
        shapes = lm_shapes(lm)
        if quantization is not None:
            entries = quantized_entries(lm, quantization, stored)
            shapes = {entry.name: entry.shape for entry in entries}
        self._stored = {name: stored.require(name, shape) for name, shape in shapes.items()}
        self._graph = GraphBuilder("duologue_lm")

    def save(self, path: Path) -> None:
        """Build and write the graph."""
        graph, lm = self._graph, self._lm
        ids = graph.input("input_ids", TensorProto.INT64, ["B", "S", lm.num_channels])
        graph.input("position_ids", TensorProto.INT64, ["B", "S"])
        graph.input("seqlens_k", TensorProto.INT32, ["B"])
        graph.input("total_length", TensorProto.INT32, [1])
        for table in ("cos", "sin"):
            graph.input(table, FLOAT, ["R", lm.head_dim // 2])
        hidden = self._embed(ids)
        normed = self._norm(hidden, self._weight(_input_norm(0)))
        for layer in range(lm.num_layers):
            following = _input_norm(layer + 1) if layer + 1 < lm.num_layers else FINAL_NORM
            hidden, normed = self._layer(layer, hidden, normed, following)
        last_row = graph.constant("last_row", np.array(-1, dtype=np.int64))
        graph.node("Gather", [normed, last_row], name="hidden", axis=1)
        self._project("hidden", head_name(lm) if self._bits is None else HEAD, output="logits")
        graph.output("logits", FLOAT, ["B", lm.logit_offsets[-1]])
        graph.output("hidden", FLOAT, ["B", lm.hidden_size])
        graph.save(path)

    def _embed(self, ids: str) -> str:
        offsets = np.array(self._lm.logit_offsets[:-1], dtype=np.int64)
        places = self._graph.node("Add", [ids, self._graph.constant("offsets", offsets)])
        # Channels first: only then does the sum round alike for one row and for many.
        first = self._graph.node("Transpose", [places], perm=[2, 0, 1])
        rows = self._graph.node("Gather", [self._weight(EMBEDDING), first], axis=0)
        return self._graph.node("ReduceSum", [rows, self._graph.ints(0)], keepdims=0)

    def _layer(self, layer: int, hidden: str, normed: str, following: str) -> tuple[str, str]:
        """One layer from a sum and the same normalised to the next ones.

        Each sum is computed together with the norm behind it, so the weight `following` of the
        norm behind the layer is the layer's.
        """
        mixed = self._attention(layer, normed)
        norm = f"layers.{layer}.post_attention_layernorm.weight"
        hidden, normed = self._add_and_norm(hidden, mixed, norm)
        return self._add_and_norm(hidden, self._feed_forward(layer, normed), following)

    def _feed_forward(self, layer: int, normed: str) -> str:
        graph, prefix = self._graph, f"layers.{layer}."
        joined = self._project(normed, f"{prefix}gate_up_proj.weight")
        gate, up = graph.nodes(
            "Split", [joined], [f"{prefix}gate", f"{prefix}up"], axis=-1, num_outputs=2
        )
        active = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])])
        return self._project(graph.node("Mul", [active, up]), f"{prefix}down_proj.weight")

    def _attention(self, layer: int, normed: str) -> str:
        graph, lm, prefix = self._graph, self._lm, f"layers.{layer}."
        queries, keys = (heads * lm.head_dim for heads in (lm.num_heads, lm.num_kv_heads))
        joined = self._project(normed, f"{prefix}qkv_proj.weight")
        names = [f"{prefix}{part}" for part in ("query_key", "value", "query", "key")]
        both, value = self._split(joined, (queries + keys, keys), names[:2])
        both = self._rotate(self._head_norms(prefix, both))
        query, key = self._split(both, (queries, keys), names[2:])
        rows = [*self._caches("past", layer), "seqlens_k", "total_length"]
        mixed, *_ = graph.nodes(
            "GroupQueryAttention",
            [query, key, value, *rows, *self._sink()],
            [f"{prefix}mixed", *self._caches("present", layer)],
            MICROSOFT,
            num_heads=lm.num_heads,
            kv_num_heads=lm.num_kv_heads,
            scale=1.0,
        )
        return self._project(mixed, f"{prefix}o_proj.weight")

    def _sink(self) -> list[str]:
        lm = self._lm
        if lm.head_dim > WIDEST_WITH_SINK:
            return []
        # Four inputs in front of the sink, for rotation and bias, are left out.
        none = np.full(lm.num_heads, NO_SINK, np.float32)
        return ["", "", "", "", self._graph.constant("no_sink", none)]

    def _split(self, joined: str, widths: Sequence[int], names: Sequence[str]) -> list[str]:
        return self._graph.nodes("Split", [joined, self._graph.ints(*widths)], names, axis=-1)

    def _rotate(self, heads: str) -> str:
        """Apply positions; GroupQueryAttention's own rotation wants head_dim % 16 == 0."""
        inputs = [heads, "position_ids", "cos", "sin"]
        return self._graph.node("RotaryEmbedding", inputs, domain=MICROSOFT)

    def _caches(self, tense: str, layer: int) -> list[str]:
        """Declare a layer's keys and values as inputs (past) or outputs (present)."""
        names = [f"{tense}_{kind}_{layer}" for kind in ("key", "value")]
        declare = self._graph.input if tense == "past" else self._graph.output
        for name in names:
            declare(name, FLOAT, ["B", self._lm.num_kv_heads, "R", self._lm.head_dim])
        return names

    def _head_norms(self, prefix: str, both: str) -> str:
        """Normalise each head of the queries and keys [B, S, heads * head_dim] on its own."""
        graph, head_dim = self._graph, self._lm.head_dim
        apart = graph.node("Reshape", [both, graph.ints(0, 0, -1, head_dim)])
        ones = graph.constant("ones", np.ones(head_dim, np.float32))
        normed = graph.node("Reshape", [self._norm(apart, ones), graph.ints(0, 0, -1)])
        return graph.node("Mul", [normed, self._head_weights(prefix)])

    def _head_weights(self, prefix: str) -> str:
        """Weights of both norms for all heads, folded into one constant when the graph is loaded.

        Those of the queries hold the attention's scale, too: scores that need none are faster.
        """
        graph, lm = self._graph, self._lm
        scale = graph.constant("scale", np.array(lm.head_dim**-0.5, np.float32))
        query = graph.node("Mul", [self._weight(f"{prefix}q_norm.weight"), scale])
        heads = {query: lm.num_heads, self._weight(f"{prefix}k_norm.weight"): lm.num_kv_heads}
        wide = [graph.node("Tile", [one, graph.ints(times)]) for one, times in heads.items()]
        return graph.node("Concat", wide, axis=0)

    def _add_and_norm(self, hidden: str, addend: str, weight: str) -> tuple[str, str]:
        """Returns the sum, and the sum normalised."""
        stem = weight.removesuffix(".weight")
        *_, total = self._graph.nodes(
            "SkipSimplifiedLayerNormalization",
            [hidden, addend, self._weight(weight)],
            [f"{stem}.out", "", "", f"{stem}.in"],
            MICROSOFT,
            epsilon=self._lm.rms_norm_eps,
        )
        return total, f"{stem}.out"

    def _norm(self, values: str, weight: str) -> str:
        """Normalise the last axis; the weight is a value of the graph."""
        return self._graph.node(
            "SimplifiedLayerNormalization",
            [values, weight],
            axis=-1,
            epsilon=self._lm.rms_norm_eps,
            stash_type=1,
        )

    def _project(self, values: str, weight: str, output: str = "") -> str:
        """Multiply with a weight that is stored [out, in]."""
        if self._bits is not None:
            return self._project_quantized(values, weight, output)
        return self._graph.node(
            "FusedMatMul", [values, self._weight(weight)], name=output, domain=MICROSOFT, transB=1
        )

    def _project_quantized(self, values: str, weight: str, output: str) -> str:
        shapes = lm_shapes(self._lm)
        rows, width = shapes.get(weight, shapes[EMBEDDING])
        parts = [self._weight(weight + suffix) for suffix in (BLOCKS_SUFFIX, SCALES_SUFFIX)]
        return self._graph.node(
            "MatMulNBits",
            [values, *parts],
            name=output,
            domain=MICROSOFT,
            N=rows,
            K=width,
            bits=self._bits,
            block_size=BLOCK,
            accuracy_level=ACCURACY_LEVEL,
        )

    def _weight(self, name: str) -> str:
        return self._graph.weight(name, self._stored[name], self._file_name)


def _input_norm(layer: int) -> str:
    return f"layers.{layer}.input_layernorm.weight"
