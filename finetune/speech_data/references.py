# SPDX-License-Identifier: Apache-2.0
"""Examples out of spoken dialogues: with the default voices alone, or with references in front.

A reference stands where a voice stands when the model speaks: its transcript before the text,
its codes before the speech (`runtime.text.prompt`). Its first second is not learnt, so that
without a reference the model begins as the default voices do; of the rest it learns how a voice
goes on that it has heard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from duologue.finetune.dataset import Example
from duologue.finetune.prepare import TextSide
from duologue.finetune.rows import IGNORED, build_row, encode_transcript
from duologue.finetune.speech_data.spoken import SpokenDialogue
from duologue.finetune.speech_data.voices import DEFAULT_VOICES
from duologue.runtime.core import IntArray

DEFAULT_PAIR = tuple(voice.name for voice in DEFAULT_VOICES)
"""Names of the voices that speak where no reference is given."""

# Besides the whole dialogue: turns that follow each other -> how often they are an example.
_PARTS = {1: 0.35, 2: 0.25, 4: 0.2}
_LONGEST_FRAMES = 600
_SHORTEST_FRAMES = 5
# References of the default voices themselves, as the history of a long dialogue is.
_DEFAULT_WITH_REFERENCES = 0.1
_FROM_SAME_DIALOGUE = 0.5
_FOR_SILENT_SPEAKER = 0.3
_DEFAULT_LEFT_OUT = 0.5
_MERGED = 0.5
_CLIP_FRAMES = (15, 125)
_DRAWN_CLIPS = 8
_NOT_LEARNT_FRAMES = 12
_NOT_TOLD_FRAMES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """What a voice has said once.

    Attributes:
        text: what is said.
        codes: aligned codes [K, T].
        voice: number of the voice.
    """

    text: str
    codes: IntArray
    voice: int

    @property
    def spoken_by(self) -> IntArray:
        """The voice of each frame [T], as far as it can be told from the frames before."""
        voices = np.full(self.codes.shape[1], self.voice)
        voices[:_NOT_TOLD_FRAMES] = IGNORED
        return voices


def number_voices(dialogues: Iterable[SpokenDialogue]) -> dict[str, int]:
    """All voices that speak, by name -> number, in the order of their names."""
    names = sorted({name for dialogue in dialogues for name in dialogue.voices})
    return {name: number for number, name in enumerate(names)}


def lay_out(
    text: str, codes: Sequence[IntArray], spoken_by: Sequence[IntArray], side: TextSide
) -> tuple[IntArray, IntArray]:
    """Rows of an example, and who speaks them.

    Args:
        text: of all that is spoken, behind tags.
        codes: pieces of speech [K, T_i], in order.
        spoken_by: number of the voice of each frame [T_i], `IGNORED` where it is not to be told.
        side: of the model that is to be trained.

    Returns:
        Rows [T, K] with their end, and voices [T].
    """
    ids = encode_transcript(text, side.prompt, side.tokenizer)
    rows = build_row(ids, np.concatenate(codes, axis=1), side.tokens)
    before, after = np.full(len(ids), IGNORED), np.full(1, IGNORED)
    return rows, np.concatenate([before, *spoken_by, after])


class ExampleMaker:
    """Makes examples of one set of dialogues.

    Args:
        dialogues: of any voices; their single turns serve as references for each other.
        text_side: of the model that is to be trained.
        frames_per_s: of the codes.
        voice_numbers: see `number_voices`.
    """

    def __init__(
        self,
        dialogues: Iterable[SpokenDialogue],
        text_side: TextSide,
        frames_per_s: float,
        voice_numbers: Mapping[str, int],
    ) -> None:
        self._dialogues = list(dialogues)
        self._voice_numbers = voice_numbers
        self._text_side = text_side
        self._frames_per_s = frames_per_s
        self._clips: dict[str, list[Clip]] = defaultdict(list)
        for dialogue in self._dialogues:
            for place in range(len(dialogue.turns)):
                clip = self._clip(dialogue, place)
                if clip is not None:
                    self._clips[dialogue.voice_of(dialogue.turns[place])].append(clip)

    def examples(self, random: Random, *, parts: bool) -> Iterator[Example]:
        """All examples, in the order of the dialogues.

        Args:
            random: source of chance.
            parts: parts of dialogues, too.
        """
        for dialogue in self._dialogues:
            for first, last in sorted(_spans(len(dialogue.turns), random, parts=parts)):
                codes = dialogue.cut(first, last, self._frames_per_s)
                if _SHORTEST_FRAMES <= codes.shape[1] <= _LONGEST_FRAMES:
                    yield self._example(dialogue, first, last, codes, random)

    def _example(
        self, dialogue: SpokenDialogue, first: int, last: int, codes: IntArray, random: Random
    ) -> Example:
        references = self._references(dialogue, first, last, random)
        turns = dialogue.turns[first : last + 1]
        text = "".join(f"[S{turn.speaker}]{turn.text}" for turn in turns)
        if references:
            before = "".join(f"[S{speaker}]{clip.text}" for speaker, clip in references)
            if references[-1][0] == turns[0].speaker and random.random() < _MERGED:
                # As the rules for text join neighbouring turns of one speaker.
                text = text.removeprefix(f"[S{turns[0].speaker}]")
            text = before + text
        clips = [clip for _, clip in references]
        rows, voices = lay_out(
            text,
            [*(clip.codes for clip in clips), codes],
            [*(clip.spoken_by for clip in clips), self._spoken_by(dialogue, first, last)],
            self._text_side,
        )
        num_frames = sum(clip.codes.shape[1] for clip in clips) + codes.shape[1]
        num_learnt = num_frames - (_NOT_LEARNT_FRAMES if references else 0)
        return Example(rows, num_learnt, voices=voices)

    def _spoken_by(self, dialogue: SpokenDialogue, first: int, last: int) -> IntArray:
        """The voice of each frame, `IGNORED` between turns."""
        numbers = [IGNORED, *(self._voice_numbers[name] for name in dialogue.voices)]
        return np.array(numbers)[dialogue.speakers(first, last, self._frames_per_s)]

    def _references(
        self, dialogue: SpokenDialogue, first: int, last: int, random: Random
    ) -> list[tuple[int, Clip]]:
        """Clips of the voices that need one, in the order of their speakers."""
        is_default = dialogue.voices == DEFAULT_PAIR
        if is_default and random.random() >= _DEFAULT_WITH_REFERENCES:
            return []
        speaking = {turn.speaker for turn in dialogue.turns[first : last + 1]}
        chosen = []
        for speaker, voice in enumerate(dialogue.voices, start=1):
            if speaker not in speaking and random.random() >= _FOR_SILENT_SPEAKER:
                continue
            known = not is_default and voice == DEFAULT_PAIR[speaker - 1]
            if known and random.random() < _DEFAULT_LEFT_OUT:
                continue
            clip = self._choose(dialogue, speaker, range(first, last + 1), random)
            if clip is not None:
                chosen.append((speaker, clip))
        return chosen

    def _choose(
        self, dialogue: SpokenDialogue, speaker: int, spoken: Sequence[int], random: Random
    ) -> Clip | None:
        if random.random() < _FROM_SAME_DIALOGUE:
            others = [
                place
                for place, turn in enumerate(dialogue.turns)
                if turn.speaker == speaker and place not in spoken
            ]
            clips = [clip for place in others if (clip := self._clip(dialogue, place))]
            if clips:
                return random.choice(clips)
        # A text that is to be said must not have been heard already.
        said = {dialogue.turns[place].text for place in spoken}
        pool = self._clips[dialogue.voices[speaker - 1]]
        drawn = random.sample(pool, min(len(pool), _DRAWN_CLIPS))
        return next((clip for clip in drawn if clip.text not in said), None)

    def _clip(self, dialogue: SpokenDialogue, place: int) -> Clip | None:
        codes = dialogue.cut(place, place, self._frames_per_s)
        shortest, longest = _CLIP_FRAMES
        if not shortest <= codes.shape[1] <= longest:
            return None
        turn = dialogue.turns[place]
        return Clip(turn.text, codes, self._voice_numbers[dialogue.voice_of(turn)])


def _spans(num_turns: int, random: Random, *, parts: bool) -> set[tuple[int, int]]:
    """First and last turns of the examples of a dialogue."""
    spans = {(0, num_turns - 1)}
    if parts:
        for length, share in _PARTS.items():
            for first in range(num_turns - length + 1):
                if random.random() < share:
                    spans.add((first, first + length - 1))
    return spans
