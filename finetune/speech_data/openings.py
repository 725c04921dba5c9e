# SPDX-License-Identifier: Apache-2.0
"""Examples that teach one thing: whose voice a turn begins in when references stand in front.

Once a turn has begun, its own codes say how it goes on. What a reference is worth is decided in a
turn's first frames, which are a small part of whole dialogues: with two references in front, a
model trained on whole dialogues alone tells the two apart no better than chance for thousands of
steps. Here one reference is followed by a turn's first second, and two references by a turn of one
speaker and the first second of the other's answer. Nothing else is learnt: where the model fails,
it is the answer that goes on in the first one's voice, so every row that is learnt is about that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from random import Random

import numpy as np

from duologue.finetune.dataset import Example
from duologue.finetune.errors import DataError
from duologue.finetune.prepare import TextSide
from duologue.finetune.speech_data.references import Clip, lay_out
from duologue.finetune.speech_data.spoken import SpokenDialogue

_LEARNT_FRAMES = 12
# The end of the turn before an answer: when it is time to change.
_LEARNT_BEFORE_FRAMES = 3
_SHORTEST_FRAMES, _LONGEST_FRAMES = 15, 110
_TURN_FRAMES = 70
# A brief clip costs few rows, so that a step holds many beginnings. But people give references of
# five seconds and more, and a model that heard brief ones alone finds its way in those badly.
_BRIEF_FRAMES = 32
_LONG_REFERENCE = 0.65
# One reference is the easier half: which voice there is, without which of two.
_ONE_REFERENCE = 0.3
_OTHER_LANGUAGE = 0.15
# As the rules for text join neighbouring turns of one speaker.
_MERGED = 0.5

Clips = Mapping[str, list[Clip]]


class OpeningMaker:
    """Makes beginnings of turns behind one reference or two.

    Args:
        dialogues: whose single turns are drawn, as references and as what is spoken.
        text_side: of the model that is to be trained.
        frames_per_s: of the codes.
        voice_numbers: see `references.number_voices`.

    Raises:
        DataError: no language has brief turns of two voices.
    """

    def __init__(
        self,
        dialogues: Iterable[SpokenDialogue],
        text_side: TextSide,
        frames_per_s: float,
        voice_numbers: Mapping[str, int],
    ) -> None:
        self._text_side = text_side
        found: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
        for dialogue in dialogues:
            for place, turn in enumerate(dialogue.turns):
                codes = dialogue.cut(place, place, frames_per_s)
                if _SHORTEST_FRAMES <= codes.shape[1] <= _LONGEST_FRAMES:
                    voice = dialogue.voice_of(turn)
                    clip = Clip(turn.text, codes, voice_numbers[voice])
                    found[dialogue.language][voice].append(clip)
        self._all = {language: _audible(voices) for language, voices in found.items()}
        self._brief = self._of_length(0, _BRIEF_FRAMES)
        self._long = self._of_length(_BRIEF_FRAMES + 1, _LONGEST_FRAMES)
        self._turns = self._of_length(0, _TURN_FRAMES)
        self._languages = sorted(name for name, of in self._all.items() if len(of) > 1)
        if not self._languages:
            raise DataError("openings need brief turns of at least two voices in one language")

    def _of_length(self, shortest: int, longest: int) -> dict[str, dict[str, list[Clip]]]:
        return {
            language: {
                name: [clip for clip in clips if shortest <= clip.codes.shape[1] <= longest]
                for name, clips in voices.items()
            }
            for language, voices in self._all.items()
        }

    def examples(self, random: Random, num_examples: int) -> Iterator[Example]:
        """So many examples; a voice comes the oftener, the more there is of it, but not as much."""
        made = 0
        while made < num_examples:
            example = self._example(random)
            if example is not None:
                made += 1
                yield example

    def _example(self, random: Random) -> Example | None:
        """One example, or None when a turn that was drawn is heard already."""
        language = random.choice(self._languages)
        pair = self._pair(language, random)
        speaker = random.choice((1, 2))
        is_alone = random.random() < _ONE_REFERENCE
        heard = (speaker,) if is_alone else (1, 2)
        references = [
            (place, self._reference(language, pair[place - 1], random)) for place in heard
        ]
        turns = [] if is_alone else [(speaker, self._turns[language][pair[speaker - 1]])]
        last = speaker if is_alone else 3 - speaker
        turns.append((last, self._turns[language][pair[last - 1]]))
        spoken = [(place, random.choice(clips)) for place, clips in turns]
        texts = [clip.text for _, clip in (*references, *spoken)]
        if len(set(texts)) < len(texts):
            return None
        is_merged = references[-1][0] == speaker and random.random() < _MERGED
        return self._lay_out(references, spoken, is_merged=is_merged)

    def _lay_out(
        self,
        references: list[tuple[int, Clip]],
        spoken: list[tuple[int, Clip]],
        *,
        is_merged: bool,
    ) -> Example:
        text = "".join(f"[S{place}]{clip.text}" for place, clip in references)
        said = "".join(f"[S{place}]{clip.text}" for place, clip in spoken)
        text += said.removeprefix(f"[S{spoken[0][0]}]") if is_merged else said
        codes = [clip.codes for _, clip in (*references, *spoken)]
        codes[-1] = codes[-1][:, :_LEARNT_FRAMES]
        heard = codes[len(references) :]
        spoken_by = [clip.spoken_by for _, clip in references]
        # What speaks here can be told from the first frame on: that is what is to be learnt.
        spoken_by += [
            np.full(piece.shape[1], clip.voice)
            for (_, clip), piece in zip(spoken, heard, strict=True)
        ]
        rows, voices = lay_out(text, codes, spoken_by, self._text_side)
        before = sum(piece.shape[1] for piece in heard[:-1])
        num_learnt = min(before, _LEARNT_BEFORE_FRAMES) + heard[-1].shape[1]
        return Example(rows[:-1], num_learnt, has_end=False, voices=voices[:-1])

    def _pair(self, language: str, random: Random) -> tuple[str, str]:
        """Two voices, each in proportion to the root of how many turns of it there are."""
        voices = self._all[language]
        names = sorted(voices)
        weights = [len(voices[name]) ** 0.5 for name in names]
        first, second = random.choices(names, weights, k=2)
        while second == first:
            second = random.choices(names, weights)[0]
        return first, second

    def _reference(self, language: str, voice: str, random: Random) -> Clip:
        """A clip of a voice, mostly in the language that is spoken, brief or not."""
        if random.random() < _OTHER_LANGUAGE:
            language = random.choice([n for n in sorted(self._all) if voice in self._all[n]])
        long = self._long[language][voice]
        is_long = long and random.random() < _LONG_REFERENCE
        return random.choice(long if is_long else self._brief[language][voice])


def _audible(voices: Clips) -> dict[str, list[Clip]]:
    """Voices that have a brief clip, and something else to say."""
    return {
        name: clips
        for name, clips in voices.items()
        if any(clip.codes.shape[1] <= _BRIEF_FRAMES for clip in clips)
        and len({clip.text for clip in clips}) > 2
    }
