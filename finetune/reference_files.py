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

from duologue.finetune.data_files import read_array
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
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    metas = read_array(metas_path(path))
    if metas.ndim != 2 or len(metas) != 3 or not np.issubdtype(metas.dtype, np.integer):
        raise DataError(f"{metas_path(path)} is {list(metas.shape)}; wanted: whole numbers [3, N]")
    file = _Pickles(path, content)
    return [file.read(*map(int, meta)) for meta in metas.T]


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


class _Pickles:
    """A `.pkl` in memory, once for all of its examples."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._size = path, len(content)
        self._stream = io.BytesIO(content)

    def read(self, offset: int, num_rows: int, num_frames: int) -> TrainingRow:
        """The example that one column of the metas speaks of."""
        if not 0 <= offset < self._size:
            raise DataError(f"{self._path}: the metas point to byte {offset} of {self._size}")
        place = f"{self._path}, byte {offset}"
        self._stream.seek(offset)
        try:
            item = _PlainUnpickler(self._stream).load()
        except Exception as error:  # damaged pickles raise almost anything
            raise DataError(f"{place}: {error!r}; nothing was executed") from error
        if not isinstance(item, dict) or set(item) != set(_FIELDS):
            raise DataError(f"{place}: allowed: a dictionary of {', '.join(_FIELDS)}")
        ids, labels = (_table(place, item[name]) for name in _FIELDS)
        if ids.shape != labels.shape:
            raise DataError(f"{place}: ids and labels differ in shape")
        # Labels may leave out audio, such as that of the reference: they do not say how many
        # rows of it there are.
        if num_rows != len(ids) or not 0 <= num_frames <= num_rows:
            raise DataError(
                f"{place}: {len(ids)} rows; the metas speak of {num_rows}, {num_frames} of audio: "
                "do they belong to another file?"
            )
        return TrainingRow(ids, labels)


def _table(place: str, value: object) -> IntArray:
    """A list of equally long lists of ints as an array."""
    lists = list(_inner_lists(value))
    widths = {len(inner) for inner in lists}
    whole = all(type(number) is int for inner in lists for number in inner)
    if not lists or len(widths) != 1 or widths == {0} or not whole:
        raise DataError(f"{place}: allowed: equally long lists of whole numbers")
    try:
        return np.array(lists, dtype=np.int64)
    except OverflowError as error:
        raise DataError(f"{place}: a number has more than 64 bits") from error


def _inner_lists(value: object) -> Iterator[list[Any]]:
    outer = value if isinstance(value, list) else [None]
    for inner in outer:
        yield inner if isinstance(inner, list) else [None]
