# SPDX-License-Identifier: Apache-2.0
"""What a dialogue looks like on its way out: events with the time line, subtitles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from duologue.client.types import AudioChunk
from duologue.runtime.gateway.faults import Fault
from duologue.runtime.gateway.fields import VoiceCodes
from duologue.runtime.gateway.speaking import Piece
from duologue.runtime.gateway.subtitles import MEDIA_TYPES, SubtitleFormat, write_subtitles
from duologue.runtime.gateway.turns import SourceTurn, segments_of

# What the time line calls a voice that came as codes.
OWN_CODES = "codes"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is to be spoken, and how its turns are found again in the audio.

    Attributes:
        script: for the model.
        text_length: characters that the caller wrote.
        sources: the turns as written.
        voices: speaker -> the voice as the caller gave it.
    """

    script: str
    text_length: int
    sources: tuple[SourceTurn, ...]
    voices: Mapping[int, str | VoiceCodes]

    @property
    def names(self) -> dict[int, str]:
        """Speaker -> what its voice is called in the time line."""
        return {k: v if isinstance(v, str) else OWN_CODES for k, v in self.voices.items()}


def delta_fields(chunk: AudioChunk, speed: float) -> dict[str, Any]:
    """Fields of an event with audio: the turn that is spoken where it begins."""
    start_s = chunk.first_sample / chunk.sample_rate_hz / speed
    return {
        "turn": chunk.turn,
        "speaker": chunk.speaker,
        "start_time_seconds": round(start_s, 3),
        "timing": chunk.turn_timing,
        "is_last": chunk.is_last,
    }


def done_fields(
    last: AudioChunk, dialogue: Dialogue, speed: float, subtitles: SubtitleFormat | None
) -> dict[str, Any]:
    """Fields of the last event: the whole time line."""
    segments = segments_of(last, dialogue.sources, dialogue.names, speed)
    fields: dict[str, Any] = {
        "voice_segments": [segment.as_json() for segment in segments],
        "duration_seconds": round(last.end_sample / last.sample_rate_hz / speed, 3),
        "finish_reason": last.finish_reason,
        "seed": last.seed,
    }
    if subtitles is not None:
        fields["subtitles"] = write_subtitles(subtitles, segments)
    return fields


class SubtitleWriter:
    """The body is the subtitles alone, when all times are known."""

    def __init__(self, form: SubtitleFormat, dialogue: Dialogue, speed: float) -> None:
        self.media_type = MEDIA_TYPES[form]
        self._form: SubtitleFormat = form
        self._dialogue = dialogue
        self._speed = speed

    def write(self, piece: Piece) -> bytes:
        """See `answer.Writer`."""
        if not piece.chunk.is_last:
            return b""
        dialogue = self._dialogue
        segments = segments_of(piece.chunk, dialogue.sources, dialogue.names, self._speed)
        return write_subtitles(self._form, segments).encode()

    def fail(self, fault: Fault) -> bytes | None:
        """See `answer.Writer`."""
        return None
