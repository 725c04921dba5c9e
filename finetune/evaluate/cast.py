# SPDX-License-Identifier: Apache-2.0
"""Who stands for whom: voices that training never heard, and the bundle's voices by name."""

from __future__ import annotations

from random import Random

from duologue.finetune.speech_data.presets import PRESETS as RECORDED
from duologue.finetune.speech_data.voices import (
    DEFAULT_VOICES,
    OTHER_VOICES,
    EspeakVoice,
    voice_for_language,
)

UNSEEN_VOICES = (
    EspeakVoice("anika", "en-us", "anika", 50, 165),
    EspeakVoice("miguel", "en-us", "miguel", 99, 165),
    EspeakVoice("nguyen", "en-us", "Nguyen", 99, 165),
    EspeakVoice("travis", "en-us", "travis", 99, 165),
    EspeakVoice("zac", "en-us", "zac", 20, 165),
    EspeakVoice("lee", "en-us", "Lee", 99, 165),
    EspeakVoice("mario", "en-us", "Mario", 99, 165),
    EspeakVoice("gene", "en-us", "Gene", 99, 165),
)
"""Voices that are in no training data, at pitches that the codec can tell."""

PRESETS = {preset.name: preset.voice for preset in RECORDED}
"""Name of a voice of the default bundle -> the training voice that speaks in its recording."""

_PAIRS_SEED = 11
_BY_NAME = {voice.name: voice for voice in (*DEFAULT_VOICES, *OTHER_VOICES, *UNSEEN_VOICES)}
_DEFAULT_NAMES = tuple(voice.name for voice in DEFAULT_VOICES)
PRESET_RIVALS = tuple(dict.fromkeys((*_DEFAULT_NAMES, *PRESETS.values())))
"""Voices among which a turn in a preset's voice must be told."""


def voice_named(name: str, language: str) -> EspeakVoice:
    """A voice by our name for it, in a language."""
    return voice_for_language(_BY_NAME[name], language)


def rivals_of(name: str) -> tuple[str, ...]:
    """A voice and the default ones, to which a model slides back."""
    return (name, *(other for other in _DEFAULT_NAMES if other != name))


def pairs_of(voices: tuple[EspeakVoice, ...], count: int) -> list[tuple[EspeakVoice, EspeakVoice]]:
    """Pairs of different voices, always the same ones; each voice comes first in its turn."""
    random = Random(_PAIRS_SEED)
    first = [voices[place % len(voices)] for place in range(count)]
    return [(one, random.choice([v for v in voices if v != one])) for one in first]
