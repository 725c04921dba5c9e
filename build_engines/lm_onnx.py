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
        for layer in range(lm.num_layers):
            hidden = self._layer(layer, hidden)
        last = graph.node("Gather", [hidden, self._last_row()], axis=1)
        normed = self._norm(last, FINAL_NORM, output="hidden")
        self._project(normed, head_name(lm) if self._bits is None else HEAD, output="logits")
        graph.output("logits", FLOAT, ["B", lm.logit_offsets[-1]])
        graph.output("hidden", FLOAT, ["B", lm.hidden_size])
        graph.save(path)

    def _last_row(self) -> str:
        return self._graph.constant("last_row", np.array(-1, dtype=np.int64))

    def _embed(self, ids: str) -> str:
        offsets = np.array(self._lm.logit_offsets[:-1], dtype=np.int64)
        places = self._graph.node("Add", [ids, self._graph.constant("offsets", offsets)])
        # Channels first: only then does the sum round alike for one row and for many.
        first = self._graph.node("Transpose", [places], perm=[2, 0, 1])
        rows = self._graph.node("Gather", [self._weight(EMBEDDING), first], axis=0)
        return self._graph.node("ReduceSum", [rows, self._graph.ints(0)], keepdims=0)

    def _layer(self, layer: int, hidden: str) -> str:
        graph, prefix = self._graph, f"layers.{layer}."
        normed = self._norm(hidden, f"{prefix}input_layernorm.weight")
        hidden = graph.node("Add", [hidden, self._attention(layer, normed)])
        normed = self._norm(hidden, f"{prefix}post_attention_layernorm.weight")
        joined = self._project(normed, f"{prefix}gate_up_proj.weight")
        gate, up = graph.nodes(
            "Split", [joined], [f"{prefix}gate", f"{prefix}up"], axis=-1, num_outputs=2
        )
        active = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])])
        gated = graph.node("Mul", [active, up])
        return graph.node("Add", [hidden, self._project(gated, f"{prefix}down_proj.weight")])

    def _attention(self, layer: int, hidden: str) -> str:
        graph, lm, prefix = self._graph, self._lm, f"layers.{layer}."
        joined = self._project(hidden, f"{prefix}qkv_proj.weight")
        widths = [heads * lm.head_dim for heads in (lm.num_heads, lm.num_kv_heads, lm.num_kv_heads)]
        names = [f"{prefix}{part}" for part in ("query", "key", "value")]
        query, key, value = graph.nodes("Split", [joined, graph.ints(*widths)], names, axis=-1)
        query = self._rotate(self._head_norm(query, f"{prefix}q_norm.weight"))
        key = self._rotate(self._head_norm(key, f"{prefix}k_norm.weight"))
        mixed, *_ = graph.nodes(
            "GroupQueryAttention",
            [query, key, value, *self._caches("past", layer), "seqlens_k", "total_length"],
            [f"{prefix}mixed", *self._caches("present", layer)],
            MICROSOFT,
            num_heads=lm.num_heads,
            kv_num_heads=lm.num_kv_heads,
        )
        return self._project(mixed, f"{prefix}o_proj.weight")

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

    def _head_norm(self, heads: str, weight: str) -> str:
        """Normalise each head of [B, S, heads * head_dim] on its own."""
        graph = self._graph
        apart = graph.node("Reshape", [heads, graph.ints(0, 0, -1, self._lm.head_dim)])
        normed = self._norm(apart, weight)
        return graph.node("Reshape", [normed, graph.ints(0, 0, -1)])

    def _norm(self, values: str, weight: str, output: str = "") -> str:
        return self._graph.node(
            "SimplifiedLayerNormalization",
            [values, self._weight(weight)],
            name=output,
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
