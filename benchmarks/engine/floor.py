# SPDX-License-Identifier: Apache-2.0
"""The floor: what this machine needs at least for the bytes and operations of a step.

Bytes: every weight of body and heads once per step, and the keys and values of every sequence.
Operations: two per weight and sequence, and the attention's. Both are then done on this machine
with the same number of threads: a buffer of as many bytes is read (summed), and a square matrix
product of as many operations is computed in float32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from duologue.benchmarks.engine.plan import Cell
from duologue.benchmarks.engine.samples import Floor
from duologue.benchmarks.statistics import percentile
from duologue.runtime.backbone.base import BackboneSpec
from duologue.runtime.backbone.layout import EMBEDDING, lm_shapes
from duologue.runtime.config import LmConfig

_QUANTISED_BYTES = {"int8": 1.0 + 4 / 32, "int4": 0.5 + 4 / 32}
"""Of onnx, with the float32 scale of each block of 32."""
_NARROW_BYTES = 1
"""Of torch, in int8 or fp8: the scales, one per row of thousands, do not count."""
_FLOAT32_BYTES = 4
_HALF_BYTES = 2
_REPEATS = 9


def bytes_per_weight(spec: BackboneSpec, device: str) -> float:
    """Bytes that a step reads per weight.

    On a CPU the engines widen floating point weights to float32 when they load them; quantised
    ones stay as they are.
    """
    if spec.engine == "torch" and spec.dtype in ("int8", "fp8"):
        return _NARROW_BYTES
    if spec.dtype in _QUANTISED_BYTES:
        return _QUANTISED_BYTES[spec.dtype]
    is_half = device != "cpu" and spec.dtype in ("float16", "bfloat16")
    return _HALF_BYTES if is_half else _FLOAT32_BYTES


def weights_per_step(lm: LmConfig) -> int:
    """Weights that a step multiplies by: all, but of untied embeddings only the rows looked up.

    >>> weights_per_step(LmConfig((4, 4), (0, 1), 2, 3, 1, 1, 1, 2))
    60
    """
    shapes = lm_shapes(lm)
    if not lm.tied_heads:
        shapes.pop(EMBEDDING)
    return sum(math.prod(shape) for shape in shapes.values())


def step_bytes(spec: BackboneSpec, cell: Cell, device: str) -> int:
    """Bytes that one step must read."""
    weights = weights_per_step(spec.lm) * bytes_per_weight(spec, device)
    return int(weights) + cell.batch * cell.context * spec.kv_bytes_per_row


def step_flops(lm: LmConfig, cell: Cell) -> int:
    """Operations of one step."""
    per_row = 2 * weights_per_step(lm)
    attention = 4 * cell.context * lm.num_layers * lm.num_heads * lm.head_dim
    return cell.batch * (per_row + attention)


def measure_floor(spec: BackboneSpec, cell: Cell, device: str) -> Floor:
    """Time both; the number of threads is torch's of this moment."""
    num_bytes, flops = step_bytes(spec, cell, device), step_flops(spec.lm, cell)
    buffer = torch.ones(max(1, num_bytes // _FLOAT32_BYTES), device=device)
    side = max(1, round((flops / 2) ** (1 / 3)))
    left, right = torch.ones(side, side, device=device), torch.ones(side, side, device=device)
    return Floor(
        num_bytes=num_bytes,
        flops=flops,
        bytes_s=_median_s(lambda: buffer.sum().item()),
        flops_s=_median_s(lambda: (left @ right)[0, 0].item()),
    )


def _median_s(work: Callable[[], object]) -> float:
    """The median of a few runs after one that does not count; `item` waits for a GPU."""
    work()
    durations_s = []
    for _ in range(_REPEATS):
        started_s = time.perf_counter()
        work()
        durations_s.append(time.perf_counter() - started_s)
    return percentile(durations_s, 0.5)
