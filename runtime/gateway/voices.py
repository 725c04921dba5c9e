# SPDX-License-Identifier: Apache-2.0
"""Voices by OpenAI's routes: list, add with a statement of consent, look at one, remove."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile

from duologue.runtime.gateway.house import DEFAULT_VOICE, House, house_of
from duologue.runtime.gateway.voices_errors import translated, unknown_voice
from duologue.runtime.presets import PresetVoice
from duologue.runtime.voice_store.types import StoredVoice, VoiceDetails

# What counts as no consent in a form, where everything is text.
_NO = ("", "0", "false", "no", "off", "unstated")

router = APIRouter(prefix="/v1/audio/voices")


@router.get("")
async def list_voices(request: Request) -> dict[str, Any]:
    """All voices: the model's own choice, the bundle's, those that were added, other names."""
    house = house_of(request)
    found = await all_voices(house)
    return {"object": "list", "data": found, "voices": [voice["id"] for voice in found]}


@router.post("", status_code=201)
async def add_voice(
    request: Request,
    name: Annotated[str, Form(description="any word, of any script")],
    audio_sample: Annotated[UploadFile, File(description="wav, mp3, flac, ogg or m4a")],
    consent: Annotated[str, Form(description="anything states that the speaker agrees")] = "",
    transcript: Annotated[str, Form(description="what is said in the audio")] = "",
    ref_text: Annotated[str, Form(description="the same under another name")] = "",
    language: Annotated[str, Form(description="such as zh or en-GB")] = "",
    description: Annotated[str, Form(description="for people")] = "",
    replace: Annotated[bool, Form(description="take the place of the voice of this name")] = False,
) -> dict[str, Any]:
    """Add a voice; it can be spoken with at once."""
    house = house_of(request)
    with translated():
        details = VoiceDetails(
            transcript=(transcript or ref_text).strip(),
            language=language,
            description=description,
            consent="unstated" if consent.strip().lower() in _NO else "stated",
        )
    added = await house.desk.add(name, audio_sample.file, details, replace=replace)
    shown = describe_added(added.voice)
    if added.trimmed_from_s is not None:
        shown["note"] = (
            f"the file lasts {added.trimmed_from_s:.1f} s; the voice is its first "
            f"{added.voice.duration_s:g} s"
        )
    return shown


@router.get("/{name}")
async def get_voice(name: str, request: Request) -> dict[str, Any]:
    """One voice."""
    for voice in await all_voices(house_of(request)):
        if voice["id"] == name:
            return voice
    raise unknown_voice(name)


@router.delete("/{name}")
async def remove_voice(name: str, request: Request) -> dict[str, Any]:
    """Forget a voice that was added: its audio, its codes and all that is known of it."""
    await house_of(request).desk.remove(name)
    return {"id": name, "object": "voice", "deleted": True}


async def all_voices(house: House) -> list[dict[str, Any]]:
    """Every voice that can be asked for, as the answers show it.

    Raises:
        StorageError: the store cannot be read.
    """
    own = {"id": DEFAULT_VOICE, "object": "voice", "name": DEFAULT_VOICE, "type": "default"}
    added = [describe_added(voice) for voice in await house.desk.added()]
    presets = [_describe_preset(preset) for preset in house.desk.presets]
    aliases = [
        {"id": name, "object": "voice", "name": name, "type": "alias", "alias_of": target}
        for name, target in house.settings.voices.aliases.items()
    ]
    return [
        {"alias_of": None, "language": "", "description": "", **voice}
        for voice in (own, *presets, *added, *aliases)
    ]


def describe_added(voice: StoredVoice) -> dict[str, Any]:
    """A voice that was added, without its transcript: that is its owner's."""
    shown = voice.as_json()
    shown["has_transcript"] = bool(shown.pop("transcript"))
    shown["duration_s"] = round(shown["duration_s"], 3)
    return {"id": voice.name, "object": "voice", "type": "added", **shown}


def _describe_preset(preset: PresetVoice) -> dict[str, Any]:
    return {
        "id": preset.name,
        "object": "voice",
        "name": preset.name,
        "type": "preset",
        "language": preset.language,
        "description": preset.description,
        "has_transcript": bool(preset.transcript),
    }
