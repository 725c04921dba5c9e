# SPDX-License-Identifier: Apache-2.0
"""What a bundle is asked to say, and in whose voice it should sound."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from duologue.finetune.speech_data.dialogues import PlannedDialogue, PlannedTurn
from duologue.finetune.speech_data.voices import DEFAULT_VOICES, EspeakVoice, voice_for_language

LANGUAGE_NAMES = {"en": "English", "cmn": "Mandarin"}
"""Languages as espeak-ng names them, and as people do."""

_PAUSE_S, _TAIL_S = 0.08, 0.25
_BETWEEN_TURNS_S = 0.3
_KEY_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to be said.

    Attributes:
        dialogue: text, and the voices that should be heard.
        clips: speaker -> what the dialogue's voice of that speaker says in a reference clip,
            which is given to the model; speakers without one are left to the model.
        presets: speaker -> name of a voice of the bundle, which is asked for.
        rivals: names of the voices among which a turn's own must be the nearest.
        max_frames: cap on frames; None leaves it to the text's length.
    """

    dialogue: PlannedDialogue
    clips: Mapping[int, str] = field(default_factory=dict)
    presets: Mapping[int, str] = field(default_factory=dict)
    rivals: tuple[str, ...] = ("s1", "s2")
    max_frames: int | None = None

    @property
    def id(self) -> str:
        """Names the item."""
        return self.dialogue.id

    @property
    def key(self) -> str:
        """Differs where anything differs that can be heard."""
        said = (self.dialogue, sorted(self.clips.items()), sorted(self.presets.items()))
        text = repr((*said, self.max_frames))
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]

    @property
    def wanted_voices(self) -> tuple[str, ...]:
        """Name of the voice that each turn should have, in order."""
        return tuple(self.dialogue.voices[turn.speaker - 1].name for turn in self.dialogue.turns)


@dataclass(frozen=True, slots=True)
class Suite:
    """Items that are measured together: each must be nearest to its own text, out of all.

    Attributes:
        name: e.g. "words-en".
        title: for people, e.g. "single words that training never held".
        language: "en" or "cmn".
        items: at least two.
    """

    name: str
    title: str
    language: str
    items: tuple[Item, ...]


def default_voices(language: str) -> tuple[EspeakVoice, EspeakVoice]:
    """Who speaks for [S1] and [S2] when nothing is asked for."""
    first, second = (voice_for_language(voice, language) for voice in DEFAULT_VOICES)
    return first, second


def planned(
    name: str,
    language: str,
    turns: list[tuple[int, str]],
    voices: tuple[EspeakVoice, EspeakVoice] | None = None,
) -> PlannedDialogue:
    """A dialogue of given turns, with pauses of even length.

    Args:
        name: its id.
        language: "en" or "cmn".
        turns: speaker and text.
        voices: of speakers 1 and 2; None: the default ones.
    """
    pauses = [_PAUSE_S, *[_BETWEEN_TURNS_S] * (len(turns) - 1)]
    spoken = tuple(
        PlannedTurn(speaker, text, pause_s)
        for (speaker, text), pause_s in zip(turns, pauses, strict=True)
    )
    return PlannedDialogue(name, language, spoken, voices or default_voices(language), _TAIL_S)
