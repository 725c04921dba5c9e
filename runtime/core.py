# SPDX-License-Identifier: Apache-2.0
"""The travelling types: one type per doorway, from the script to the PCM chunk.

Letters used throughout: K channels, T aligned frames, S delayed rows (S = T + K - 1 for the
delays 0..K-1), B rows of a batch, V_c the vocabulary of channel c, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

Normalization = Literal["none", "v0.7", "v1.0"]
TextFrontend = Literal["none", "zh_en"]
LengthLimit = Literal["text", "model"]
Mode = Literal["auto", "one_pass", "turns"]


class FinishReason(str, Enum):
    """Why a stream ended well (errors end it with an exception instead)."""

    STOP = "stop"
    """The model said end of speech."""
    LENGTH = "length"
    """The cap on frames was reached."""


class TurnTiming(str, Enum):
    """How sure the turn of a chunk is."""

    EXACT = "exact"
    """Turns were generated one after the other."""
    ESTIMATED = "estimated"
    """By length of text between the known start and end: the model marks no turns."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of one speaker.

    Attributes:
        speaker: 1-based.
        text: what is said, without the tag.
        line: 1-based line of the script where the turn's tag stands.
        column: 1-based column of it.
    """

    speaker: int
    text: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Script:
    """Turns in the order in which they are spoken.

    Attributes:
        turns: at least one.
        format: the notation that was detected (see `duologue.runtime.text.script`).
        names: speaker number - 1 -> the name used in the script ("S1", "Alice", ...).
    """

    turns: tuple[Turn, ...]
    format: str = "tags"
    names: tuple[str, ...] = ()

    @property
    def canonical(self) -> str:
        """The script in MOSS-TTSD's own notation: `[S1]...[S2]...`."""
        return "".join(f"[S{turn.speaker}]{turn.text}" for turn in self.turns)

    @property
    def num_speakers(self) -> int:
        """The highest speaker number in use."""
        return max(turn.speaker for turn in self.turns)


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """How a speaker sounds: reference audio as codes, and what is said in it.

    Attributes:
        codes: aligned codes [K, T].
        transcript: the words spoken in the reference audio.
    """

    codes: IntArray
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class ChannelSampling:
    """How one channel picks its next id. None means: this step is left out.

    The order is repetition penalty, temperature, top-k, top-p (facts: the processors of
    Hugging Face transformers, which the reference model uses).
    """

    do_sample: bool = True
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class SamplingOverrides:
    """What one request changes in the bundle's sampling; None leaves the bundle's value.

    Attributes:
        greedy: True picks the most likely id in every channel.
        temperature, top_k, top_p, repetition_penalty: for all channels.
        channels: per-channel settings that replace the bundle's altogether, K of them.
    """

    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    channels: tuple[ChannelSampling, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SpeechRequest:
    """What one caller wants said, as it came through the door.

    Attributes:
        script: text in any notation that the script parser knows.
        voices: speaker (1-based) -> voice; speakers left out sound as the model pleases.
        voice_ids: speaker -> name of a voice of the bundle, for speakers without `voices`.
        seed: the same seed gives the same audio, whatever runs beside it; None draws one.
        sampling: changes to the bundle's sampling.
        normalization: text rules applied to each turn.
        text_frontend: how numbers, dates and units are written out.
        verbatim: in one pass, put transcripts and script into the prompt as they are written,
            white space and all, with only the tags `[S1]` replaced, as MOSS-TTSD does; else
            turns are laid out cleanly, each behind its speaker.
        mode: the whole script in one pass, or turn by turn, which has no limit of length and
            gives exact turn times; "auto" takes one pass while it fits.
        max_frames: cap on generated frames; None takes the one that `length_limit` names.
        length_limit: "text" caps the speech by the length of its text, so that a runaway ends;
            "model" stops where the reference implementation does.
        deadline_s: seconds from submission until the stream ends with `DeadlineError`.
        max_ahead_s: how far, in seconds of audio, the producer may run ahead of what the
            caller has acknowledged; None is unpaced.
        codes_only: make codes and no audio (`SpeechStream.codes`), for those who decode them
            otherwise.
    """

    script: str
    voices: dict[int, Voice] = field(default_factory=dict)
    seed: int | None = None
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    normalization: Normalization = "none"
    text_frontend: TextFrontend = "none"
    verbatim: bool = False
    mode: Mode = "auto"
    max_frames: int | None = None
    length_limit: LengthLimit = "text"
    deadline_s: float | None = None
    max_ahead_s: float | None = None
    codes_only: bool = False
    voice_ids: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What the language model reads first, before the delay is applied.

    Attributes:
        aligned_ids: [T, K]. Text rows are [token, pad, pad, ...]; voice rows are
            [speech_start + c0, c1, ..., c(K-1)].
        num_text_rows: how many of the T rows are text (the rest are voice codes).
        script: the script after normalisation, whose turns the audio follows.
    """

    aligned_ids: IntArray
    num_text_rows: int
    script: Script

    @property
    def num_rows(self) -> int:
        """T, text and voices together; the delay adds its own rows later."""
        return len(self.aligned_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """Scores of the next row, all channels side by side.

    Attributes:
        values: [B, sum(V_c)] float32; channel c lies in columns offsets[c]:offsets[c + 1].
        offsets: K + 1 column borders.
    """

    values: FloatArray
    offsets: tuple[int, ...]

    def channel(self, channel: int) -> FloatArray:
        """A view [B, V_c] of one channel."""
        return self.values[:, self.offsets[channel] : self.offsets[channel + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class CodeWindow:
    """A stretch of frames to be turned into samples.

    Attributes:
        codes: aligned codes [K, L] with L = left + hop + right.
        index: the window's place in its stream, from 0.
        first_frame: the stream's frame at which the hop begins.
        left: frames given for continuity before the hop.
        hop: frames that are newly emitted.
        right: frames of look-ahead after the hop.
        is_last: the stream ends with this hop.
    """

    codes: IntArray
    index: int
    first_frame: int
    left: int
    hop: int
    right: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class TurnTime:
    """When one turn is spoken, in seconds from the start of the audio."""

    speaker: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class PcmChunk:
    """Audio on its way to the caller.

    Attributes:
        samples: mono float32 in [-1, 1], [N].
        sample_rate_hz: of `samples`.
        index: place of the chunk in its stream, from 0.
        first_sample: position of samples[0] in the stream.
        turn: index of the script's turn that is spoken where the chunk begins.
        speaker: of that turn, 1-based.
        turn_timing: how sure `turn` is.
        is_last: no chunk follows.
        finish_reason: set on the last chunk.
        turn_times: the whole time line, set on the last chunk.
    """

    samples: FloatArray
    sample_rate_hz: int
    index: int
    first_sample: int
    turn: int
    speaker: int
    turn_timing: TurnTiming
    is_last: bool = False
    finish_reason: FinishReason | None = None
    turn_times: tuple[TurnTime, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A whole dialogue as audio: all chunks of a stream joined.

    Attributes:
        samples: mono float32 [N].
        sample_rate_hz: of `samples`.
        finish_reason: why generation ended.
        turn_times: one per turn of the script.
    """

    samples: FloatArray
    sample_rate_hz: int
    finish_reason: FinishReason
    turn_times: tuple[TurnTime, ...]

    @property
    def duration_s(self) -> float:
        """Length of the audio in seconds."""
        return len(self.samples) / self.sample_rate_hz
