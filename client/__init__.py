# SPDX-License-Identifier: Apache-2.0
"""The client of duologue: a script in, audio out while it is still being made.

    from duologue.client import DialogueClient, WavWriter

    script = "[S1]Have you had breakfast?[S2]Not yet. Coffee first."
    with DialogueClient("localhost:8001") as client:
        with WavWriter("talk.wav", client.sample_rate_hz) as wav:
            for chunk in client.stream(script, seed=7):
                wav.write(chunk.samples)
        speech = client.synthesize(script, seed=7)
    print(speech.duration_s, speech.turn_times)

`AsyncDialogueClient` has the same verbs for asyncio. Needs numpy and tritonclient[grpc].
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from duologue.client.errors import (
    CancelledError,
    CapacityError,
    DeadlineError,
    DuologueError,
    EngineError,
    EngineUnavailableError,
    PromptTooLongError,
    RequestError,
    ScriptError,
    ServerUnavailableError,
    StreamTimeoutError,
    VoiceError,
)
from duologue.client.types import AudioChunk, Speech, SpeechOptions, TurnTime, Voice
from duologue.client.wav import WavWriter

if TYPE_CHECKING:
    from duologue.client.aio_client import AsyncDialogueClient
    from duologue.client.aio_stream import AsyncSpeechStream
    from duologue.client.grpc_client import DialogueClient
    from duologue.client.stream import SpeechStream

__all__ = [
    "AsyncDialogueClient",
    "AsyncSpeechStream",
    "AudioChunk",
    "CancelledError",
    "CapacityError",
    "DeadlineError",
    "DialogueClient",
    "DuologueError",
    "EngineError",
    "EngineUnavailableError",
    "PromptTooLongError",
    "RequestError",
    "ScriptError",
    "ServerUnavailableError",
    "Speech",
    "SpeechOptions",
    "SpeechStream",
    "StreamTimeoutError",
    "TurnTime",
    "Voice",
    "VoiceError",
    "WavWriter",
]

# gRPC takes a third of a second to import, so it is imported with the first client.
_HOMES = {
    "AsyncDialogueClient": "aio_client",
    "AsyncSpeechStream": "aio_stream",
    "DialogueClient": "grpc_client",
    "SpeechStream": "stream",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
