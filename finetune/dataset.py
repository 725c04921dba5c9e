# SPDX-License-Identifier: Apache-2.0
"""Prepared training data on disk: plain arrays that are mapped, never unpickled.

    data/dataset.json         what the data was made for, and the shards in order
    data/shard-00000.npy      int32 [sum of T, K]: the rows of its examples, one below the other
    data/shard-00000.json     per example [rows, audio rows], and false where it breaks off

A shard's .json is written last: where it is missing, the shard is not done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.finetune.errors import DataError
from duologue.finetune.rows import TrainingRow, label_row
from duologue.runtime.core import IntArray

DATASET_FILE = "dataset.json"
DATASET_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Example:
    """One example as it is stored.

    Attributes:
        input_ids: [T, K].
        num_frames: audio rows at their end that are learnt.
        has_end: False for an example that breaks off, without a row that ends the speech.
    """

    input_ids: IntArray
    num_frames: int
    has_end: bool = True

    @property
    def entry(self) -> list[int | bool]:
        """What the shard's index says of it."""
        sizes: list[int | bool] = [len(self.input_ids), self.num_frames]
        return sizes if self.has_end else [*sizes, False]


def shard_name(index: int) -> str:
    """The stem of a shard's two files.

    >>> shard_name(3)
    'shard-00003'
    """
    return f"shard-{index:05d}"


def write_shard(directory: Path, name: str, examples: Sequence[Example]) -> None:
    """Write one shard; a shard of no examples is allowed, for all of its lines may be unfit."""
    index = [example.entry for example in examples]
    if examples:
        rows = np.concatenate([example.input_ids for example in examples]).astype(np.int32)
        unfinished = directory / f"{name}.npy.part"
        with unfinished.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        unfinished.replace(directory / f"{name}.npy")
    _write_json(directory / f"{name}.json", index)


def has_shard(directory: Path, name: str) -> bool:
    """Whether a shard was written to its end."""
    return (directory / f"{name}.json").is_file()


def write_description(directory: Path, shards: Sequence[str], facts: dict[str, Any]) -> None:
    """Write `dataset.json`, which makes the folder a dataset.

    Args:
        directory: where the shards lie.
        shards: their names, in order.
        facts: what the data was made for; `num_channels` is read back.
    """
    description = {"format": DATASET_FORMAT, "shards": list(shards), **facts}
    _write_json(directory / DATASET_FILE, description)


class SpeechDataset:
    """Examples in mapped files, for torch's DataLoader as well.

    Args:
        directory: see the module's text.

    Raises:
        DataError: no dataset, a file is missing or cut off, or there is no example at all.
    """

    def __init__(self, directory: Path) -> None:
        self.description = _read_description(directory)
        self._shards: list[npt.NDArray[np.int32]] = []
        self._places: list[tuple[int, int, int, int, bool]] = []
        for name in self.description["shards"]:
            self._add_shard(directory, str(name))
        if not self._places:
            raise DataError(f"{directory} holds no example")
        self.lengths = np.array([length for _, _, length, _, _ in self._places])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> TrainingRow:
        """Example `index` with its labels; a copy."""
        shard, start, length, num_frames, has_end = self._places[index]
        rows = self._shards[shard][start : start + length].astype(np.int64)
        return label_row(rows, num_frames, has_end=has_end)

    def _add_shard(self, directory: Path, name: str) -> None:
        index = _read_json(directory / f"{name}.json")
        if not index:
            return
        path = directory / f"{name}.npy"
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        start = 0
        for length, num_frames, *rest in index:
            place = (len(self._shards), start, int(length), int(num_frames), rest != [False])
            self._places.append(place)
            start += int(length)
        if rows.dtype != np.int32 or rows.ndim != 2 or len(rows) != start:
            found = f"{rows.dtype} {list(rows.shape)}"
            raise DataError(f"{path} holds {found}; wanted: int32 [{start}, channels]")
        self._shards.append(rows)


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / DATASET_FILE
    if not path.is_file():
        raise DataError(f"{directory} is no dataset: it has no {DATASET_FILE}")
    description = _read_json(path)
    if not isinstance(description, dict) or description.get("format") != DATASET_FORMAT:
        raise DataError(f"{path} is of another format; allowed: format {DATASET_FORMAT}")
    return description


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _write_json(path: Path, content: object) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
    unfinished.replace(path)
