# SPDX-License-Identifier: Apache-2.0
"""The voices that speak the training data: espeak-ng's accents, variants, pitches and speeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

LANGUAGES = ("en", "cmn")
"""Languages that `espeak-ng` speaks for us, by its own names."""

# Of characters, espeak-ng's own dictionary knows but a few; of Pinyin, all syllables.
MANDARIN_ACCENT = "cmn-latn-pinyin"
"""espeak-ng's voice for Mandarin, which reads Pinyin with tone numbers."""


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """One way to speak.

    Attributes:
        name: ours; it stands in the index.
        accent: espeak-ng's voice, which is also the language.
        variant: espeak-ng's variant of timbre, "" for none.
        pitch: 0 to 99; espeak-ng's own default is 50.
        words_per_minute: speed.
    """

    name: str
    accent: str
    variant: str
    pitch: int
    words_per_minute: int

    @property
    def espeak_name(self) -> str:
        """As `espeak-ng -v` takes it.

        >>> DEFAULT_VOICES[0].espeak_name
        'en-us+m2'
        """
        return f"{self.accent}+{self.variant}" if self.variant else self.accent


# The codec tells pitches below 165 Hz badly, so men speak at the top of their range.
DEFAULT_VOICES = (
    EspeakVoice("s1", "en-us", "m2", 99, 165),
    EspeakVoice("s2", "en-us", "f2", 58, 170),
)
"""Who speaks for [S1] and [S2] when no reference voice is given."""

OTHER_VOICES = (
    EspeakVoice("female-gentle", "en-us", "f4", 56, 145),
    EspeakVoice("female-lively", "en-us", "linda", 60, 190),
    EspeakVoice("male-mature", "en-us", "antonio", 99, 145),
    EspeakVoice("male-young", "en-us", "ed", 97, 185),
    EspeakVoice("annie", "en-us", "Annie", 54, 165),
    EspeakVoice("alicia", "en-us", "Alicia", 46, 165),
    EspeakVoice("grandma", "en-gb", "grandma", 68, 160),
    EspeakVoice("london", "en-gb-x-rp", "f3", 52, 165),
    EspeakVoice("edinburgh", "en-gb-scotland", "m5", 99, 165),
    EspeakVoice("glasgow", "en-gb-scotland", "f5", 48, 160),
    EspeakVoice("lancaster", "en-gb-x-gbclan", "m7", 99, 165),
    EspeakVoice("boris", "en-gb", "boris", 99, 160),
    EspeakVoice("klatt", "en-us", "klatt2", 99, 165),
    EspeakVoice("edward", "en-us", "edward", 99, 155),
    EspeakVoice("newyork", "en-us-nyc", "f1", 62, 175),
    EspeakVoice("steph", "en-us", "steph", 58, 165),
    EspeakVoice("shelby", "en-us", "shelby", 64, 160),
    EspeakVoice("john", "en-gb-x-gbcwmd", "john", 99, 165),
    EspeakVoice("belinda", "en-us", "belinda", 50, 165),
    EspeakVoice("andrea", "en-gb", "Andrea", 48, 170),
    EspeakVoice("aunty", "en-us", "aunty", 54, 160),
    EspeakVoice("alex", "en-us", "Alex", 94, 170),
    EspeakVoice("pablo", "en-us", "pablo", 99, 165),
    EspeakVoice("andy", "en-us", "Andy", 99, 165),
)
"""Voices that a model is to take from a reference; four of them are presets."""

FURTHER_VOICES = (
    *(
        EspeakVoice(variant.lower(), "en-us", variant, pitch, words_per_minute)
        for variant, pitch, words_per_minute in (
            ("Denis", 99, 155),
            ("Diogo", 99, 170),
            ("Henrique", 99, 160),
            ("Hugo", 99, 175),
            ("Jacky", 95, 150),
            ("Marco", 85, 165),
            ("Michael", 99, 180),
            ("adam", 99, 165),
            ("benjamin", 99, 150),
            ("caleb", 99, 170),
            ("edward2", 99, 160),
            ("gustave", 99, 165),
            ("klatt3", 99, 175),
            ("klatt4", 99, 155),
            ("klatt5", 99, 165),
            ("m3", 99, 170),
            ("m6", 99, 160),
            ("max", 99, 180),
            ("michel", 99, 150),
            ("norbert", 99, 165),
            ("pedro", 99, 160),
            ("sandro", 99, 170),
            ("RicishayMax", 99, 165),
            ("steph2", 48, 160),
            ("steph3", 72, 170),
        )
    ),
    # The variants of women once more, elsewhere in their range.
    *(
        EspeakVoice(f"{variant.lower()}-{pitch}", "en-us", variant, pitch, words_per_minute)
        for variant, pitch, words_per_minute in (
            ("f1", 88, 165),
            ("f3", 80, 155),
            ("f4", 84, 175),
            ("f5", 78, 165),
            ("linda", 38, 160),
            ("Annie", 82, 175),
            ("Alicia", 74, 155),
            ("Andrea", 78, 160),
            ("belinda", 80, 175),
            ("shelby", 38, 165),
            ("aunty", 82, 165),
        )
    ),
)
"""Many more voices, so that a model learns to copy a voice instead of naming it."""

_SPEED_SPREAD = 0.12
_PITCH_SPREAD = 4
_HIGHEST_PITCH = 99


def voice_for_language(voice: EspeakVoice, language: str) -> EspeakVoice:
    """The same timbre, pitch and speed in another language.

    >>> voice_for_language(DEFAULT_VOICES[1], "cmn").espeak_name
    'cmn-latn-pinyin+f2'
    """
    return voice if language == "en" else replace(voice, accent=MANDARIN_ACCENT)


def draw_voices(
    random: Random, default_share: float, *, further: bool = False
) -> tuple[EspeakVoice, EspeakVoice]:
    """Voices of a dialogue for speaker 1 and speaker 2.

    Args:
        random: source of chance.
        default_share: how often the answer is `DEFAULT_VOICES`, which keep their own speeds.
        further: draw from `FURTHER_VOICES`, too.

    Returns:
        Two different voices; others than the default pair differ in speed and a little in
        pitch from one dialogue to the next.
    """
    if random.random() < default_share:
        return DEFAULT_VOICES
    known = DEFAULT_VOICES + OTHER_VOICES
    first, second = random.sample(known + FURTHER_VOICES if further else known, 2)
    return _varied(random, first), _varied(random, second)


def _varied(random: Random, voice: EspeakVoice) -> EspeakVoice:
    factor = random.uniform(1 - _SPEED_SPREAD, 1 + _SPEED_SPREAD)
    pitch = voice.pitch + random.randint(-_PITCH_SPREAD, _PITCH_SPREAD)
    return replace(
        voice,
        words_per_minute=round(voice.words_per_minute * factor),
        pitch=min(pitch, _HIGHEST_PITCH),
    )
