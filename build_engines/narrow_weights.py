# SPDX-License-Identifier: Apache-2.0
"""Weights in 8 bits for the torch engine; its activations stay as they are.

The matrices of the body and the heads get one scale per row, which a product applies once, to its
sum. Measured on random matrices of normally distributed weights: the product is off by 0.9 % (int8)
or 2.6 % (fp8) of its standard deviation. Blocks of 32 with scales of their own, as `quantize` makes
them for onnx, come to 0.5 % in int8, but read an eighth more bytes, and bytes are what a step on a
GPU waits for.
Heads that are the embedding too are stored a second time: whole rows are looked up, and a step
looks up few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from duologue.build_engines.safetensors_writer import TensorEntry, row_blocks, write_safetensors
from duologue.runtime.backbone.layout import (
    HEAD,
    head_name,
    lm_shapes,
    matrix_shapes,
    scales_name,
)
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import ConfigError

NARROW_DTYPES = {"int8": "I8", "fp8": "F8_E4M3"}
"""Name of a precision -> its type in a safetensors file."""
LARGEST = {"int8": 127.0, "fp8": 448.0}
"""What the largest number of each row becomes."""


def row_scales(values: FloatArray, dtype: str) -> FloatArray:
    """Scales [N] of rows [N, K]: each row's largest number takes the end of the range."""
    scales: FloatArray = np.abs(values).max(axis=1) / np.float32(LARGEST[dtype])
    return scales


def narrow_rows(values: FloatArray, dtype: str) -> npt.NDArray[Any]:
    """Write rows in 8 bits.

    Args:
        values: [N, K].
        dtype: "int8" or "fp8".

    Returns:
        Numbers [N, K], int8 or the bits of float8 (e4m3) as uint8; a number q of row n means
        q * row_scales[n].
    """
    scales = row_scales(values, dtype)[:, None]
    steps = values / np.where(scales == 0, np.float32(1), scales)
    if dtype == "int8":
        numbers: npt.NDArray[Any] = np.rint(steps).astype(np.int8)
        return numbers
    return torch.from_numpy(steps).to(torch.float8_e4m3fn).view(torch.uint8).numpy()


def write_narrow_safetensors(
    lm: LmConfig, weights_path: Path, narrow_path: Path, dtype: str
) -> None:
    """Write a copy of `lm.safetensors` with its matrices in 8 bits, a few megabytes at a time.

    Args:
        lm: shape of the model.
        weights_path: `lm.safetensors`.
        narrow_path: the file to write.
        dtype: "int8" or "fp8".

    Raises:
        ConfigError: the precision is unknown, a weight is no number, or the weights do not fit
            the model.
    """
    if dtype not in NARROW_DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; allowed: {', '.join(NARROW_DTYPES)}")
    stored, matrices = TensorFile(weights_path), matrix_shapes(lm)
    sources = {name: stored.require(name, shape) for name, shape in lm_shapes(lm).items()}
    sources[HEAD] = sources[head_name(lm)]
    of_scales = {scales_name(name): name for name in matrices}

    def blocks(name: str) -> Iterator[npt.NDArray[Any]]:
        if name not in of_scales and name not in matrices:
            yield sources[name].data
            return
        source = sources[of_scales.get(name, name)]
        for rows in row_blocks(source.shape):
            values = source.float32(rows)
            if not np.isfinite(values).all():
                raise ConfigError(f"{name} holds what is no number; allowed: finite weights")
            if name in matrices:
                yield narrow_rows(values, dtype)
            else:
                yield row_scales(values, dtype)

    write_safetensors(narrow_path, _entries(lm, dtype, stored), blocks)


def _entries(lm: LmConfig, dtype: str, stored: TensorFile) -> list[TensorEntry]:
    """What the file holds."""
    matrices = matrix_shapes(lm)
    entries = []
    for name, shape in {**lm_shapes(lm), HEAD: matrices[HEAD]}.items():
        if name not in matrices:
            entries.append(TensorEntry(name, stored[name].dtype, shape))
            continue
        entries.append(TensorEntry(name, NARROW_DTYPES[dtype], shape))
        entries.append(TensorEntry(scales_name(name), "F32", shape[:1]))
    return entries
