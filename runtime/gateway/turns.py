# SPDX-License-Identifier: Apache-2.0
"""Which stretch of the caller's text each turn of the audio says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from duologue.client.types import AudioChunk
from duologue.runtime.gateway.fields import SPEAKER_TAG


@dataclass(frozen=True, slots=True)
class SourceTurn:
    """One turn as the caller wrote it.

    Attributes:
        text: without its tag.
        char_start, char_end: place of `text` in the script, or in all texts joined.
        input_idx: index of it among the caller's inputs, or None for a script.
    """

    text: str
    char_start: int
    char_end: int
    input_idx: int | None = None


def turns_of_script(script: str) -> tuple[SourceTurn, ...]:
    """The turns of a script with tags, or none where it is in another notation.

    >>> [(turn.text, turn.char_start, turn.char_end) for turn in turns_of_script("[S1]Hi.[S2] Ho.")]
    [('Hi.', 4, 7), ('Ho.', 12, 15)]
    """
    tags = list(SPEAKER_TAG.finditer(script))
    if not tags:
        return ()
    starts = [0, *(tag.end() for tag in tags)]
    ends = [*(tag.start() for tag in tags), len(script)]
    turns = []
    for start, end in zip(starts, ends, strict=True):
        text = script[start:end]
        # The server drops turns without text, and a colon behind a tag belongs to the tag.
        lead = len(text) - len(text.lstrip(" \t\r\n:："))
        if text[lead:].strip():
            stripped = text[lead:].strip()
            turns.append(SourceTurn(stripped, start + lead, start + lead + len(stripped)))
    return tuple(turns)


def turns_of_texts(texts: Sequence[str]) -> tuple[SourceTurn, ...]:
    """One turn per text; places count through all texts joined without anything between.

    >>> turns_of_texts(["Hi.", "Ho."])[1]
    SourceTurn(text='Ho.', char_start=3, char_end=6, input_idx=1)
    """
    ends = list(accumulate(len(text) for text in texts))
    pairs = enumerate(zip(texts, ends, strict=True))
    return tuple(SourceTurn(text, end - len(text), end, i) for i, (text, end) in pairs)


def script_of_texts(texts: Sequence[str], speakers: Sequence[int]) -> str:
    """A script in the JSON notation, in which no text can be taken for a tag.

    >>> script_of_texts(["Hi."], [1])
    '[{"speaker": 1, "text": "Hi."}]'
    """
    pairs = zip(texts, speakers, strict=True)
    return json.dumps([{"speaker": speaker, "text": text} for text, speaker in pairs])


@dataclass(frozen=True, slots=True)
class Segment:
    """When one turn is spoken.

    Attributes:
        voice: its name as the caller gave it.
        speaker: from 1.
        start_s, end_s: in the audio as it is sent.
        timing: "exact" or "estimated".
        source: what it says, or None where the script is in a notation without places.
    """

    voice: str
    speaker: int
    start_s: float
    end_s: float
    timing: str
    source: SourceTurn | None

    def as_json(self) -> dict[str, Any]:
        """As it goes out; the names are those of ElevenLabs' text-to-dialogue."""
        source = self.source
        return {
            "voice_id": self.voice,
            "speaker": self.speaker,
            "start_time_seconds": round(self.start_s, 3),
            "end_time_seconds": round(self.end_s, 3),
            "character_start_index": None if source is None else source.char_start,
            "character_end_index": None if source is None else source.char_end,
            "dialogue_input_index": None if source is None else source.input_idx,
            "timing": self.timing,
        }


def segments_of(
    last: AudioChunk, sources: Sequence[SourceTurn], voices: dict[int, str], speed: float
) -> list[Segment]:
    """The time line of a dialogue whose last chunk has come.

    Args:
        last: carries the time line as the model's audio has it.
        sources: what the turns say; used only where they are as many as the turns.
        voices: speaker -> name, for those that were named.
        speed: by which the audio was shortened after the model.
    """
    times = last.turn_times
    known: Sequence[SourceTurn | None] = sources
    if len(sources) != len(times):
        known = [None] * len(times)
    return [
        Segment(
            voice=voices.get(time.speaker, "default"),
            speaker=time.speaker,
            start_s=time.start_s / speed,
            end_s=time.end_s / speed,
            timing=last.turn_timing,
            source=source,
        )
        for time, source in zip(times, known, strict=True)
    ]
