# SPDX-License-Identifier: Apache-2.0
"""Speech as events: OpenAI's server-sent events, and the same objects as lines of JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any, Literal

from duologue.client.types import AudioChunk
from duologue.runtime.gateway.faults import Fault
from duologue.runtime.gateway.speaking import Piece

EventForm = Literal["sse", "ndjson"]

MEDIA_TYPES: dict[EventForm, str] = {
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
}
# OpenAI's usage counts tokens, which the door does not know: characters go in, and stretches of
# audio of this length come out.
AUDIO_TOKEN_S = 0.08

Extra = Callable[[AudioChunk], dict[str, Any]]


def no_extra(chunk: AudioChunk) -> dict[str, Any]:
    """Nothing beyond OpenAI's own fields."""
    return {}


def usage_of(num_characters: int, audio_s: float) -> dict[str, int]:
    """OpenAI's usage for a text and the audio that came of it.

    >>> usage_of(5, 0.2)
    {'input_tokens': 5, 'output_tokens': 3, 'total_tokens': 8}
    """
    spoken = math.ceil(audio_s / AUDIO_TOKEN_S)
    return {
        "input_tokens": num_characters,
        "output_tokens": spoken,
        "total_tokens": num_characters + spoken,
    }


class EventWriter:
    """Writes each piece as an event, and a last event with the usage."""

    def __init__(
        self,
        form: EventForm,
        num_characters: int,
        *,
        delta: Extra = no_extra,
        done: Extra = no_extra,
    ) -> None:
        """Describe the events.

        Args:
            form: on the wire.
            num_characters: of the script, for the usage.
            delta: further fields of an event with audio.
            done: further fields of the last event.
        """
        self.media_type = MEDIA_TYPES[form]
        self._form = form
        self._num_characters = num_characters
        self._delta = delta
        self._done = done
        self._audio_s = 0.0

    def write(self, piece: Piece) -> bytes:
        """See `answer.Writer`."""
        chunk = piece.chunk
        self._audio_s += piece.audio_s
        events = b""
        if piece.data:
            audio = base64.b64encode(piece.data).decode()
            fields = {"type": "speech.audio.delta", "audio": audio, **self._delta(chunk)}
            events = self._event(fields)
        if chunk.is_last:
            fields = {"type": "speech.audio.done", "usage": self._usage, **self._done(chunk)}
            events += self._event(fields)
        return events

    def fail(self, fault: Fault) -> bytes | None:
        """See `answer.Writer`."""
        return self._event({"type": "speech.audio.error", **fault.body})

    @property
    def _usage(self) -> dict[str, int]:
        return usage_of(self._num_characters, self._audio_s)

    def _event(self, fields: dict[str, Any]) -> bytes:
        data = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        if self._form == "ndjson":
            return f"{data}\n".encode()
        return f"event: {fields['type']}\ndata: {data}\n\n".encode()
