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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from duologue.finetune.data_files import read_array, read_json, write_array, write_json
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
    """Write one shard; a shard of no examples is allowed, for all of its lines may be unfit.

    A shard of that name is replaced; one that is broken off meanwhile counts as not written.
    """
    index_path = directory / f"{name}.json"
    index_path.unlink(missing_ok=True)
    if examples:
        rows = np.concatenate([example.input_ids for example in examples])
        write_array(directory / f"{name}.npy", rows.astype(np.int32))
        voices = [example.voices for example in examples if example.voices is not None]
        if voices:
            spoken = np.concatenate(voices).astype(np.int16)
            write_array(directory / f"{name}{_VOICES_SUFFIX}", spoken)
    write_json(index_path, [example.entry for example in examples])


def has_shard(directory: Path, name: str) -> bool:
    """Whether a shard was written to its end."""
    return (directory / f"{name}.json").is_file()


def count_examples(directory: Path, name: str) -> int:
    """How many examples a shard holds.

    Raises:
        DataError: its index is missing or damaged.
    """
    return len(_read_index(directory, name))


def read_shard(directory: Path, name: str) -> list[Example]:
    """All examples of a shard, in memory.

    Raises:
        DataError: a file is missing, damaged or cut off.
    """
    places = _read_index(directory, name)
    if not places:
        return []
    shard = _Shard(directory, name, places[-1].stop)
    voices = None if not shard.voices_path.is_file() else shard.map_voices()
    rows = shard.map_rows()
    return [
        Example(
            rows[place.start : place.stop].astype(np.int64),
            place.num_frames,
            place.has_end,
            None if voices is None else voices[place.start : place.stop].astype(np.int64),
        )
        for place in places
    ]


def write_description(directory: Path, shards: Sequence[str], facts: dict[str, Any]) -> None:
    """Write `dataset.json`, which makes the folder a dataset.

    Args:
        directory: where the shards lie.
        shards: their names, in order.
        facts: what the data was made for; of these, `voices` is read back: names of the voices
            whose numbers the shards hold.
    """
    description = {"format": DATASET_FORMAT, "shards": list(shards), **facts}
    write_json(directory / DATASET_FILE, description)


class SpeechDataset:
    """Examples in mapped files, for torch's DataLoader as well.

    A file is mapped for as long as an example is copied out of it: a map that is kept holds a
    file descriptor, and a large dataset has more shards than a process may open files.

    Args:
        directory: see the module's text.

    Raises:
        DataError: no dataset, a file is missing or cut off, or there is no example at all.
    """

    def __init__(self, directory: Path) -> None:
        self.description = _read_description(directory)
        self.voices = tuple(str(name) for name in self.description.get("voices", ()))
        self._places: list[tuple[_Shard, _Place]] = []
        for name in self.description["shards"]:
            self._add_shard(directory, str(name))
        if not self._places:
            raise DataError(f"{directory} holds no example")
        self.lengths = np.array([place.length for _, place in self._places])
        self.groups = np.zeros(len(self._places), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> TrainingRow:
        """Example `index` with its labels; a copy.

        Raises:
            DataError: its shard has changed since the dataset was opened.
        """
        shard, place = self._places[index]
        part = slice(place.start, place.stop)
        rows = shard.map_rows()[part].astype(np.int64)
        voices = shard.map_voices()[part].astype(np.int64) if self.voices else None
        return label_row(rows, place.num_frames, has_end=place.has_end, voices=voices)

    def _add_shard(self, directory: Path, name: str) -> None:
        places = _read_index(directory, name)
        if not places:
            return
        shard = _Shard(directory, name, places[-1].stop)
        shard.map_rows()
        if self.voices and (highest := shard.map_voices().max()) >= len(self.voices):
            raise DataError(f"{shard.voices_path} has the voice {highest} of {len(self.voices)}")
        self._places += [(shard, place) for place in places]


class _Place(NamedTuple):
    """Where an example lies in its shard, and what the index says of it."""

    start: int
    length: int
    num_frames: int
    has_end: bool

    @property
    def stop(self) -> int:
        return self.start + self.length


class _Shard(NamedTuple):
    """The arrays of one shard, checked against its index whenever they are mapped."""

    directory: Path
    name: str
    num_rows: int

    @property
    def voices_path(self) -> Path:
        return self.directory / f"{self.name}{_VOICES_SUFFIX}"

    def map_rows(self) -> npt.NDArray[np.int32]:
        path = self.directory / f"{self.name}.npy"
        rows = read_array(path, mapped=True)
        if rows.dtype != np.int32 or rows.ndim != 2 or len(rows) != self.num_rows:
            found = f"{rows.dtype} {list(rows.shape)}"
            raise DataError(f"{path} holds {found}; wanted: int32 [{self.num_rows}, channels]")
        return rows

    def map_voices(self) -> npt.NDArray[np.int16]:
        voices = read_array(self.voices_path, mapped=True)
        if voices.dtype != np.int16 or voices.shape != (self.num_rows,):
            found = f"{voices.dtype} {list(voices.shape)}"
            raise DataError(f"{self.voices_path} holds {found}; wanted: int16 [{self.num_rows}]")
        return voices


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / DATASET_FILE
    if not path.is_file():
        raise DataError(f"{directory} is no dataset: it has no {DATASET_FILE}")
    description = read_json(path)
    if not isinstance(description, dict) or description.get("format") != DATASET_FORMAT:
        raise DataError(f"{path} is of another format; allowed: format {DATASET_FORMAT}")
    return description


def _read_index(directory: Path, name: str) -> list[_Place]:
    places: list[_Place] = []
    for length, num_frames, *rest in read_json(directory / f"{name}.json"):
        start = places[-1].stop if places else 0
        places.append(_Place(start, int(length), int(num_frames), rest != [False]))
    return places
