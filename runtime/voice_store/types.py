# SPDX-License-Identifier: Apache-2.0
"""What the store knows of a voice, and what can go wrong with one."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from duologue.runtime.errors import DuologueError, VoiceError

Consent = Literal["stated", "unstated"]

MAX_TRANSCRIPT_CHARS = 4000
MAX_DESCRIPTION_CHARS = 1000

# Language, script, region: BCP 47 as far as it is of use here.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_LINE_BREAKS = "\n\r\t"


class NoSuchVoiceError(VoiceError):
    """The store has no voice of that name."""


class NameTakenError(VoiceError):
    """A voice of that name exists already."""


class StoreFullError(DuologueError):
    """The store has reached its limit, or the disk is full."""


class StoreUnavailableError(DuologueError):
    """The store cannot be read or written: locked for too long, damaged, no permission."""


@dataclass(frozen=True, slots=True)
class VoiceDetails:
    """What somebody says about a voice.

    Attributes:
        transcript: what is said in the audio; empty when nobody wrote it down.
        language: such as "zh" or "en-GB", or empty.
        description: for people.
        consent: "stated" when the one who added it said that the speaker agrees.
    """

    transcript: str = ""
    language: str = ""
    description: str = ""
    consent: Consent = "unstated"

    def __post_init__(self) -> None:
        _check_text("transcript", self.transcript, MAX_TRANSCRIPT_CHARS)
        _check_text("description", self.description, MAX_DESCRIPTION_CHARS)
        if self.language and not _LANGUAGE.fullmatch(self.language):
            raise VoiceError(
                f"the language is {self.language[:40]!r}; allowed: a tag such as 'zh' or 'en-GB'"
            )
        if self.consent not in ("stated", "unstated"):
            raise VoiceError(f"the consent is {self.consent!r}; allowed: 'stated', 'unstated'")


@dataclass(frozen=True, slots=True)
class StoredVoice:
    """A voice as the store has it.

    Attributes:
        name: by which it is asked for.
        details: what was said about it.
        consent_at: when the consent was stated, or found missing (UTC, ISO 8601).
        version: 1 for a new voice, one more with each replacement.
        audio_sha256: of the reference audio's file.
        sample_rate_hz: of the reference audio.
        duration_s: of the reference audio.
        created_at: when this version was added (UTC, ISO 8601).
    """

    name: str
    details: VoiceDetails
    consent_at: str
    version: int
    audio_sha256: str
    sample_rate_hz: int
    duration_s: float
    created_at: str

    def as_json(self) -> dict[str, Any]:
        """All fields in one flat object."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["details"]
        return {**fields, **dataclasses.asdict(self.details)}


def check_time(text: str) -> str:
    """Refuse what is no time.

    Raises:
        VoiceError: says what was got.

    >>> check_time("2026-01-31T12:00:00+00:00")
    '2026-01-31T12:00:00+00:00'
    """
    try:
        return datetime.fromisoformat(text).isoformat(timespec="seconds")
    except ValueError as error:
        raise VoiceError(f"the time {text[:40]!r} cannot be read; allowed: ISO 8601") from error


def _check_text(field: str, text: str, max_chars: int) -> None:
    if len(text) > max_chars:
        raise VoiceError(f"the {field} has {len(text)} characters; allowed: {max_chars}")
    strange = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs")}
    strange -= set(_LINE_BREAKS)
    if strange:
        raise VoiceError(f"the {field} holds control characters {sorted(strange)!r}")
