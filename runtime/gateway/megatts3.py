# SPDX-License-Identifier: Apache-2.0
"""Routes of the MegaTTS3 platform, for its clients as they are.

Reference audio needs a voice store, which this version has not: `synthesize_file` and
`voices/upload` are not there rather than pretending.
"""

from __future__ import annotations

import base64
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from duologue.client.wav import wav_header
from duologue.runtime.gateway.answer import AudioWriter, SpeechAnswer, Writer
from duologue.runtime.gateway.faults import Fault, UnsupportedError
from duologue.runtime.gateway.fields import ModelFields, Name, Pitch, Speed, as_script, check_text
from duologue.runtime.gateway.house import DEFAULT_VOICE, House, house_of
from duologue.runtime.gateway.keys import Visitor, visitor_of
from duologue.runtime.gateway.speaking import Piece, Wanted, speak

NEUTRAL = ("", "neutral")

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
async def synthesize(
    body: SynthesizeBody, request: Request, accept: Annotated[str, Header()] = "*/*"
) -> Response:
    """A text as WAV; as base64 in JSON for those who accept nothing but JSON."""
    house = house_of(request)
    wants_json = accept.split(",")[0].split(";")[0].strip() == "application/json"
    wanted = _wanted(house, body, visitor_of(request), wants_json)
    writer: Writer = Base64Writer() if wants_json else AudioWriter("wav")
    return SpeechAnswer(
        speak(house, wanted),
        writer,
        stall_timeout_s=house.settings.api.stall_timeout,
        # The platform's clients read the file whole, and want to know how long it is.
        is_whole=True,
    )


@router.get("/voices")
async def list_voices(request: Request) -> dict[str, Any]:
    """All voices."""
    names = house_of(request).voices
    return {
        "voices": [
            {"id": name, "name": name, "type": "default" if name == DEFAULT_VOICE else "alias"}
            for name in names
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


def _wanted(house: House, body: SynthesizeBody, visitor: Visitor, is_bare: bool) -> Wanted:
    emotion = body.parameters.emotion
    if emotion is not None and emotion not in NEUTRAL:
        raise UnsupportedError(
            f"this model knows no emotion {emotion[:40]!r}; allowed: 'neutral'",
            "parameters.emotion",
        )
    check_text(body.text, house.settings.api.max_text_chars)
    voice = house.voice_at_server(body.voice_id)
    return Wanted(
        door="megatts3",
        script=as_script(body.text),
        options=ModelFields().options({1: voice}),
        audio_format="pcm" if is_bare else "wav",
        speed=body.parameters.speed,
        pitch=body.parameters.pitch,
        visitor=visitor,
    )
