# SPDX-License-Identifier: Apache-2.0
"""The suites: what a bundle is asked to say so that all its promises are put to the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duologue.finetune.evaluate.cast import (
    PRESET_RIVALS,
    PRESETS,
    UNSEEN_VOICES,
    pairs_of,
    rivals_of,
    voice_named,
)
from duologue.finetune.evaluate.everyday_english import EVERYDAY_ENGLISH
from duologue.finetune.evaluate.everyday_mandarin import EVERYDAY_MANDARIN
from duologue.finetune.evaluate.held_out_texts import HeldOutTexts
from duologue.finetune.evaluate.items import (
    LANGUAGE_NAMES,
    Item,
    Suite,
    default_voices,
    planned,
)
from duologue.finetune.speech_data.dialogues import plan_dialogue
from duologue.finetune.speech_data.voices import OTHER_VOICES, EspeakVoice, voice_for_language

EVERYDAY = {"en": EVERYDAY_ENGLISH, "cmn": EVERYDAY_MANDARIN}

_DIALOGUE_SEED = 2026
_MOST_TURNS = 4
_KINDS = {"trained": "known from training", "unseen": "never heard before"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many items the suites have, in each language.

    Attributes:
        dialogues: of one to eight turns, in the default voices.
        sentences: everyday sentences.
        words: single words.
        references: dialogues with one reference, and as many with two, in trained voices.
        unseen_references: the same in voices that training never heard.
        per_preset: sentences in each of the bundle's named voices.
        timed: dialogues whose real-time factor is taken.
        per_voice: sentences from which each voice is learnt.
    """

    dialogues: int = 100
    sentences: int = 100
    words: int = 50
    references: int = 24
    unseen_references: int = 16
    per_preset: int = 6
    timed: int = 10
    per_voice: int = 8

    @staticmethod
    def quick(count: int = 10) -> Sizes:
        """For a look: so many per suite, and two sentences per named voice."""
        return Sizes(count, count, count, count, count, min(2, count), min(4, count), 4)


def make_suites(texts: HeldOutTexts, sizes: Sizes, preset_names: Sequence[str]) -> list[Suite]:
    """All suites in both languages.

    Args:
        texts: held-out text.
        sizes: how many items; the first ones are the same whatever the size.
        preset_names: of the bundle's voices; without those of `cast.PRESETS` there is no suite
            of presets.
    """
    suites = []
    known = [name for name in PRESETS if name in preset_names]
    for language in LANGUAGE_NAMES:
        suites += [
            _dialogues(texts, language, sizes.dialogues),
            _sentences(language, sizes.sentences),
            _words(texts, language, sizes.words),
        ]
        for kind, voices, count in (
            ("trained", OTHER_VOICES, sizes.references),
            ("unseen", UNSEEN_VOICES, sizes.unseen_references),
        ):
            suites += [
                _one_reference(language, kind, voices, count),
                _two_references(language, kind, voices, count),
            ]
        if known:
            suites.append(_presets(language, known, sizes.per_preset))
    return suites


def _dialogues(texts: HeldOutTexts, language: str, count: int) -> Suite:
    items = [
        Item(
            plan_dialogue(
                texts.sentences[language],
                seed=_DIALOGUE_SEED,
                index=index,
                split="test",
                language=language,
                default_share=1.0,
            )
        )
        for index in range(count)
    ]
    return Suite(f"dialogues-{language}", "dialogues of one to eight turns", language, tuple(items))


def _sentences(language: str, count: int) -> Suite:
    return _alone(f"sentences-{language}", "everyday sentences", language,
                  EVERYDAY[language][:count])  # fmt: skip


def _words(texts: HeldOutTexts, language: str, count: int) -> Suite:
    mark = "。" if language == "cmn" else "."
    words = [word.capitalize() + mark for word in texts.words[language][:count]]
    title = "single words that training never held"
    return _alone(f"words-{language}", title, language, words)


def _alone(name: str, title: str, language: str, texts: Sequence[str]) -> Suite:
    """Single turns of the default voices, one voice after the other."""
    items = [
        Item(planned(f"{name}-{index:03d}", language, [(1 + index % 2, text)]))
        for index, text in enumerate(texts)
    ]
    return Suite(name, title, language, tuple(items))


def _one_reference(language: str, kind: str, voices: tuple[EspeakVoice, ...], count: int) -> Suite:
    name = f"one-reference-{kind}-{language}"
    items = []
    for index in range(count):
        speaker = 1 + index % 2
        own = voice_for_language(voices[index % len(voices)], language)
        both = (own, default_voices(language)[1])
        dialogue = planned(
            f"{name}-{index:03d}",
            language,
            [(speaker, _everyday(language, index))],
            both if speaker == 1 else (both[1], own),
        )
        clips = {speaker: _clip_text(language, index)}
        items.append(Item(dialogue, clips, rivals=rivals_of(own.name)))
    return Suite(name, f"one reference voice, {_KINDS[kind]}", language, tuple(items))


def _two_references(language: str, kind: str, voices: tuple[EspeakVoice, ...], count: int) -> Suite:
    name = f"two-references-{kind}-{language}"
    items = []
    for index, (one, two) in enumerate(pairs_of(voices, count)):
        num_turns = 2 + index % (_MOST_TURNS - 1)
        turns = [
            (1 + place % 2, _everyday(language, index + 25 * place)) for place in range(num_turns)
        ]
        own = (voice_for_language(one, language), voice_for_language(two, language))
        clips = {speaker: _clip_text(language, index + 7 * speaker) for speaker in (1, 2)}
        dialogue = planned(f"{name}-{index:03d}", language, turns, own)
        items.append(Item(dialogue, clips, rivals=(one.name, two.name)))
    return Suite(name, f"two reference voices, {_KINDS[kind]}", language, tuple(items))


def _presets(language: str, names: Sequence[str], per_preset: int) -> Suite:
    suite = f"presets-{language}"
    items = []
    for place, name in enumerate(names):
        own = voice_named(PRESETS[name], language)
        for number in range(per_preset):
            speaker = 1 + number % 2
            dialogue = planned(
                f"{suite}-{place}-{number}",
                language,
                [(speaker, _everyday(language, per_preset * place + number))],
                (own, own),
            )
            items.append(Item(dialogue, presets={speaker: name}, rivals=PRESET_RIVALS))
    return Suite(suite, "voices of the bundle by name", language, tuple(items))


def _everyday(language: str, index: int) -> str:
    return EVERYDAY[language][index % len(EVERYDAY[language])]


def _clip_text(language: str, index: int) -> str:
    """Two sentences, far from those that are asked for."""
    joint = "" if language == "cmn" else " "
    return joint.join(_everyday(language, index + shift) for shift in (88, 89))
