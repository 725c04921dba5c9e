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

`AsyncDialogueClient` has the same verbs for asyncio; both need the extra `client`.
`HttpDialogueClient("http://localhost:9000")` and `AsyncHttpDialogueClient` have them over the
gateway's HTTP, with the extra `http`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from duologue.client.errors import (
    AccessError,
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

if TYPE_CHECKING:
    from duologue.client.aio_client import AsyncDialogueClient
    from duologue.client.aio_http_client import AsyncHttpDialogueClient
    from duologue.client.aio_stream import AsyncSpeechStream
    from duologue.client.base import AsyncSpeechClient, SpeechClient
    from duologue.client.grpc_client import DialogueClient
    from duologue.client.http_client import HttpDialogueClient
    from duologue.client.stream import SpeechStream
    from duologue.client.types import AudioChunk, Speech, SpeechOptions, TurnTime, Voice
    from duologue.client.wav import WavWriter

__all__ = [
    "AccessError",
    "AsyncDialogueClient",
    "AsyncHttpDialogueClient",
    "AsyncSpeechClient",
    "AsyncSpeechStream",
    "AudioChunk",
    "CancelledError",
    "CapacityError",
    "DeadlineError",
    "DialogueClient",
    "DuologueError",
    "EngineError",
    "EngineUnavailableError",
    "HttpDialogueClient",
    "PromptTooLongError",
    "RequestError",
    "ScriptError",
    "ServerUnavailableError",
    "Speech",
    "SpeechClient",
    "SpeechOptions",
    "SpeechStream",
    "StreamTimeoutError",
    "TurnTime",
    "Voice",
    "VoiceError",
    "WavWriter",
]

# numpy and gRPC take half a second to import: each comes with the first name that needs it.
_HOMES = {
    "AsyncDialogueClient": "aio_client",
    "AsyncHttpDialogueClient": "aio_http_client",
    "AsyncSpeechClient": "base",
    "AsyncSpeechStream": "aio_stream",
    "AudioChunk": "types",
    "DialogueClient": "grpc_client",
    "HttpDialogueClient": "http_client",
    "Speech": "types",
    "SpeechClient": "base",
    "SpeechOptions": "types",
    "SpeechStream": "stream",
    "TurnTime": "types",
    "Voice": "types",
    "WavWriter": "wav",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        extra = "http" if "http" in home else "client"
        raise ModuleNotFoundError(
            f"{name} needs the package {error.name}: pip install 'duologue[{extra}]'",
            name=error.name,
        ) from error
