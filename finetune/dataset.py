# SPDX-License-Identifier: Apache-2.0
"""Prepared training data on disk: plain arrays that are mapped, never unpickled.

    data/dataset.json         what the data was made for, and the shards in order
    data/shard-00000.npy      int32 [sum of T, K]: the rows of its examples, one below the other
    data/shard-00000.json     per example [rows, audio rows], and false where it breaks off
    data/shard-00000.voices.npy    int16 [sum of T], where it is known who speaks: the number of
                              the voice in the list `voices` of dataset.json, or -100

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
_VOICES_SUFFIX = ".voices.npy"


@dataclass(frozen=True, slots=True)
class Example:
    """One example as it is stored.

    Attributes:
        input_ids: [T, K].
        num_frames: audio rows at their end that are learnt.
        has_end: False for an example that breaks off, without a row that ends the speech.
        voices: [T], see `rows.TrainingRow`; all examples of a shard have them, or none.
    """

    input_ids: IntArray
    num_frames: int
    has_end: bool = True
    voices: IntArray | None = None

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
        rows = np.concatenate([example.input_ids for example in examples])
        _write_array(directory / f"{name}.npy", rows.astype(np.int32))
        voices = [example.voices for example in examples if example.voices is not None]
        if voices:
            spoken = np.concatenate(voices).astype(np.int16)
            _write_array(directory / f"{name}{_VOICES_SUFFIX}", spoken)
    _write_json(directory / f"{name}.json", index)


def has_shard(directory: Path, name: str) -> bool:
    """Whether a shard was written to its end."""
    return (directory / f"{name}.json").is_file()


def write_description(directory: Path, shards: Sequence[str], facts: dict[str, Any]) -> None:
    """Write `dataset.json`, which makes the folder a dataset.

    Args:
        directory: where the shards lie.
        shards: their names, in order.
        facts: what the data was made for; of these, `voices` is read back: names of the voices
            whose numbers the shards hold.
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
        self._spoken: list[npt.NDArray[np.int16] | None] = []
        self.voices = tuple(str(name) for name in self.description.get("voices", ()))
        self._places: list[tuple[int, int, int, int, bool]] = []
        for name in self.description["shards"]:
            self._add_shard(directory, str(name))
        if not self._places:
            raise DataError(f"{directory} holds no example")
        self.lengths = np.array([length for _, _, length, _, _ in self._places])
        self.groups = np.zeros(len(self._places), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> TrainingRow:
        """Example `index` with its labels; a copy."""
        shard, start, length, num_frames, has_end = self._places[index]
        rows = self._shards[shard][start : start + length].astype(np.int64)
        spoken = self._spoken[shard]
        voices = None if spoken is None else spoken[start : start + length].astype(np.int64)
        return label_row(rows, num_frames, has_end=has_end, voices=voices)

    def _add_shard(self, directory: Path, name: str) -> None:
        index = _read_json(directory / f"{name}.json")
        if not index:
            return
        path = directory / f"{name}.npy"
        rows = _map_array(path)
        start = 0
        for length, num_frames, *rest in index:
            place = (len(self._shards), start, int(length), int(num_frames), rest != [False])
            self._places.append(place)
            start += int(length)
        if rows.dtype != np.int32 or rows.ndim != 2 or len(rows) != start:
            found = f"{rows.dtype} {list(rows.shape)}"
            raise DataError(f"{path} holds {found}; wanted: int32 [{start}, channels]")
        self._shards.append(rows)
        self._spoken.append(self._map_voices(directory / f"{name}{_VOICES_SUFFIX}", start))

    def _map_voices(self, path: Path, num_rows: int) -> npt.NDArray[np.int16] | None:
        if not self.voices:
            return None
        voices = _map_array(path)
        if voices.dtype != np.int16 or voices.shape != (num_rows,):
            found = f"{voices.dtype} {list(voices.shape)}"
            raise DataError(f"{path} holds {found}; wanted: int16 [{num_rows}]")
        if voices.max() >= len(self.voices):
            raise DataError(f"{path} has the voice {voices.max()} of {len(self.voices)}")
        return voices


def _map_array(path: Path) -> npt.NDArray[Any]:
    try:
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return mapped


def _write_array(path: Path, values: npt.NDArray[Any]) -> None:
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    unfinished.replace(path)


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
