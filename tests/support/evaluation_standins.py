"""Texts and voices in the place of WordNet and espeak-ng, for what measures a bundle."""

from __future__ import annotations

from random import Random

import numpy as np

from duologue.finetune.evaluate.held_out_texts import HeldOutTexts
from duologue.finetune.speech_data.espeak import ESPEAK_RATE_HZ
from duologue.finetune.speech_data.voices import EspeakVoice
from duologue.runtime.core import FloatArray


class NumberSentences:
    """Says numbers, in pairs of turns."""

    def sentence(self, random: Random) -> str:
        return f"This is {random.randint(0, 999)}."

    def question(self, random: Random) -> str:
        return f"Is it {random.randint(0, 999)}?"

    def reply(self, random: Random) -> str:
        return "Yes."


TEXTS = HeldOutTexts(
    {"en": NumberSentences(), "cmn": NumberSentences()},
    {"en": ["stranger", "hotelier", "foxglove"], "cmn": ["门诊部", "入侵者", "戒刀"]},
)


def say_vowels(text: str, voice: EspeakVoice) -> FloatArray:
    """A vowel per letter: its formant is the letter's, its pitch the voice's."""
    pitch_hz = 100 + 1.5 * voice.pitch + 7 * len(voice.variant)
    time_s = np.arange(ESPEAK_RATE_HZ // 25) / ESPEAK_RATE_HZ
    harmonics = np.arange(1, int(3500 / pitch_hz))[:, None]
    vowels = []
    for letter in text:
        formant_hz = 300 + 89 * (ord(letter) % 31)
        loudness = np.exp(-np.square((harmonics * pitch_hz - formant_hz) / 300))
        vowels.append((loudness * np.sin(2 * np.pi * harmonics * pitch_hz * time_s)).sum(axis=0))
    return (0.2 * np.concatenate(vowels)).astype(np.float32)
