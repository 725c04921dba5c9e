# SPDX-License-Identifier: Apache-2.0
"""The reference's own data files: `NAME.pkl` and `NAME_metas.npy`.

A `.pkl` holds one pickle after the other, each a dictionary of two lists of lists of ints; the
metas [3, N] say where each begins, how many rows it has, and how many of them are audio. Nothing
in such a file is ever executed: a pickle that asks for anything else is refused.
Source: OpenMOSS/MOSS-TTSD v0.7, `finetune/data_preprocess.py`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from duologue.finetune.errors import DataError
from duologue.finetune.rows import TrainingRow, count_frames
from duologue.runtime.core import IntArray

_FIELDS = ("input_ids", "labels")
_PROTOCOL = 4


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers and numbers; has no names of classes or functions at all."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it asks for an object outside the file")


def metas_path(path: Path) -> Path:
    """The file of byte offsets that belongs to a `.pkl`."""
    return path.with_name(f"{path.stem}_metas.npy")


def read_reference(path: Path) -> list[TrainingRow]:
    """Read a `.pkl` file and its metas.

    Args:
        path: the `.pkl`.

    Raises:
        DataError: a file is missing or damaged, or a pickle holds anything but dictionaries of
            lists of whole numbers.
    """
    try:
        content = path.read_bytes()
        metas = np.load(metas_path(path), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} and its metas cannot be read: {error}") from error
    if metas.ndim != 2 or len(metas) != 3 or not np.issubdtype(metas.dtype, np.integer):
        raise DataError(f"{metas_path(path)} is {list(metas.shape)}; wanted: whole numbers [3, N]")
    return [_read_one(path, content, int(offset)) for offset in metas[0]]


def write_reference(path: Path, rows: Sequence[TrainingRow]) -> None:
    """Write examples as the reference does.

    Args:
        path: the `.pkl`; the metas are written beside it.
        rows: at least one.
    """
    metas: list[tuple[int, int, int]] = []
    with path.open("wb") as file:
        for row in rows:
            metas.append((file.tell(), len(row.input_ids), count_frames(row)))
            item = {"input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()}
            pickle.dump(item, file, protocol=_PROTOCOL)
    np.save(metas_path(path), np.array(metas, dtype=np.int64).T)


def _read_one(path: Path, content: bytes, offset: int) -> TrainingRow:
    if not 0 <= offset < len(content):
        raise DataError(f"{path}: the metas point to byte {offset} of {len(content)}")
    # A view, for a file holds thousands of examples.
    stream = io.BytesIO(memoryview(content)[offset:])
    try:
        item = _PlainUnpickler(stream).load()
    except Exception as error:  # damaged pickles raise almost anything
        raise DataError(f"{path}, byte {offset}: {error!r}; nothing was executed") from error
    if not isinstance(item, dict) or set(item) != set(_FIELDS):
        raise DataError(f"{path}, byte {offset}: allowed: a dictionary of {', '.join(_FIELDS)}")
    arrays = [_table(path, offset, item[name]) for name in _FIELDS]
    if arrays[0].shape != arrays[1].shape:
        raise DataError(f"{path}, byte {offset}: ids and labels differ in shape")
    return TrainingRow(*arrays)


def _table(path: Path, offset: int, value: object) -> IntArray:
    """A list of equally long lists of ints as an array."""
    lists = list(_inner_lists(value))
    widths = {len(inner) for inner in lists}
    whole = all(type(number) is int for inner in lists for number in inner)
    if not lists or len(widths) != 1 or not whole:
        raise DataError(f"{path}, byte {offset}: allowed: equally long lists of whole numbers")
    return np.array(lists, dtype=np.int64)


def _inner_lists(value: object) -> Iterator[list[Any]]:
    outer = value if isinstance(value, list) else [None]
    for inner in outer:
        yield inner if isinstance(inner, list) else [None]
