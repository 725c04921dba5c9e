# SPDX-License-Identifier: Apache-2.0
"""What a caller hands to the client and gets back from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt

from duologue.client.errors import EngineError, RequestError
from duologue.client.wav import WavWriter

Int16Array = npt.NDArray[np.int16]
FloatArray = npt.NDArray[np.float32]

Normalization = Literal["none", "v0.7", "v1.0"]
TextFrontend = Literal["none", "zh_en"]
Mode = Literal["auto", "one_pass", "turns"]

_FULL_SCALE = 32768.0


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """How a speaker sounds: reference audio as codes, and what is said in it.

    Attributes:
        codes: aligned codes [K, T] of the reference audio.
        transcript: the words spoken in it.
    """

    codes: npt.NDArray[np.int32]
    transcript: str = ""

    def __post_init__(self) -> None:
        if self.codes.ndim != 2:
            raise RequestError(f"Voice.codes has the shape {self.codes.shape}; allowed: [K, T]")


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """How a script is to be spoken; None leaves a choice to the server.

    Attributes:
        voices: speaker (1-based) -> codes, or the name of a voice that the server keeps.
        seed: the same seed gives the same audio; None lets the server draw one.
        greedy: True picks the most likely id everywhere.
        temperature, top_k, top_p, repetition_penalty: for all channels of the model.
        normalization: text rules applied to each turn.
        text_frontend: how numbers, dates and units are written out.
        mode: the whole script in one pass, or turn by turn; "auto" takes one pass while the
            script fits into the model's context.
        max_frames: cap on generated frames.
        deadline_s: seconds until the server gives the request up with `DeadlineError`.
        max_ahead_s: seconds of audio that the server may be ahead of the chunks taken from
            the stream; None is unpaced.
    """

    voices: Mapping[int, Voice | str] = field(default_factory=dict)
    seed: int | None = None
    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    normalization: Normalization = "none"
    text_frontend: TextFrontend = "none"
    mode: Mode = "auto"
    max_frames: int | None = None
    deadline_s: float | None = None
    max_ahead_s: float | None = None

    def __post_init__(self) -> None:
        if any(speaker < 1 for speaker in self.voices):
            raise RequestError(f"voices names speakers {sorted(self.voices)}; allowed: 1, 2, ...")
        for name in ("max_frames", "deadline_s", "max_ahead_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RequestError(f"{name} is {value!r}; allowed: a positive number")


class SpeechKwargs(TypedDict, total=False):
    """The fields of `SpeechOptions` as keyword arguments; described there."""

    voices: Mapping[int, Voice | str]
    seed: int | None
    greedy: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    repetition_penalty: float | None
    normalization: Normalization
    text_frontend: TextFrontend
    mode: Mode
    max_frames: int | None
    deadline_s: float | None
    max_ahead_s: float | None


@dataclass(frozen=True, slots=True)
class TurnTime:
    """When one turn is spoken, in seconds from the start of the audio."""

    speaker: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """A stretch of audio as it came over the wire.

    Attributes:
        samples: mono int16 [N].
        sample_rate_hz: of `samples`.
        index: place of the chunk in its stream, from 0.
        first_sample: position of samples[0] in the stream.
        turn: index of the script's turn that is spoken where the chunk begins.
        speaker: of that turn, 1-based.
        turn_timing: "exact" or "estimated": how sure `turn` is.
        stream_id: the server's name for the stream.
        seed: what the audio was made with, drawn by the server if none was given.
        is_last: no chunk follows.
        finish_reason: "stop" or "length" on the last chunk, else None.
        turn_times: the whole time line on the last chunk, else empty.
    """

    samples: Int16Array
    sample_rate_hz: int
    index: int
    first_sample: int
    turn: int
    speaker: int
    turn_timing: str
    stream_id: str
    seed: int
    is_last: bool = False
    finish_reason: str | None = None
    turn_times: tuple[TurnTime, ...] = ()

    @property
    def samples_f32(self) -> FloatArray:
        """The samples as float32 [N] in [-1, 1)."""
        return as_float(self.samples)

    @property
    def end_sample(self) -> int:
        """Position in the stream behind the last sample of the chunk."""
        return self.first_sample + len(self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A whole dialogue as audio.

    Attributes:
        samples: mono int16 [N].
        sample_rate_hz: of `samples`.
        finish_reason: "stop", or "length" when the cap on frames cut it.
        turn_times: one per turn of the script.
        seed: gives the same audio again.
    """

    samples: Int16Array
    sample_rate_hz: int
    finish_reason: str
    turn_times: tuple[TurnTime, ...]
    seed: int

    @property
    def samples_f32(self) -> FloatArray:
        """The samples as float32 [N] in [-1, 1)."""
        return as_float(self.samples)

    @property
    def duration_s(self) -> float:
        """Length of the audio in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def save(self, path: str | Path) -> None:
        """Write the audio as a WAV file."""
        with WavWriter(path, self.sample_rate_hz) as writer:
            writer.write(self.samples)


def as_float(samples: Int16Array) -> FloatArray:
    """Turn int16 samples into float32 in [-1, 1)."""
    return (samples / np.float32(_FULL_SCALE)).astype(np.float32)


def join_chunks(chunks: Iterable[AudioChunk]) -> Speech:
    """Join all chunks of one stream, in order.

    Raises:
        EngineError: the last chunk is missing.
    """
    parts = list(chunks)
    if not parts or not parts[-1].is_last:
        raise EngineError(f"the stream ended after {len(parts)} chunks, without its last one")
    last = parts[-1]
    return Speech(
        samples=np.concatenate([part.samples for part in parts]),
        sample_rate_hz=last.sample_rate_hz,
        finish_reason=last.finish_reason or "",
        turn_times=last.turn_times,
        seed=last.seed,
    )
