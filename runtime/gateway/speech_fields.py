# SPDX-License-Identifier: Apache-2.0
"""What OpenAI's clients may ask for, and those of vLLM-Omni and SGLang-Omni beside them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from pydantic import Field

from duologue.client.errors import VoiceError
from duologue.client.types import Voice
from duologue.runtime.gateway.encode import AudioFormat
from duologue.runtime.gateway.faults import UnsupportedError
from duologue.runtime.gateway.fields import (
    MAX_TRANSCRIPT,
    Body,
    ModelFields,
    Name,
    Pitch,
    Speed,
    as_script,
    check_language,
    check_text,
)
from duologue.runtime.gateway.house import DEFAULT_VOICE, House
from duologue.runtime.gateway.keys import Visitor
from duologue.runtime.gateway.speaking import Wanted

# OpenAI's pcm has no header and hence one rate, by convention.
PCM_RATE_HZ = 24_000
Transcript = Annotated[str, Field(max_length=MAX_TRANSCRIPT)]


class VoiceId(Body):
    """A voice as an object, which OpenAI allows, too."""

    id: Name


class Reference(Body):
    """Reference audio as SGLang-Omni's clients send it."""

    audio_path: str
    text: Transcript = ""


class SpokenFields(ModelFields):
    """How a text is to sound.

    Attributes:
        voice, instructions, response_format, speed: OpenAI's.
        pitch: 2.0 is an octave higher.
        ref_audio: a voice for this request alone, as a data URI of an audio file; goes before
            `voice`.
        ref_text: what is said there.
        references: the same in another form.
        language: of the text; the model hears it from the text itself.
        task_type: "Base" and "CustomVoice" are what a voice is, with or without reference audio.
        initial_codec_chunk_frames: of other servers; refused by name.
    """

    voice: Name | VoiceId = DEFAULT_VOICE
    instructions: str | None = None
    response_format: AudioFormat = "mp3"
    speed: Speed = 1.0
    pitch: Annotated[Pitch, Field(description="2.0 is an octave higher")] = 1.0
    ref_audio: str | None = None
    ref_text: Transcript | None = None
    references: Annotated[list[Reference], Field(max_length=1)] = Field(default_factory=list)
    language: Name | None = None
    task_type: Literal["Base", "CustomVoice", "VoiceDesign"] | None = None
    initial_codec_chunk_frames: int | None = None


class SpeechBody(SpokenFields):
    """OpenAI's `CreateSpeechRequest`, and what other open servers add to it.

    Attributes:
        model, input, stream_format: OpenAI's.
        stream: False sends the whole audio at once, with its length.
    """

    model: Name
    input: str
    stream_format: Literal["audio", "sse"] = "audio"
    stream: bool = True


async def wanted_speech(
    house: House, text: str, body: SpokenFields, visitor: Visitor, door: str = "speech"
) -> Wanted:
    """What the model is asked for.

    Args:
        house: knows the voices.
        text: to be spoken; with speaker tags it is a dialogue.
        body: how it is to sound.
        visitor: who asks.
        door: for the metrics.

    Raises:
        UnsupportedError: something is asked for that this model cannot do.
        UnknownVoiceError, VoiceError: the voice is unknown or cannot be used.
        ScriptError: the text is too long or says nothing.
        RateLimitError, CapacityError: too many uploads are on their way, this caller's or all.
    """
    _check_supported(body)
    check_text(text, house.settings.api.max_text_chars)
    return Wanted(
        door=door,
        script=as_script(text),
        options=body.options({1: await _voice(house, body, visitor)}),
        audio_format=body.response_format,
        sample_rate_hz=PCM_RATE_HZ if body.response_format == "pcm" else None,
        speed=body.speed,
        pitch=body.pitch,
        visitor=visitor,
    )


def read_data_uri(uri: str) -> bytes:
    """The bytes of a data URI.

    Raises:
        UnsupportedError: it is another kind of address, which the server does not go to.
        VoiceError: it is broken.

    >>> read_data_uri("data:audio/wav;base64,UklGRg==")
    b'RIFF'
    """
    head, _, data = uri.partition(",")
    if not head.startswith("data:"):
        raise UnsupportedError(
            "this server fetches no addresses and opens no files; allowed: a data URI such as "
            "data:audio/wav;base64,..., or a voice that was added",
            "ref_audio",
        )
    if not head.endswith(";base64"):
        raise VoiceError("ref_audio is a data URI without ;base64")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VoiceError("ref_audio holds no base64") from error


async def _voice(house: House, body: SpokenFields, visitor: Visitor) -> Voice | str:
    audio, text = body.ref_audio, body.ref_text or ""
    for reference in body.references:
        audio, text = reference.audio_path, reference.text
    if audio is not None:
        with house.uploads.enter(visitor):
            return await house.desk.voice_of_audio(read_data_uri(audio), text.strip())
    if body.ref_text:
        raise VoiceError("ref_text needs ref_audio; allowed: both, or neither")
    name = body.voice if isinstance(body.voice, str) else body.voice.id
    return await house.voice_at_server(name)


def _check_supported(body: SpokenFields) -> None:
    if body.instructions:
        raise UnsupportedError(
            "this model takes no instructions: how a sentence sounds follows from its words, its "
            "punctuation and the voice. Leave the field out, please",
            "instructions",
        )
    if body.task_type == "VoiceDesign":
        raise UnsupportedError(
            "this model designs no voices from words; allowed: Base, CustomVoice", "task_type"
        )
    if body.initial_codec_chunk_frames is not None:
        raise UnsupportedError(
            "the first chunk's length is settled with the bundle", "initial_codec_chunk_frames"
        )
    check_language(body.language or "")
