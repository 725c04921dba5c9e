# SPDX-License-Identifier: Apache-2.0
"""Fields that the bodies of several routes share, and what they mean to the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from duologue.client.errors import ScriptError, VoiceError
from duologue.client.types import Mode, Normalization, SpeechOptions, TextFrontend, Voice
from duologue.runtime.gateway.faults import TextTooLongError, UnsupportedError
from duologue.runtime.gateway.house import DEFAULT_VOICE

MAX_SEED = 2**63 - 1
# Of a voice that is given as codes: more than any codec and any reference has.
MAX_CODEBOOKS = 64
MAX_VOICE_FRAMES = 4096
MAX_TRANSCRIPT = 4096

Finite = Annotated[float, Field(allow_inf_nan=False)]
Speed = Annotated[float, Field(ge=0.25, le=4, allow_inf_nan=False)]
Pitch = Annotated[float, Field(ge=0.5, le=2, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=128)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Code = Annotated[int, Field(ge=0, le=2**31 - 1)]

LANGUAGES = (
    *("", "auto", "en", "en-us", "en-gb", "english"),
    *("zh", "zh-cn", "zh-hans", "chinese", "mandarin"),
)
# The tags of scripts; any other notation is read by the server alone.
SPEAKER_TAG = re.compile(r"[\[(（【][sS]([0-9]+)[\])）】]")


class Body(BaseModel):
    """A JSON body: a field that nobody knows is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class VoiceCodes(Body):
    """A voice as codes of the bundle's codec, instead of the name of one.

    Attributes:
        codes: one row per codebook, all of the same length.
        transcript: the words spoken in the reference.
    """

    codes: Annotated[
        list[Annotated[list[Code], Field(min_length=1, max_length=MAX_VOICE_FRAMES)]],
        Field(min_length=1, max_length=MAX_CODEBOOKS),
    ]
    transcript: Annotated[str, Field(max_length=MAX_TRANSCRIPT)] = ""

    def as_voice(self) -> Voice:
        """As the client takes it.

        Raises:
            VoiceError: the rows differ in length.
        """
        lengths = {len(row) for row in self.codes}
        if len(lengths) != 1:
            raise VoiceError(f"codes has rows of {sorted(lengths)} frames; allowed: one length")
        return Voice(np.array(self.codes, dtype=np.int32), self.transcript)


class ModelFields(Body):
    """What the model itself can be asked for; None leaves it to the server.

    Attributes:
        seed: the same seed gives the same audio.
        greedy: the most likely everywhere.
        temperature, top_k, top_p, repetition_penalty: of sampling, for all channels.
        max_new_tokens: cap on frames of audio, 12.5 per second for MOSS-TTSD.
        normalization: text rules applied to each turn.
        text_frontend: how numbers, dates and units are written out.
        mode: the whole script in one pass, or turn by turn.
        deadline_s: seconds until the request is given up; never more than the server's own.
        max_ahead_s: seconds of audio that the model may be ahead of the caller, likewise.
    """

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    greedy: bool = False
    temperature: Finite | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    top_p: Finite | None = None
    repetition_penalty: Finite | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    normalization: Normalization = "none"
    text_frontend: TextFrontend = "none"
    mode: Mode = "auto"
    deadline_s: Positive | None = None
    max_ahead_s: Positive | None = None

    def options(self, voices: Mapping[int, str | Voice]) -> SpeechOptions:
        """As the client takes them.

        Args:
            voices: speaker -> the server's name of a voice, or the voice itself.
        """
        return SpeechOptions(
            # The default needs no name, and so works with a server of any age.
            voices={
                k: v for k, v in voices.items() if not (isinstance(v, str) and v == DEFAULT_VOICE)
            },
            seed=self.seed,
            greedy=self.greedy,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            max_frames=self.max_new_tokens,
            normalization=self.normalization,
            text_frontend=self.text_frontend,
            mode=self.mode,
            deadline_s=self.deadline_s,
            max_ahead_s=self.max_ahead_s,
        )


def check_text(text: str, max_chars: int) -> None:
    r"""Refuse text that is too long, says nothing, or cannot be written as UTF-8.

    Raises:
        TextTooLongError, ScriptError: says which.

    >>> check_text("\ud800", 10)
    Traceback (most recent call last):
    ...
    duologue.client.errors.ScriptError: the text holds half a character (a lone surrogate)
    """
    if len(text) > max_chars:
        raise TextTooLongError(f"the text has {len(text)} characters; allowed: {max_chars}")
    if not text.strip():
        raise ScriptError("the text is empty; allowed: at least one word")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ScriptError("the text holds half a character (a lone surrogate)") from None


def check_language(language: str) -> None:
    """Refuse a language that the model does not speak.

    Those that it speaks need not be named: it hears them from the text itself.

    Raises:
        UnsupportedError: says which are allowed.

    >>> check_language("English"), check_language("zh-CN"), check_language("")
    (None, None, None)
    """
    if language.lower().replace("_", "-") not in LANGUAGES:
        raise UnsupportedError(
            f"the language {language[:40]!r} is not spoken here; allowed: auto, en, zh", "language"
        )


def as_script(text: str) -> str:
    """Text as a script: without tags, all of it is the first speaker's.

    >>> as_script("Hi."), as_script("[S2]Hi.")
    ('[S1]Hi.', '[S2]Hi.')
    """
    return text if SPEAKER_TAG.search(text) else f"[S1]{text}"
