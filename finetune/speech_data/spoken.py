# SPDX-License-Identifier: Apache-2.0
"""Dialogues that were made here and encoded: codes with the borders of turns.

Beside `blocks/NAME.jsonl`, which says what was spoken (see `maker`), `codes/NAME.npz` holds
id -> codes int16 [K, T], as `encode_blocks` writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duologue.finetune.errors import DataError
from duologue.finetune.prepare import Encode
from duologue.runtime.core import IntArray

_BLOCKS, _CODES = "blocks", "codes"
# What belongs to a turn before its first and after its last sound.
_BEFORE_S, _AFTER_S = 0.10, 0.15


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """One turn of a dialogue.

    Attributes:
        speaker: 1 or 2.
        text: what is said.
        start_s, end_s: first and last sound, in seconds of the dialogue.
    """

    speaker: int
    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class SpokenDialogue:
    """A dialogue as codes.

    Attributes:
        id: names it.
        language: of its text.
        voices: names of the voices of speakers 1 and 2.
        turns: in order.
        codes: aligned codes [K, T].
    """

    id: str
    language: str
    voices: tuple[str, ...]
    turns: tuple[SpokenTurn, ...]
    codes: IntArray

    def voice_of(self, turn: SpokenTurn) -> str:
        """Name of the voice that speaks a turn."""
        return self.voices[turn.speaker - 1]

    def speakers(self, first: int, last: int, frames_per_s: float) -> IntArray:
        """Who speaks each frame of `cut`: [T'], 1 or 2, and 0 between turns."""
        start, stop = self._span(first, last, frames_per_s)
        speakers = np.zeros(stop - start, dtype=np.int64)
        for turn in self.turns[first : last + 1]:
            begin = max(0, int((turn.start_s - _BEFORE_S) * frames_per_s) - start)
            speakers[begin : math.ceil(turn.end_s * frames_per_s) - start] = turn.speaker
        return speakers

    def cut(self, first: int, last: int, frames_per_s: float) -> IntArray:
        """Codes [K, T'] of turns `first` to `last`, both included."""
        start, stop = self._span(first, last, frames_per_s)
        return self.codes[:, start:stop]

    def _span(self, first: int, last: int, frames_per_s: float) -> tuple[int, int]:
        start, stop = 0, self.codes.shape[1]
        if first > 0:
            start = max(0, int((self.turns[first].start_s - _BEFORE_S) * frames_per_s))
        if last < len(self.turns) - 1:
            end_s = self.turns[last].end_s + _AFTER_S
            stop = min(stop, math.ceil(end_s * frames_per_s))
        return start, max(start, stop)


def encode_blocks(
    data_dir: Path, encode: Encode, *, on_progress: Callable[[int, int], None] | None = None
) -> None:
    """Encode the audio of all blocks that have no codes yet.

    Args:
        data_dir: as `maker.make_data` filled it.
        encode: path of a recording -> codes [K, T].
        on_progress: told how many blocks of how many have codes.

    Raises:
        DataError: there is no block.
    """
    blocks = _blocks(data_dir)
    (data_dir / _CODES).mkdir(exist_ok=True)
    for done, block in enumerate(blocks, start=1):
        path = _codes_path(block)
        if not path.exists():
            codes = {row["id"]: encode(data_dir / row["file_path"]) for row in _rows(block)}
            small = {name: value.astype(np.int16) for name, value in codes.items()}
            # A reader, or a run after a crash, sees the whole block or none of it.
            unfinished = path.with_suffix(".tmp")
            with unfinished.open("wb") as file:
                np.savez(file, allow_pickle=False, **small)
            unfinished.rename(path)
        if on_progress is not None:
            on_progress(done, len(blocks))


def read_spoken(data_dir: Path, split: str) -> Iterator[SpokenDialogue]:
    """All dialogues of a split that have codes.

    Args:
        data_dir: see the module's text.
        split: "train" or "test".

    Raises:
        DataError: there is no block, or codes cannot be read.
    """
    for block in _blocks(data_dir):
        path = _codes_path(block)
        if not block.name.startswith(f"{split}-") or not path.exists():
            continue
        try:
            with np.load(path, allow_pickle=False) as codes:
                yield from [_dialogue(row, codes[row["id"]]) for row in _rows(block)]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def _dialogue(row: dict[str, Any], codes: IntArray) -> SpokenDialogue:
    turns = tuple(
        SpokenTurn(turn["speaker"], turn["text"], turn["start_s"], turn["end_s"])
        for turn in row["turns"]
    )
    voices = tuple(row["voices"])
    return SpokenDialogue(row["id"], row["language"], voices, turns, codes.astype(np.int64))


def _blocks(data_dir: Path) -> Sequence[Path]:
    blocks = sorted((data_dir / _BLOCKS).glob("*.jsonl"))
    if not blocks:
        raise DataError(f"{data_dir} holds no block of dialogues; see finetune.speech_data")
    return blocks


def _codes_path(block: Path) -> Path:
    return block.parent.with_name(_CODES) / f"{block.stem}.npz"


def _rows(block: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in block.read_text(encoding="utf-8").splitlines()]
