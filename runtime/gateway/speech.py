# SPDX-License-Identifier: Apache-2.0
"""OpenAI's routes: speech and models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from duologue.runtime.gateway.answer import AudioWriter, SpeechAnswer, Writer
from duologue.runtime.gateway.encode import AudioFormat
from duologue.runtime.gateway.events import EventWriter
from duologue.runtime.gateway.faults import UnsupportedError
from duologue.runtime.gateway.fields import (
    Body,
    ModelFields,
    Name,
    Pitch,
    Speed,
    as_script,
    check_text,
)
from duologue.runtime.gateway.house import DEFAULT_VOICE, House, house_of
from duologue.runtime.gateway.keys import Visitor, visitor_of
from duologue.runtime.gateway.setting_groups import OPENAI_MODELS
from duologue.runtime.gateway.speaking import Wanted, speak

OWNER = "duologue"
# OpenAI's pcm has no header and hence one rate, by convention.
PCM_RATE_HZ = 24_000

router = APIRouter(prefix="/v1")


class VoiceId(Body):
    """A voice as an object, which OpenAI allows, too."""

    id: Name


class SpeechBody(ModelFields):
    """OpenAI's `CreateSpeechRequest`, and what other open servers add to it.

    Attributes:
        model, input, voice, instructions, response_format, speed, stream_format: OpenAI's.
        stream: False sends the whole audio at once, with its length.
        pitch: 2.0 is an octave higher.
    """

    model: Name
    input: str
    voice: Name | VoiceId = DEFAULT_VOICE
    instructions: str | None = None
    response_format: AudioFormat = "mp3"
    speed: Speed = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    stream: bool = True
    pitch: Annotated[Pitch, Field(description="2.0 is an octave higher")] = 1.0


@router.post("/audio/speech", response_class=Response)
async def create_speech(body: SpeechBody, request: Request) -> Response:
    """Speak a text, as OpenAI's API does; text with `[S1]`, `[S2]` is a dialogue."""
    house = house_of(request)
    wanted = _wanted(house, body, visitor_of(request))
    writer: Writer = AudioWriter(body.response_format)
    if body.stream_format == "sse":
        writer = EventWriter("sse", len(body.input))
    return SpeechAnswer(
        speak(house, wanted),
        writer,
        stall_timeout_s=house.settings.api.stall_timeout,
        is_whole=not body.stream,
    )


@router.get("/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The model, and OpenAI's names of it."""
    names = house_of(request).model_names
    return {"object": "list", "data": [_model(name) for name in names]}


@router.get("/models/{name}")
async def get_model(name: str, request: Request) -> dict[str, Any]:
    """One model by name."""
    house_of(request).check_model(name)
    return _model(name)


def _wanted(house: House, body: SpeechBody, visitor: Visitor) -> Wanted:
    house.check_model(body.model)
    if body.instructions:
        raise UnsupportedError(
            "this model takes no instructions: how a sentence sounds follows from its words, its "
            "punctuation and the voice. Leave the field out, please",
            "instructions",
        )
    check_text(body.input, house.settings.api.max_text_chars)
    name = body.voice if isinstance(body.voice, str) else body.voice.id
    voice = house.voice_at_server(name)
    return Wanted(
        door="speech",
        script=as_script(body.input),
        options=body.options({1: voice}),
        audio_format=body.response_format,
        sample_rate_hz=PCM_RATE_HZ if body.response_format == "pcm" else None,
        speed=body.speed,
        pitch=body.pitch,
        visitor=visitor,
    )


def _model(name: str) -> dict[str, Any]:
    is_alias = name in OPENAI_MODELS
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER, "is_alias": is_alias}
