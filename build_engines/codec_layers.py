# SPDX-License-Identifier: Apache-2.0
"""Layers of the XY-Tokenizer as ONNX nodes; the twins of `duologue.runtime.codec.xy.layers`.

Letters: B rows, T positions, C channels. Only plain operators are used, so that onnxruntime and
TensorRT both read the graphs: Fourier transforms are matrix products with bases of cosines and
sines, overlap-add is pad, slice and sum, and complex numbers are pairs of real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duologue.build_engines.codec_graph import GraphBuilder
from duologue.runtime.codec.xy.parameters import StackShape

NORM_EPS = 1e-5
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class Mask:
    """Which positions are valid.

    Attributes:
        bias: [B, 1, 1, T], 0 where valid and the lowest float elsewhere.
        keep: [B, T, 1], 1 where valid and 0 elsewhere.
    """

    bias: str
    keep: str


def dim_of(graph: GraphBuilder, x: str, axis: int) -> str:
    """Size of one axis, as a vector of length 1."""
    return graph.add("Shape", x, start=axis, end=axis + 1)


def slice_axis(graph: GraphBuilder, x: str, start: str, stop: str, axis: int) -> str:
    """x[start:stop] along one axis; the bounds are vectors of length 1."""
    return graph.add("Slice", x, start, stop, graph.ints(axis))


def channels_first(graph: GraphBuilder, x: str) -> str:
    """[B, T, C] <-> [B, C, T]."""
    return graph.add("Transpose", x, perm=[0, 2, 1])


def linear(graph: GraphBuilder, x: str, name: str) -> str:
    """[..., in] -> [..., out]; a convolution of one tap is read as a linear layer."""
    weight = graph.weight(f"{name}.weight")
    if name.startswith("quantizer."):
        weight = graph.add("Squeeze", weight, graph.ints(2))
    y = graph.add("MatMul", x, graph.add("Transpose", weight, perm=[1, 0]))
    bias = f"{name}.bias"
    return graph.add("Add", y, graph.weight(bias)) if graph.has_weight(bias) else y


def layer_norm(graph: GraphBuilder, x: str, name: str, eps: float = NORM_EPS) -> str:
    """Over the last axis."""
    scale, bias = graph.weight(f"{name}.weight"), graph.weight(f"{name}.bias")
    return graph.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)


def convolution(
    graph: GraphBuilder, x: str, name: str, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> str:
    """[B, in, T] -> [B, out, T']."""
    inputs = [x, graph.weight(f"{name}.weight")]
    if graph.has_weight(f"{name}.bias"):
        inputs.append(graph.weight(f"{name}.bias"))
    pads = [padding, padding]
    return graph.add("Conv", *inputs, strides=[stride], pads=pads, group=groups)


def transposed_convolution(graph: GraphBuilder, x: str, name: str, *, stride: int = 1) -> str:
    """[B, in, T] -> [B, out, (T - 1) * stride + taps]."""
    inputs = [x, graph.weight(f"{name}.weight")]
    if graph.has_weight(f"{name}.bias"):
        inputs.append(graph.weight(f"{name}.bias"))
    return graph.add("ConvTranspose", *inputs, strides=[stride])


def gelu(graph: GraphBuilder, x: str) -> str:
    """The exact one, by the error function."""
    return graph.add("Gelu", x)


def stack(graph: GraphBuilder, x: str, name: str, shape: StackShape, mask: Mask | None) -> str:
    """Positions, layers and closing norm over [B, T, C]."""
    table = graph.weight(f"{name}.positional_embedding")
    positions = slice_axis(graph, table, graph.ints(0), dim_of(graph, x, 1), 0)
    x = graph.add("Add", x, positions)
    for index in range(shape.num_layers):
        x = _layer(graph, x, f"{name}.layers.{index}", shape, mask)
    x = layer_norm(graph, x, f"{name}.layer_norm")
    return x if mask is None else graph.add("Mul", x, mask.keep)


def adapter(graph: GraphBuilder, x: str, name: str, shape: StackShape, mask: Mask | None) -> str:
    """A stack with projections where the channels around it differ."""
    if shape.input_dim != shape.d_model:
        x = linear(graph, x, f"{name}.proj")
    x = stack(graph, x, name, shape, mask)
    return x if shape.output_dim == shape.d_model else linear(graph, x, f"{name}.out_proj")


def _layer(graph: GraphBuilder, x: str, name: str, shape: StackShape, mask: Mask | None) -> str:
    y = layer_norm(graph, x, f"{name}.self_attn_layer_norm")
    x = graph.add("Add", x, _attention(graph, y, f"{name}.self_attn", shape, mask))
    y = layer_norm(graph, x, f"{name}.final_layer_norm")
    y = linear(graph, gelu(graph, linear(graph, y, f"{name}.fc1")), f"{name}.fc2")
    return graph.add("Add", x, y)


def _attention(graph: GraphBuilder, x: str, name: str, shape: StackShape, mask: Mask | None) -> str:
    head_dim = shape.d_model // shape.num_heads
    heads = graph.ints(0, 0, shape.num_heads, head_dim)

    def project(part: str, perm: list[int]) -> str:
        y = graph.add("Reshape", linear(graph, x, f"{name}.{part}_proj"), heads)
        return graph.add("Transpose", y, perm=perm)

    q, k = project("q", [0, 2, 1, 3]), project("k", [0, 2, 3, 1])
    q = graph.add("Mul", q, graph.constant(head_dim**-0.5, np.float32))
    scores = graph.add("MatMul", q, k)
    if mask is not None:
        scores = graph.add("Add", scores, mask.bias)
    weights = graph.add("Softmax", scores, axis=-1)
    y = graph.add("MatMul", weights, project("v", [0, 2, 1, 3]))
    y = graph.add("Transpose", y, perm=[0, 2, 1, 3])
    y = graph.add("Reshape", y, graph.ints(0, 0, shape.d_model))
    return linear(graph, y, f"{name}.out_proj")


def length_mask(graph: GraphBuilder, lengths: str, num_positions: str) -> Mask:
    """Mask of the positions below `lengths` [B, 1] out of `num_positions` (a vector of 1)."""
    count = graph.add("Squeeze", num_positions)
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    positions = graph.add("Range", zero, count, one)
    is_valid = graph.add("Less", positions, lengths)
    zero, one = graph.constant(0.0, np.float32), graph.constant(1.0, np.float32)
    bias = graph.add("Where", is_valid, zero, graph.constant(_LOWEST, np.float32))
    keep = graph.add("Where", is_valid, one, zero)
    return Mask(
        graph.add("Unsqueeze", bias, graph.ints(1, 2)),
        graph.add("Unsqueeze", keep, graph.ints(2)),
    )


def fourier_basis(graph: GraphBuilder, n_fft: int) -> tuple[str, str]:
    """Cosine and sine of 2 pi k n / n_fft, [n_fft / 2 + 1, n_fft] each.

    The graph holds one period of each and looks the angles up; runtimes fold this into a
    constant when they load the graph, so the file stays small.
    """
    period = 2 * np.pi * np.arange(n_fft) / n_fft
    k = graph.constant(np.arange(n_fft // 2 + 1)[:, None], np.int64)
    n = graph.constant(np.arange(n_fft)[None, :], np.int64)
    angles = graph.add("Mod", graph.add("Mul", k, n), graph.constant(n_fft, np.int64))
    cosines = graph.add("Gather", graph.constant(np.cos(period), np.float32), angles, axis=0)
    sines = graph.add("Gather", graph.constant(np.sin(period), np.float32), angles, axis=0)
    return cosines, sines
