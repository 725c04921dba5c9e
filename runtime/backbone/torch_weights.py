# SPDX-License-Identifier: Apache-2.0
"""The weights of a language model on a device: wide, or its matrices in 8 bits.

A matrix in 8 bits has one float32 scale per row: a number q of row n means q * scales[n]. The
numbers are whole (int8) or have 4 bits of exponent and 3 of mantissa (fp8, e4m3); every one of them
is exact in float16 and bfloat16. Embedding and norms are always wide: a step looks few rows up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from duologue.runtime.backbone.layout import (
    EMBEDDING,
    HEAD,
    lm_shapes,
    matrix_shapes,
    scales_name,
)
from duologue.runtime.backbone.tensor_file import StoredTensor, TensorFile
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError

Tensor = torch.Tensor

_NARROW = {"I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn}
_QUANTIZATIONS = {torch.int8: "int8", torch.float8_e4m3fn: "fp8"}
_WIDE = ("F32", "F16", "BF16")
_STRETCH_NUMBERS = 1 << 24
"""How many numbers are widened at once where a matrix is multiplied without kernels."""


@dataclass(frozen=True, slots=True, eq=False)
class NarrowWeight:
    """A matrix in 8 bits.

    Attributes:
        numbers: [out, in], int8 or float8_e4m3fn.
        scales: [out], float32.
    """

    numbers: Tensor
    scales: Tensor

    @property
    def quantization(self) -> str:
        """Its name, "int8" or "fp8"."""
        return _QUANTIZATIONS[self.numbers.dtype]

    def widen(self, dtype: torch.dtype) -> Tensor:
        """The matrix itself: what a number means is computed in float32 and rounded once."""
        wide = self.numbers.new_empty(self.numbers.shape, dtype=dtype)
        # Float8 has no products of its own; its numbers are exact in every wider type.
        is_whole = self.numbers.dtype == torch.int8
        numbers = self.numbers if is_whole else self.numbers.to(dtype)
        return torch.mul(numbers, self.scales[:, None], out=wide)

    def rows(self, rows: Tensor) -> NarrowWeight:
        """A matrix of its own of some rows."""
        # Numbers of few types only can be picked: bytes are among them.
        numbers = self.numbers.view(torch.uint8)[rows].view(self.numbers.dtype)
        return NarrowWeight(numbers, self.scales[rows])

    def stretches(self) -> Iterator[NarrowWeight]:
        """The matrix in stretches of rows, so that widening it needs little room."""
        num_rows = max(1, _STRETCH_NUMBERS // self.numbers.shape[1])
        cuts = (torch.split(part, num_rows) for part in (self.numbers, self.scales))
        return itertools.starmap(NarrowWeight, zip(*cuts, strict=True))


Weight: TypeAlias = Tensor | NarrowWeight
"""A matrix that values are multiplied with."""
Product = Callable[[Tensor, Tensor], Tensor]
"""Multiplies [..., in] with [out, in]."""


def multiply(values: Tensor, weight: Weight, product: Product = F.linear) -> Tensor:
    """Multiply [..., in] with a matrix [out, in], in torch's own operations."""
    if isinstance(weight, Tensor):
        return product(values, weight)
    parts = [product(values, part.widen(values.dtype)) for part in weight.stretches()]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def take_rows(weight: Weight, rows: Tensor) -> Weight:
    """A matrix of its own of some rows."""
    return weight[rows] if isinstance(weight, Tensor) else weight.rows(rows)


@dataclass(frozen=True, slots=True, eq=False)
class LmWeights:
    """What a bundle's file holds.

    Attributes:
        tensors: embedding and norms by name.
        matrices: what values are multiplied with, as `layout.matrix_shapes` names it.
    """

    tensors: dict[str, Tensor]
    matrices: dict[str, Weight]

    @property
    def quantization(self) -> str | None:
        """The name of what is narrow, "int8" or "fp8"; None if nothing is."""
        narrow = (w for w in self.matrices.values() if isinstance(w, NarrowWeight))
        return next((weight.quantization for weight in narrow), None)


def read_weights(
    lm: LmConfig,
    path: Path,
    dtype: torch.dtype,
    device: torch.device,
    *,
    keeps_narrow: bool,
) -> LmWeights:
    """Bring the weights to a device.

    Args:
        lm: shape of the model.
        path: `lm.safetensors`, or its copy with matrices in 8 bits.
        dtype: of what is wide there.
        device: where.
        keeps_narrow: matrices in 8 bits stay so; else they are widened while they are read.

    Raises:
        ConfigError: the file is damaged, or a tensor is missing, of another shape or of a type
            that this engine does not read.
    """
    stored, shapes = TensorFile(path), matrix_shapes(lm)
    tensors = {
        name: _wide(name, stored.require(name, shape), dtype, device)
        for name, shape in lm_shapes(lm).items()
        if name not in shapes
    }
    matrices: dict[str, Weight] = {}
    for name, shape in shapes.items():
        if name == HEAD and lm.tied_heads and HEAD not in stored:
            matrices[HEAD] = tensors[EMBEDDING]
        elif (found := stored.require(name, shape)).dtype not in _NARROW:
            matrices[name] = _wide(name, found, dtype, device)
        else:
            scales = stored.require(scales_name(name), shape[:1])
            weight = _narrow(found, _wide(name, scales, torch.float32, device), device)
            matrices[name] = weight if keeps_narrow else weight.widen(dtype)
    return LmWeights(tensors, matrices)


def _narrow(stored: StoredTensor, scales: Tensor, device: torch.device) -> NarrowWeight:
    numbers = torch.from_numpy(np.array(stored.data)).view(_NARROW[stored.dtype])
    return NarrowWeight(numbers.to(device), scales)


def _wide(name: str, stored: StoredTensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if stored.dtype not in _WIDE:
        raise ConfigError(f"{name} is stored as {stored.dtype}; allowed: {', '.join(_WIDE)}")
    numbers = torch.from_numpy(np.array(stored.data))
    if stored.dtype == "BF16":
        numbers = numbers.view(torch.bfloat16)
    return numbers.to(device, dtype)
