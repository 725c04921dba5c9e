# SPDX-License-Identifier: Apache-2.0
"""Who says what: dialogues as text, decided by a seed and a number alone."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

from duologue.finetune.speech_data.voices import EspeakVoice, draw_voices, voice_for_language

Split = Literal["train", "test"]

# Many are short, so that a young model hears many beginnings and ends.
_TURN_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8)
_TURN_WEIGHTS = (30, 26, 12, 12, 7, 6, 4, 3)
_SENTENCES_PER_TURN = (1, 2, 3)
_SENTENCE_WEIGHTS = (72, 22, 6)
_FIRST_IS_ONE = 0.6
_SAME_SPEAKER_AGAIN = 0.06
_QUESTION_AND_REPLY = 0.25
_MAX_CHARS = 540
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.15, 0.45


class Sentences(Protocol):
    """A maker of sentences in one language."""

    def sentence(self, random: Random) -> str:
        """Anything."""
        ...

    def question(self, random: Random) -> str:
        """A question."""
        ...

    def reply(self, random: Random) -> str:
        """What might be said after a question."""
        ...


@dataclass(frozen=True, slots=True)
class PlannedTurn:
    """One turn before it is spoken.

    Attributes:
        speaker: 1 or 2.
        text: what is said.
        pause_s: silence before it.
    """

    speaker: int
    text: str
    pause_s: float


@dataclass(frozen=True, slots=True)
class PlannedDialogue:
    """A dialogue before it is spoken.

    Attributes:
        id: names its file.
        language: "en" or "cmn".
        turns: at least one.
        voices: of speaker 1 and speaker 2.
        tail_s: silence at the end.
    """

    id: str
    language: str
    turns: tuple[PlannedTurn, ...]
    voices: tuple[EspeakVoice, EspeakVoice]
    tail_s: float

    @property
    def transcript(self) -> str:
        """All turns in MOSS-TTSD's notation."""
        return "".join(f"[S{turn.speaker}]{turn.text}" for turn in self.turns)


def plan_dialogue(
    sentences: Sentences,
    *,
    seed: int,
    index: int,
    split: Split = "train",
    language: str = "en",
    default_share: float = 0.6,
    further_voices: bool = False,
) -> PlannedDialogue:
    """Plan one dialogue.

    Args:
        sentences: where the text comes from.
        seed: of all dialogues.
        index: the same seed and index give the same dialogue, whatever was planned before.
        split: "train" or "test"; part of the name and of the chance.
        language: of the text.
        default_share: share of dialogues spoken by the default voices.
        further_voices: whether others than the default pair may be of `FURTHER_VOICES`.
    """
    random = Random(f"{seed}/{split}/{language}/{index}")
    voices = draw_voices(random, default_share, further=further_voices)
    return PlannedDialogue(
        id=f"{split}-{language}-{index:06d}",
        language=language,
        turns=tuple(_turns(sentences, random)),
        voices=(voice_for_language(voices[0], language), voice_for_language(voices[1], language)),
        tail_s=random.uniform(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S),
    )


def _turns(sentences: Sentences, random: Random) -> list[PlannedTurn]:
    turns: list[PlannedTurn] = []
    speaker = 1 if random.random() < _FIRST_IS_ONE else 2
    was_question, num_chars = False, 0
    for _ in range(random.choices(_TURN_COUNTS, _TURN_WEIGHTS)[0]):
        asks = not was_question and random.random() < _QUESTION_AND_REPLY
        text = _turn_text(sentences, random, asks=asks, replies=was_question)
        num_chars += len(text)
        if turns and num_chars > _MAX_CHARS:
            break
        pause_s = random.uniform(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S)
        turns.append(PlannedTurn(speaker, text, pause_s if turns else pause_s / 3))
        was_question = asks
        if random.random() >= _SAME_SPEAKER_AGAIN:
            speaker = 3 - speaker
    return turns


def _turn_text(sentences: Sentences, random: Random, *, asks: bool, replies: bool) -> str:
    parts = [sentences.reply(random)] if replies else []
    if not replies or random.random() < 0.3:
        count = random.choices(_SENTENCES_PER_TURN, _SENTENCE_WEIGHTS)[0]
        parts += [sentences.sentence(random) for _ in range(count)]
    if asks:
        parts[-1] = sentences.question(random)
    return " ".join(parts)
