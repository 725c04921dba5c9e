# SPDX-License-Identifier: Apache-2.0
"""The frozen dialogues that all streams are measured with.

`workloads/` holds a dialogue per language (en, zh) and length (30, 60, 120, 600 seconds at a
usual pace). Each can be spoken with reference voices ("en_30s_voices"): what a voice costs is
decided by its length, so its codes are drawn from a frozen seed and fit every model.

A model may speak faster or slower, and an untrained one does not stop by itself, so a request's
frames are capped at the workload's seconds; reports state the audio that really came.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duologue.client.errors import RequestError
from duologue.client.types import SpeechKwargs, Voice

WORKLOAD_DIR = Path(__file__).parent / "workloads"
LANGUAGES = ("en", "zh")
LENGTHS_S = (30, 60, 120, 600)
WITH_VOICES = "_voices"
_VOICES_FILE = "voices.json"


@dataclass(frozen=True, slots=True)
class CodeShape:
    """What a model's codes look like.

    Attributes:
        num_codebooks: K.
        codebook_size: codes per codebook.
        frame_rate_hz: frames per second.
    """

    num_codebooks: int
    codebook_size: int
    frame_rate_hz: float

    def frames(self, seconds: float) -> int:
        """Frames of so many seconds, at least one."""
        return max(1, math.ceil(seconds * self.frame_rate_hz))


@dataclass(frozen=True, slots=True)
class WorkloadVoice:
    """A reference voice by its length; see the module's text.

    Attributes:
        speaker: 1-based.
        seconds: of reference audio.
        seed: its codes are drawn from it.
        transcript: as long as what is said in so many seconds.
    """

    speaker: int
    seconds: float
    seed: int
    transcript: str

    def voice(self, shape: CodeShape) -> Voice:
        """The voice as a client sends it, with codes [K, T]."""
        generator = np.random.default_rng(self.seed)
        size = (shape.num_codebooks, shape.frames(self.seconds))
        codes = generator.integers(0, shape.codebook_size, size, dtype=np.int32)
        return Voice(codes, self.transcript)


@dataclass(frozen=True, slots=True)
class Workload:
    """One dialogue.

    Attributes:
        name: e.g. "zh_120s_voices".
        language: "en" or "zh".
        seconds: how long it takes at a usual pace; requests are capped there.
        script: in the notation `[S1]...[S2]...`.
        voices: none, or one per speaker.
    """

    name: str
    language: str
    seconds: int
    script: str
    voices: tuple[WorkloadVoice, ...] = ()

    def options(
        self, shape: CodeShape, seed: int, max_seconds: float | None = None
    ) -> SpeechKwargs:
        """Options for `DialogueClient.stream`.

        Args:
            shape: of the model's codes.
            seed: of this request.
            max_seconds: a lower cap than the workload's own.
        """
        seconds = self.seconds if max_seconds is None else min(self.seconds, max_seconds)
        return {
            "voices": {voice.speaker: voice.voice(shape) for voice in self.voices},
            "seed": seed,
            "max_frames": shape.frames(seconds),
        }


def workload_names() -> list[str]:
    """All names, short dialogues first."""
    return [
        f"{language}_{seconds}s{suffix}"
        for seconds in LENGTHS_S
        for language in LANGUAGES
        for suffix in ("", WITH_VOICES)
    ]


def load_workload(name: str) -> Workload:
    """Read one of the frozen dialogues.

    Raises:
        RequestError: there is none of that name.
    """
    if name not in workload_names():
        raise RequestError(f"workload is {name!r}; allowed: {', '.join(workload_names())}")
    plain = name.removesuffix(WITH_VOICES)
    content = _read(f"{plain}.json")
    script = "".join(f"[S{turn['speaker']}]{turn['text']}" for turn in content["turns"])
    voices = _read(_VOICES_FILE)[content["language"]] if name != plain else []
    return Workload(
        name=name,
        language=content["language"],
        seconds=content["seconds"],
        script=script,
        voices=tuple(WorkloadVoice(**voice) for voice in voices),
    )


def _read(file_name: str) -> Any:
    return json.loads((WORKLOAD_DIR / file_name).read_text(encoding="utf-8"))
