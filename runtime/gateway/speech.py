# SPDX-License-Identifier: Apache-2.0
"""OpenAI's routes: speech and models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from duologue.runtime.gateway.answer import AudioWriter, SpeechAnswer, Writer
from duologue.runtime.gateway.events import EventWriter
from duologue.runtime.gateway.house import house_of
from duologue.runtime.gateway.keys import visitor_of
from duologue.runtime.gateway.setting_groups import OPENAI_MODELS
from duologue.runtime.gateway.speaking import speak
from duologue.runtime.gateway.speech_fields import SpeechBody, wanted_speech

OWNER = "duologue"

router = APIRouter(prefix="/v1")


@router.post("/audio/speech", response_class=Response)
async def create_speech(body: SpeechBody, request: Request) -> Response:
    """Speak a text, as OpenAI's API does; text with `[S1]`, `[S2]` is a dialogue."""
    house = house_of(request)
    house.check_model(body.model)
    wanted = await wanted_speech(house, body.input, body, visitor_of(request))
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


def _model(name: str) -> dict[str, Any]:
    is_alias = name in OPENAI_MODELS
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER, "is_alias": is_alias}
