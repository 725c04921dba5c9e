# SPDX-License-Identifier: Apache-2.0
"""Reading a safetensors file with numpy alone, without copying it into memory.

The format: 8 bytes little-endian length of the header, a JSON header
{name: {"dtype", "shape", "data_offsets"}}, then the data. Engines that map the same file
themselves (external data of an ONNX graph) get each tensor's place in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import FloatArray
from duologue.runtime.errors import ConfigError

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
NUMPY_DTYPES: dict[str, str] = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "|u1",
    "I8": "|i1",
    "BOOL": "|b1",
    "F8_E4M3": "|u1",
}
"""How each type of the format is held in numpy; bfloat16 and float8 as their raw bits."""
RAW_BITS = ("BF16", "F8_E4M3")


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor as it lies in its file.

    Attributes:
        dtype: name in the format, e.g. "F32" or "BF16".
        data: a view of the mapped file; bfloat16 as raw uint16 bits, float8 as raw uint8 bits.
        offset: first byte in the file.
    """

    dtype: str
    data: npt.NDArray[Any]
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self.data.shape

    def float32(self, rows: slice = slice(None)) -> FloatArray:
        """The tensor, or some rows of it, as float32.

        Raises:
            ConfigError: the tensor holds no floating point numbers.
        """
        if self.dtype == "BF16":
            return bfloat16_to_float32(self.data[rows])
        if self.dtype not in ("F32", "F16"):
            raise ConfigError(f"a weight is stored as {self.dtype}; allowed: F32, F16, BF16")
        return np.ascontiguousarray(self.data[rows], dtype=np.float32)


def bfloat16_to_float32(bits: npt.NDArray[np.uint16]) -> FloatArray:
    """Widen raw bfloat16 bits; exact.

    >>> bfloat16_to_float32(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def float32_to_bfloat16(values: FloatArray) -> npt.NDArray[np.uint16]:
    """Round finite float32 to the nearest bfloat16, ties to even; returns the raw bits.

    >>> [hex(bits) for bits in float32_to_bfloat16(np.array([1.0, -2.0], np.float32))]
    ['0x3f80', '0xc000']
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    last = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + last) >> np.uint32(16)).astype(np.uint16)


class TensorFile(Mapping[str, StoredTensor]):
    """The tensors of one safetensors file by name, mapped read-only.

    Args:
        path: the file.

    Raises:
        ConfigError: the file is missing, is no safetensors file, or is shorter than its
            header says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header, self._start = _read_header(path)
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)

    def __getitem__(self, name: str) -> StoredTensor:
        entry = self._header[name]
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        if dtype not in NUMPY_DTYPES:
            known = ", ".join(NUMPY_DTYPES)
            raise ConfigError(f"{self.path}: {name} is stored as {dtype}; allowed: {known}")
        begin, end = (self._start + offset for offset in entry["data_offsets"])
        wanted = math.prod(shape) * np.dtype(NUMPY_DTYPES[dtype]).itemsize
        if not 0 <= self._start <= begin <= end <= len(self._bytes) or end - begin != wanted:
            raise ConfigError(
                f"{self.path} is damaged: {name} {list(shape)} {dtype} takes {wanted} bytes, "
                f"its place is bytes {begin} to {end} of {len(self._bytes)}"
            )
        data = self._bytes[begin:end].view(NUMPY_DTYPES[dtype]).reshape(shape)
        return StoredTensor(dtype, data, begin)

    def require(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        """The tensor of that name.

        Raises:
            ConfigError: it is missing or has another shape.
        """
        if name not in self._header:
            raise ConfigError(f"{self.path} has no tensor {name}; wanted: shape {list(shape)}")
        tensor = self[name]
        if tensor.shape != shape:
            raise ConfigError(
                f"{self.path}: {name} has shape {list(tensor.shape)}; wanted: {list(shape)}"
            )
        return tensor


def _read_header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The entries of the header, and the byte at which the data begins."""
    if not path.is_file():
        raise ConfigError(f"{path} is missing; allowed: a safetensors file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = file.read(length) if length <= MAX_HEADER_BYTES else b""
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        tensors = {
            name: {
                "dtype": str(entry["dtype"]),
                "shape": [int(size) for size in entry["shape"]],
                "data_offsets": [int(offset) for offset in entry["data_offsets"]],
            }
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no safetensors file, or is cut off: {error}") from error
    return tensors, LENGTH_BYTES + length
