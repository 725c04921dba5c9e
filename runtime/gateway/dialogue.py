# SPDX-License-Identifier: Apache-2.0
"""Dialogues: a tagged script or a list of turns in; audio, events or subtitles out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from duologue.client.errors import RequestError
from duologue.client.types import Voice
from duologue.runtime.gateway.answer import AudioWriter, SpeechAnswer, Writer
from duologue.runtime.gateway.dialogue_output import (
    Dialogue,
    SubtitleWriter,
    delta_fields,
    done_fields,
)
from duologue.runtime.gateway.encode import AudioFormat
from duologue.runtime.gateway.events import EventWriter
from duologue.runtime.gateway.fields import (
    Body,
    ModelFields,
    Name,
    Pitch,
    Speed,
    VoiceCodes,
    check_text,
)
from duologue.runtime.gateway.house import DEFAULT_VOICE, House, house_of
from duologue.runtime.gateway.keys import Visitor, visitor_of
from duologue.runtime.gateway.speaking import Wanted, speak
from duologue.runtime.gateway.subtitles import MEDIA_TYPES, SubtitleFormat
from duologue.runtime.gateway.turns import script_of_texts, turns_of_script, turns_of_texts

MAX_TURNS = 1000
MAX_SPEAKERS = 10

router = APIRouter(prefix="/v1")


class TurnBody(Body):
    """One turn."""

    voice: Annotated[Name, Field(validation_alias=AliasChoices("voice", "voice_id"))] = ""
    text: Annotated[str, Field(min_length=1)]


class DialogueFields(ModelFields):
    """What a dialogue can be asked for beside its text.

    Attributes:
        voices: speaker ("1", "2", ...) -> name of a voice, or its codes; for a script.
        response_format: of the audio; "srt" and "vtt" give subtitles and no audio.
        sample_rate: of the audio in Hz; without it, the model's.
        subtitles: come with the last event.
    """

    model: Name = "duologue"
    voices: dict[Annotated[int, Field(ge=1, le=MAX_SPEAKERS)], Name | VoiceCodes] = Field(
        default_factory=dict
    )
    response_format: AudioFormat | SubtitleFormat = "mp3"
    sample_rate: Literal[8000, 16000, 22050, 24000, 32000, 44100, 48000] | None = None
    speed: Speed = 1.0
    pitch: Pitch = 1.0
    subtitles: SubtitleFormat | None = None


class DialogueBody(DialogueFields):
    """A dialogue.

    Attributes:
        input: the script, in any notation of the parser; also as `script`.
        inputs: its turns one by one, instead; also as `turns`. Each voice is a speaker.
        stream_format: the audio itself, or events that carry it with the times of the turns.
        stream: False sends the whole audio at once, with its length.
    """

    input: Annotated[str, Field(validation_alias=AliasChoices("input", "script"))] = ""
    inputs: Annotated[
        list[TurnBody],
        Field(max_length=MAX_TURNS, validation_alias=AliasChoices("inputs", "turns")),
    ] = Field(default_factory=list)
    stream_format: Literal["audio", "sse", "ndjson"] = "audio"
    stream: bool = True


@router.post("/audio/dialogue", response_class=Response)
async def create_dialogue(body: DialogueBody, request: Request) -> Response:
    """Speak a dialogue."""
    house = house_of(request)
    dialogue = read_dialogue(house, body)
    wanted = await wanted_of(house, body, dialogue, visitor_of(request))
    is_text = body.response_format in MEDIA_TYPES
    return SpeechAnswer(
        speak(house, wanted),
        _writer(body, dialogue),
        stall_timeout_s=house.settings.api.stall_timeout,
        is_whole=is_text or not body.stream,
    )


def read_dialogue(house: House, body: DialogueBody) -> Dialogue:
    """The dialogue of a body, in either of its two forms.

    Raises:
        RequestError: neither form, or both.
        ScriptError: the text is too long or says nothing.
    """
    if bool(body.input) == bool(body.inputs):
        raise RequestError("one of `input` (a script) and `inputs` (turns) is needed, not both")
    limit = house.settings.api.max_text_chars
    if body.input:
        return read_script(body.input, body.voices, limit)
    if body.voices:
        raise RequestError("`voices` goes with a script; each of the `inputs` names its own voice")
    texts = [turn.text for turn in body.inputs]
    check_text("".join(texts), limit)
    for text in texts:
        check_text(text, limit)
    numbers: dict[str, int] = {}
    names = [turn.voice or DEFAULT_VOICE for turn in body.inputs]
    speakers = [numbers.setdefault(name, len(numbers) + 1) for name in names]
    return Dialogue(
        script=script_of_texts(texts, speakers),
        text_length=sum(map(len, texts)),
        sources=turns_of_texts(texts),
        voices={number: name for name, number in numbers.items()},
    )


def read_script(script: str, voices: Mapping[int, str | VoiceCodes], max_chars: int) -> Dialogue:
    """The dialogue of a script.

    Raises:
        ScriptError: the text is too long or says nothing.
    """
    check_text(script, max_chars)
    return Dialogue(script, len(script), turns_of_script(script), voices)


async def wanted_of(
    house: House, body: DialogueFields, dialogue: Dialogue, visitor: Visitor
) -> Wanted:
    """What the model is asked for.

    Raises:
        UnknownModelError, UnknownVoiceError: a name is unknown.
        StorageError: the added voices cannot be read.
    """
    house.check_model(body.model)
    at_server = {k: await _at_server(house, voice) for k, voice in dialogue.voices.items()}
    audio_format = body.response_format
    return Wanted(
        door="dialogue",
        script=dialogue.script,
        options=body.options(at_server),
        # Subtitles need no encoder.
        audio_format="pcm" if audio_format == "srt" or audio_format == "vtt" else audio_format,
        sample_rate_hz=body.sample_rate,
        speed=body.speed,
        pitch=body.pitch,
        visitor=visitor,
    )


async def _at_server(house: House, voice: str | VoiceCodes) -> str | Voice:
    return await house.voice_at_server(voice) if isinstance(voice, str) else voice.as_voice()


def _writer(body: DialogueBody, dialogue: Dialogue) -> Writer:
    wanted = body.response_format
    if wanted == "srt" or wanted == "vtt":
        return SubtitleWriter(wanted, dialogue, body.speed)
    if body.stream_format == "audio":
        return AudioWriter(wanted)
    return EventWriter(
        body.stream_format,
        dialogue.text_length,
        delta=lambda chunk: delta_fields(chunk, body.speed),
        done=lambda chunk: done_fields(chunk, dialogue, body.speed, body.subtitles),
    )
