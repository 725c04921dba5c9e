# SPDX-License-Identifier: Apache-2.0
"""Renderings by espeak-ng, made once and kept: what every item should sound like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from duologue.finetune.errors import DataError
from duologue.finetune.evaluate.measures import Rendering
from duologue.finetune.speech_data.dialogues import PlannedDialogue
from duologue.finetune.speech_data.espeak import require_espeak
from duologue.finetune.speech_data.espeak import speak as espeak_says
from duologue.finetune.speech_data.maker import Speak, speak_dialogue
from duologue.runtime.audio import to_int16
from duologue.runtime.core import TurnTime

RATE_HZ = 24_000
_FULL_SCALE = 32_768.0
_KEY_DIGITS = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class EspeakCache:
    """A folder of renderings, each under a name made of what is said and by whom.

    Attributes:
        folder: made if need be.
        num_workers: renderings at a time, each with an espeak-ng of its own.
        speak: who speaks; a test takes another one.
    """

    folder: Path
    num_workers: int = 2
    speak: Speak = espeak_says

    def render(self, dialogues: Sequence[PlannedDialogue], on_progress: Progress) -> None:
        """Make what is missing; a call that was broken off goes on.

        Args:
            dialogues: of any voices and languages.
            on_progress: told how many of how many are there.

        Raises:
            EngineUnavailableError: espeak-ng is not installed, and something is missing.
        """
        by_path = {self._path(dialogue): dialogue for dialogue in dialogues}
        missing = [path for path in by_path if not path.exists()]
        if missing and self.speak is espeak_says:
            require_espeak()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Threads will do: the work is done by the processes of espeak-ng.
        with ThreadPoolExecutor(self.num_workers) as pool:
            made = pool.map(lambda path: self._make(path, by_path[path]), missing)
            for done, _ in enumerate(made, start=len(by_path) - len(missing) + 1):
                on_progress(done, len(by_path))

    def read(self, dialogue: PlannedDialogue) -> Rendering:
        """What `render` has made.

        Raises:
            DataError: it is missing or damaged.
        """
        path = self._path(dialogue)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                samples = kept["samples"].astype(np.float32) / _FULL_SCALE
                borders = kept["borders"].tolist()
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{path} cannot be read: {error!r}") from error
        turns = tuple(
            TurnTime(turn.speaker, start_s, end_s)
            for turn, (start_s, end_s) in zip(dialogue.turns, borders, strict=True)
        )
        voices = tuple(voice.name for voice in dialogue.voices)
        return Rendering(dialogue.id, dialogue.transcript, samples, RATE_HZ, turns, voices)

    def _make(self, path: Path, dialogue: PlannedDialogue) -> None:
        samples, turns = speak_dialogue(dialogue, RATE_HZ, self.speak)
        borders = np.array([(turn["start_s"], turn["end_s"]) for turn in turns])
        # A reader, or a run after a crash, sees the whole rendering or none of it.
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, samples=to_int16(samples), borders=borders)
        unfinished.rename(path)

    def _path(self, dialogue: PlannedDialogue) -> Path:
        said = repr((dialogue.turns, dialogue.voices, dialogue.tail_s))
        digest = hashlib.sha256(said.encode()).hexdigest()[:_KEY_DIGITS]
        return self.folder / f"{digest}.npz"
