# SPDX-License-Identifier: Apache-2.0
"""Writing a safetensors file piece by piece, so that memory stays bounded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from duologue.runtime.backbone.tensor_file import LENGTH_BYTES, NUMPY_DTYPES, RAW_BITS

ALIGNMENT = 64
"""Bytes: what engines that map the file like a tensor to begin on."""
_BLOCK_ELEMENTS = 1 << 22

Blocks = Callable[[str], Iterable[npt.NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What the header says of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Room that the tensor takes in the file."""
        return math.prod(self.shape) * np.dtype(NUMPY_DTYPES[self.dtype]).itemsize


def write_safetensors(
    path: Path,
    entries: Sequence[TensorEntry],
    blocks: Blocks,
) -> None:
    """Write a file; the order of `entries` does not change a byte's meaning, but its place.

    The format allows no gaps between tensors. So the data begins on a multiple of 64 bytes, and
    the tensors whose size is such a multiple come first and keep it; the others follow.

    Args:
        path: the file; replaced when everything has been written.
        entries: the tensors.
        blocks: gives, by name, the arrays which one after the other are the tensor's data.
    """
    ordered = sorted(entries, key=lambda entry: entry.num_bytes % ALIGNMENT != 0)
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            _write(file, ordered, blocks)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(file: BinaryIO, entries: Sequence[TensorEntry], blocks: Blocks) -> None:
    file.write(_header(entries))
    for entry in entries:
        begin = file.tell()
        for block in blocks(entry.name):
            file.write(np.ascontiguousarray(block, NUMPY_DTYPES[entry.dtype]).data)
        written = file.tell() - begin
        assert written == entry.num_bytes, f"{entry} got {written} bytes"


def write_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write small float32, float16, int or uint8 arrays that are in memory anyway."""
    numbers = {name: code for name, code in NUMPY_DTYPES.items() if name not in RAW_BITS}
    names = {np.dtype(code): name for name, code in numbers.items()}
    entries = [TensorEntry(name, names[array.dtype], array.shape) for name, array in arrays.items()]
    write_safetensors(path, entries, lambda name: [arrays[name]])


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut the rows of a tensor into stretches of a few million numbers.

    >>> list(row_blocks((3, 3_000_000)))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    step = max(1, _BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
    for begin in range(0, shape[0], step):
        yield slice(begin, min(begin + step, shape[0]))


def _header(entries: Sequence[TensorEntry]) -> bytes:
    offset = 0
    header: dict[str, object] = {}
    for entry in entries:
        end = offset + entry.num_bytes
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
