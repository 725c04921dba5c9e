# SPDX-License-Identifier: Apache-2.0
"""Routes of the MegaTTS3 platform, for its clients as they are."""

from __future__ import annotations

import base64
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from duologue.client.types import Voice
from duologue.client.wav import wav_header
from duologue.runtime.gateway.answer import AudioWriter, SpeechAnswer, Writer
from duologue.runtime.gateway.faults import Fault, UnsupportedError
from duologue.runtime.gateway.fields import ModelFields, Name, Pitch, Speed, as_script, check_text
from duologue.runtime.gateway.house import house_of
from duologue.runtime.gateway.keys import visitor_of
from duologue.runtime.gateway.speaking import Piece, Wanted, speak
from duologue.runtime.gateway.voices import all_voices

NEUTRAL = ("", "neutral")
# Kinds of voices in the words of the platform.
_TYPES = {"added": "custom"}

router = APIRouter(prefix="/api/v1")


class Parameters(BaseModel):
    """How a text is to sound.

    Attributes:
        speed: 2.0 takes half the time.
        pitch: 2.0 is an octave higher.
        emotion: "neutral"; the model takes no other.
    """

    model_config = ConfigDict(extra="forbid")

    speed: Speed = 1.0
    pitch: Pitch = 1.0
    emotion: Name | None = None


class SynthesizeBody(BaseModel):
    """The platform's JSON; `parameters` and each of its keys may be left out."""

    model_config = ConfigDict(extra="forbid")

    text: str
    voice_id: Annotated[Name, Field(description="empty for the default voice")] = ""
    parameters: Parameters = Field(default_factory=Parameters)


class Base64Writer:
    """The body is JSON with a whole WAV file in it."""

    media_type = "application/json"

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, piece: Piece) -> bytes:
        """See `answer.Writer`."""
        self._parts.append(piece.data)
        if not piece.chunk.is_last:
            return b""
        pcm = b"".join(self._parts)
        wav = wav_header(piece.sample_rate_hz, len(pcm) // 2) + pcm
        return b'{"audio_base64":"' + base64.b64encode(wav) + b'"}'

    def fail(self, fault: Fault) -> bytes | None:
        """See `answer.Writer`."""
        return None


@router.post("/tts/synthesize", response_class=Response)
async def synthesize(body: SynthesizeBody, request: Request) -> Response:
    """A text as WAV; as base64 in JSON for those who accept nothing but JSON."""
    voice = await house_of(request).voice_at_server(body.voice_id)
    return answer_wav(request, body.text, voice, body.parameters)


@router.get("/voices")
async def list_voices(request: Request) -> dict[str, Any]:
    """All voices."""
    voices = await all_voices(house_of(request))
    return {
        "voices": [
            {"id": voice["id"], "name": voice["name"], "type": _TYPES.get(voice["type"], "system")}
            for voice in voices
        ]
    }


@router.get("/info")
async def info(request: Request) -> dict[str, Any]:
    """What serves here."""
    settings = house_of(request).settings
    return {
        "name": settings.model_name,
        "version": version("duologue"),
        "max_length": settings.api.max_text_chars,
    }


def answer_wav(
    request: Request, text: str, voice: Voice | str, parameters: Parameters
) -> SpeechAnswer:
    """Speak a text in one voice.

    Args:
        request: says whether WAV or JSON is wanted.
        text: as the caller wrote it.
        voice: name of one, or its codes.
        parameters: how it is to sound.

    Raises:
        UnsupportedError: an emotion is asked for.
        ScriptError: the text cannot be spoken.
    """
    emotion = parameters.emotion
    if emotion is not None and emotion not in NEUTRAL:
        raise UnsupportedError(
            f"this model knows no emotion {emotion[:40]!r}; allowed: 'neutral'", "emotion"
        )
    house = house_of(request)
    check_text(text, house.settings.api.max_text_chars)
    accept = request.headers.get("accept", "*/*")
    wants_json = accept.split(",")[0].split(";")[0].strip() == "application/json"
    wanted = Wanted(
        door="megatts3",
        script=as_script(text),
        options=ModelFields().options({1: voice}),
        audio_format="pcm" if wants_json else "wav",
        speed=parameters.speed,
        pitch=parameters.pitch,
        visitor=visitor_of(request),
    )
    writer: Writer = Base64Writer() if wants_json else AudioWriter("wav")
    return SpeechAnswer(
        speak(house, wanted),
        writer,
        stall_timeout_s=house.settings.api.stall_timeout,
        # The platform's clients read the file whole, and want to know how long it is.
        is_whole=True,
    )
