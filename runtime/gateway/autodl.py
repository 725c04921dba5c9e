# SPDX-License-Identifier: Apache-2.0
"""Routes of the CosyVoice servers that are run on AutoDL, for their pages and for Voxta.

`/tts` sends bare samples without a media type of their own; `/tts_to_audio` sends WAV whose
length is left open, as nobody knows it yet.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from duologue.runtime.gateway.answer import AudioWriter, SpeechAnswer
from duologue.runtime.gateway.encode import AudioFormat
from duologue.runtime.gateway.fields import ModelFields, Name, as_script, check_language, check_text
from duologue.runtime.gateway.house import house_of
from duologue.runtime.gateway.keys import visitor_of
from duologue.runtime.gateway.speaking import Wanted, speak

# Those servers know no other rate, and a body of bare samples cannot name one.
RATE_HZ = 24_000

router = APIRouter()


class ToAudioBody(BaseModel):
    """What Voxta asks for.

    Attributes:
        text: to be spoken.
        speaker_wav: name of a voice; never a path here.
        language: of the text; the model hears it from the text itself.
    """

    model_config = ConfigDict(extra="forbid")

    text: str
    speaker_wav: Name = ""
    language: Name = ""


@router.post("/tts", response_class=Response)
async def tts(
    request: Request, text: Annotated[str, Form()], speaker: Annotated[Name, Form()] = ""
) -> Response:
    """A text as bare samples: 16 bits, 24 kHz, mono."""
    return await _answer(request, text, speaker, "pcm")


@router.post("/tts_to_audio", response_class=Response)
@router.post("/tts_to_audio/", response_class=Response, include_in_schema=False)
async def tts_to_audio(body: ToAudioBody, request: Request) -> Response:
    """A text as WAV that begins before it is whole."""
    return await _answer(request, body.text, body.speaker_wav, "wav", body.language)


@router.get("/api/speakers")
async def api_speakers(request: Request) -> dict[str, list[str]]:
    """Names of all voices."""
    return {"speakers": await house_of(request).voice_names()}


@router.get("/speakers")
async def speakers(request: Request) -> list[dict[str, Any]]:
    """All voices as Voxta lists them."""
    names = await house_of(request).voice_names()
    return [{"name": name, "voice_id": name, "lang": "zh, en"} for name in names]


async def _answer(
    request: Request, text: str, speaker: str, audio_format: AudioFormat, language: str = ""
) -> Response:
    house = house_of(request)
    check_text(text, house.settings.api.max_text_chars)
    check_language(language)
    wanted = Wanted(
        door="autodl",
        script=as_script(text),
        options=ModelFields().options({1: await house.voice_at_server(speaker)}),
        audio_format=audio_format,
        sample_rate_hz=RATE_HZ,
        visitor=visitor_of(request),
    )
    return SpeechAnswer(
        speak(house, wanted),
        AudioWriter(audio_format),
        stall_timeout_s=house.settings.api.stall_timeout,
    )
