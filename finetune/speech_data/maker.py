# SPDX-License-Identifier: Apache-2.0
"""Speak planned dialogues into a folder: WAV files and `dialogues.jsonl`.

One line of `dialogues.jsonl` per dialogue: `file_path` and `full_transcript` as the fine-tuning
pipeline reads them, and beside them `id`, `language`, `voices` (of S1 and S2), `duration_s` and
`turns` (`speaker`, `text`, `start_s`, `end_s`).

Work is done in blocks. A block that is finished has a file under `blocks/`, so a run that was
stopped goes on where it was, and the result is the same however many processes made it.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from duologue.finetune.speech_data.dialogues import (
    PlannedDialogue,
    Sentences,
    Split,
    plan_dialogue,
)
from duologue.finetune.speech_data.english import SentenceMaker
from duologue.finetune.speech_data.espeak import ESPEAK_RATE_HZ, require_espeak, speak
from duologue.finetune.speech_data.lexicon import Lexicon
from duologue.finetune.speech_data.voices import EspeakVoice
from duologue.runtime.audio import to_int16
from duologue.runtime.core import FloatArray

INDEX_FILE = "dialogues.jsonl"
_BLOCKS_DIR, _AUDIO_DIR = "blocks", "audio"
# Root mean square of every turn; leaves room for the peaks of the sharpest voice.
_LEVEL = 0.09
_PEAK = 0.95

Speak = Callable[[str, EspeakVoice], FloatArray]


@dataclass(frozen=True, slots=True)
class DataPlan:
    """What is to be made.

    Attributes:
        directory: where it goes.
        num_dialogues: how many.
        seed: the same seed makes the same dialogues.
        split: "train", or "test" for text that training never shows.
        language: "en" or "cmn".
        default_share: share of dialogues spoken by the default voices.
        further_voices: draw the others from `FURTHER_VOICES`, too.
        sample_rate_hz: of the WAV files.
        block_size: dialogues that one process makes at a time.
    """

    directory: Path
    num_dialogues: int
    seed: int = 0
    split: Split = "train"
    language: str = "en"
    default_share: float = 0.6
    further_voices: bool = False
    sample_rate_hz: int = 24_000
    block_size: int = 50

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.num_dialogues // self.block_size)


def make_data(
    plan: DataPlan, *, num_processes: int, on_progress: Callable[[int], None] | None = None
) -> Path:
    """Make what is missing, then write the index.

    Args:
        plan: what to make.
        num_processes: how many work at the same time.
        on_progress: told how many dialogues exist, after every block.

    Returns:
        Path of the index.

    Raises:
        EngineUnavailableError: espeak-ng is not installed.
        ConfigError: the word lists are not installed.
    """
    require_espeak()
    sentence_maker(plan.language, plan.split)
    (plan.directory / _BLOCKS_DIR).mkdir(parents=True, exist_ok=True)
    (plan.directory / _AUDIO_DIR).mkdir(exist_ok=True)
    missing = [b for b in range(plan.num_blocks) if not _block_path(plan, b).exists()]
    with multiprocessing.get_context("fork").Pool(num_processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(_Worker(plan), missing), start=1):
            if on_progress is not None:
                num_blocks = plan.num_blocks - len(missing) + done
                on_progress(min(plan.num_dialogues, num_blocks * plan.block_size))
    return _write_index(plan)


@dataclass(frozen=True, slots=True)
class _Worker:
    plan: DataPlan

    def __call__(self, block: int) -> None:
        rows = list(make_block(self.plan, block, speak))
        path = _block_path(self.plan, block)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        # A reader, or a run after a crash, sees the whole block or none of it.
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.rename(path)


@cache
def sentence_maker(language: str, split: Split) -> Sentences:
    """The maker of sentences, read once per process."""
    if language == "cmn":
        from duologue.finetune.speech_data.mandarin import MandarinSentences

        return MandarinSentences(held_out=split == "test")
    return SentenceMaker(Lexicon.load(), held_out=split == "test")


def make_block(plan: DataPlan, block: int, speak: Speak) -> Iterator[dict[str, Any]]:
    """Speak one block of dialogues and write their audio; yields the rows of the index."""
    start = block * plan.block_size
    for index in range(start, min(start + plan.block_size, plan.num_dialogues)):
        dialogue = plan_dialogue(
            sentence_maker(plan.language, plan.split),
            seed=plan.seed,
            index=index,
            split=plan.split,
            language=plan.language,
            default_share=plan.default_share,
            further_voices=plan.further_voices,
        )
        samples, turns = speak_dialogue(dialogue, plan.sample_rate_hz, speak)
        file_path = f"{_AUDIO_DIR}/{dialogue.id}.wav"
        soundfile.write(plan.directory / file_path, to_int16(samples), plan.sample_rate_hz)
        yield {
            "id": dialogue.id,
            "file_path": file_path,
            "full_transcript": dialogue.transcript,
            "language": dialogue.language,
            "voices": [voice.name for voice in dialogue.voices],
            "duration_s": round(len(samples) / plan.sample_rate_hz, 3),
            "turns": turns,
        }


def speak_dialogue(
    dialogue: PlannedDialogue, sample_rate_hz: int, speak: Speak
) -> tuple[FloatArray, list[dict[str, Any]]]:
    """Speak all turns, one after the other.

    Returns:
        Mono samples [N] at `sample_rate_hz`, and speaker, text and borders of each turn.
    """
    pieces: list[FloatArray] = []
    turns = []
    position = 0
    for turn in dialogue.turns:
        pause = np.zeros(round(turn.pause_s * ESPEAK_RATE_HZ), dtype=np.float32)
        spoken = at_level(speak(turn.text, dialogue.voices[turn.speaker - 1]))
        start = position + len(pause)
        position = start + len(spoken)
        pieces += [pause, spoken]
        borders = {"start_s": start / ESPEAK_RATE_HZ, "end_s": position / ESPEAK_RATE_HZ}
        rounded = {name: round(value, 3) for name, value in borders.items()}
        turns.append({"speaker": turn.speaker, "text": turn.text, **rounded})
    pieces.append(np.zeros(round(dialogue.tail_s * ESPEAK_RATE_HZ), dtype=np.float32))
    joined = np.concatenate(pieces)
    return soxr.resample(joined, ESPEAK_RATE_HZ, sample_rate_hz).astype(np.float32), turns


def at_level(samples: FloatArray) -> FloatArray:
    """The same loudness for every voice."""
    if len(samples) == 0:
        return samples
    level = float(np.sqrt(np.mean(np.square(samples))))
    gain = min(_LEVEL / level, _PEAK / float(np.abs(samples).max()))
    return (samples * gain).astype(np.float32)


def _block_path(plan: DataPlan, block: int) -> Path:
    name = f"{plan.split}-{plan.language}-{block:05d}.jsonl"
    return plan.directory / _BLOCKS_DIR / name


def _write_index(plan: DataPlan) -> Path:
    """Join all blocks that lie in the folder, those of other runs too."""
    path = plan.directory / INDEX_FILE
    blocks = sorted((plan.directory / _BLOCKS_DIR).glob("*.jsonl"))
    path.write_text("".join(b.read_text(encoding="utf-8") for b in blocks), encoding="utf-8")
    return path
