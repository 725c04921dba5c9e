# SPDX-License-Identifier: Apache-2.0
"""Routes of the MegaTTS3 platform that take files: speak with a voice of the moment, keep one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from starlette.responses import Response

from duologue.client.errors import RequestError, VoiceError
from duologue.client.types import Voice
from duologue.runtime.gateway.fields import MAX_TRANSCRIPT, Name, Pitch, Speed
from duologue.runtime.gateway.house import House, house_of
from duologue.runtime.gateway.latent import MAX_LATENT_BYTES, refuse_latent
from duologue.runtime.gateway.megatts3 import Parameters, answer_wav
from duologue.runtime.gateway.upload_room import UploadPlace
from duologue.runtime.gateway.voices_errors import translated
from duologue.runtime.voice_store.types import VoiceDetails

_SPOKEN_FIELDS = (
    *("text", "voice_id", "transcript", "speed", "pitch", "emotion"),
    *("voice_file", "audio_file", "voice_latent", "latent_file", "time_step", "p_w", "t_w"),
)
_KEPT_FIELDS = ("voice_file", "voice_id", "description", "transcript", "language")

Transcript = Annotated[str, Form(max_length=MAX_TRANSCRIPT)]
Upload = Annotated[UploadFile | None, File()]

router = APIRouter(prefix="/api/v1")


@router.post("/tts/synthesize_file", response_class=Response)
async def synthesize_file(
    request: Request,
    text: Annotated[str, Form()],
    voice_file: Upload = None,
    audio_file: Upload = None,
    voice_latent: Upload = None,
    latent_file: Upload = None,
    voice_id: Annotated[Name, Form()] = "",
    transcript: Transcript = "",
    speed: Annotated[Speed, Form()] = 1.0,
    pitch: Annotated[Pitch, Form()] = 1.0,
    emotion: Annotated[Name, Form()] = "",
    time_step: Annotated[int | None, Form(description="of MegaTTS3; no effect here")] = None,
    p_w: Annotated[float | None, Form(description="of MegaTTS3; no effect here")] = None,
    t_w: Annotated[float | None, Form(description="of MegaTTS3; no effect here")] = None,
) -> Response:
    """A text as WAV, in the voice of a file that is not kept."""
    await _check_fields(request, _SPOKEN_FIELDS)
    house = house_of(request)
    latent = voice_latent or latent_file
    if latent is not None:
        refuse_latent(await latent.read(MAX_LATENT_BYTES + 1))
    sample = voice_file or audio_file
    parameters = Parameters(speed=speed, pitch=pitch, emotion=emotion)
    voice = await _voice(house, sample, voice_id, transcript)
    await _forget(request, sample)
    return answer_wav(request, text, voice, parameters)


@router.post("/voices/upload")
async def upload_voice(
    request: Request,
    voice_file: Annotated[UploadFile, File()],
    voice_id: Annotated[Name, Form()],
    description: Annotated[str, Form()] = "",
    transcript: Transcript = "",
    language: Annotated[Name, Form()] = "",
) -> dict[str, Any]:
    """Keep a voice, which can be spoken with at once.

    The platform asks nobody for consent, so none is recorded. A voice of that name is replaced,
    as its clients send the same one again.
    """
    await _check_fields(request, _KEPT_FIELDS)
    house = house_of(request)
    with translated():
        details = VoiceDetails(transcript.strip(), language, description, "unstated")
    added = await house.desk.add(voice_id, voice_file.file, details, replace=True)
    return {
        "success": True,
        "message": f"the voice {added.voice.name!r} was added",
        "voice_id": added.voice.name,
        "id": added.voice.name,
        "name": added.voice.name,
        "type": "custom",
        "description": added.voice.details.description,
        "consent": added.voice.details.consent,
        "has_transcript": bool(added.voice.details.transcript),
        "duration_s": round(added.voice.duration_s, 3),
    }


async def _voice(
    house: House, sample: UploadFile | None, voice_id: str, transcript: str
) -> Voice | str:
    if sample is None:
        return await house.voice_at_server(voice_id)
    if voice_id:
        raise RequestError("one of `voice_file` and `voice_id` is needed, not both")
    if not sample.size:
        raise VoiceError("voice_file is empty")
    return await house.desk.voice_of_audio(sample.file, transcript.strip())


async def _forget(request: Request, sample: UploadFile | None) -> None:
    """Make room for others: the voice is known now, and speaking takes its time."""
    if sample is not None:
        await sample.close()
    place: UploadPlace | None = getattr(request.state, "upload", None)
    if place is not None:
        place.leave()


async def _check_fields(request: Request, allowed: tuple[str, ...]) -> None:
    """Forms are not held to their fields by themselves."""
    unknown = sorted(set(await request.form()) - set(allowed))
    if unknown:
        raise RequestError(
            f"the field {unknown[0][:40]!r} is unknown; allowed: {', '.join(allowed)}"
        )
