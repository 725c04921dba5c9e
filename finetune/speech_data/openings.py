# SPDX-License-Identifier: Apache-2.0
"""Examples that teach one thing: whose voice a turn begins in when references stand in front.

Once a turn has begun, its own codes say how it goes on. What a reference is worth is decided in a
turn's first frames, which are a small part of whole dialogues: with two references in front, a
model trained on whole dialogues alone tells the two apart no better than chance for thousands of
steps. Here a turn is learnt in its first second and nowhere else, and ends there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from random import Random

import numpy as np

from duologue.finetune.dataset import Example
from duologue.finetune.errors import DataError
from duologue.finetune.prepare import TextSide
from duologue.finetune.rows import build_row, encode_transcript
from duologue.finetune.speech_data.references import Clip
from duologue.finetune.speech_data.spoken import SpokenDialogue

_LEARNT_FRAMES = 12
_REFERENCE_FRAMES = (15, 40)
_TURN_FRAMES = (15, 60)
# One reference is the easier half: which voice there is, without which of two.
_ONE_REFERENCE = 0.35
# As the rules for text join neighbouring turns of one speaker.
_MERGED = 0.5


class OpeningMaker:
    """Makes beginnings of turns behind one reference or two.

    Args:
        dialogues: whose single turns are drawn, as references and as what is spoken.
        text_side: of the model that is to be trained.
        frames_per_s: of the codes.

    Raises:
        DataError: no language has short turns of two voices.
    """

    def __init__(
        self, dialogues: Iterable[SpokenDialogue], text_side: TextSide, frames_per_s: float
    ) -> None:
        self._text_side = text_side
        self._clips: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
        for dialogue in dialogues:
            for place, turn in enumerate(dialogue.turns):
                codes = dialogue.cut(place, place, frames_per_s)
                if _TURN_FRAMES[0] <= codes.shape[1] <= _TURN_FRAMES[1]:
                    voice = dialogue.voice_of(turn)
                    self._clips[dialogue.language][voice].append(Clip(turn.text, codes))
        for voices in self._clips.values():
            for name in [name for name, clips in voices.items() if not _can_be_heard(clips)]:
                del voices[name]
        self._languages = sorted(name for name, of in self._clips.items() if len(of) > 1)
        if not self._languages:
            raise DataError("openings need short turns of at least two voices in one language")

    def examples(self, random: Random, num_examples: int) -> Iterator[Example]:
        """So many examples, every voice as often as any other."""
        made = 0
        while made < num_examples:
            example = self._example(random)
            if example is not None:
                made += 1
                yield example

    def _example(self, random: Random) -> Example | None:
        """One example, or None when the turn that was drawn is heard already."""
        voices = self._clips[random.choice(self._languages)]
        pair = random.sample(sorted(voices), 2)
        speaker = random.choice((1, 2))
        heard = (speaker,) if random.random() < _ONE_REFERENCE else (1, 2)
        references = [(place, _short(voices[pair[place - 1]], random)) for place in heard]
        turn = random.choice(voices[pair[speaker - 1]])
        if turn.text in {clip.text for _, clip in references}:
            return None
        text = "".join(f"[S{place}]{clip.text}" for place, clip in references)
        is_merged = references[-1][0] == speaker and random.random() < _MERGED
        text += turn.text if is_merged else f"[S{speaker}]{turn.text}"
        opening = turn.codes[:, :_LEARNT_FRAMES]
        codes = np.concatenate([*(clip.codes for _, clip in references), opening], axis=1)
        side = self._text_side
        rows = build_row(encode_transcript(text, side.prompt, side.tokenizer), codes, side.tokens)
        return Example(rows[:-1], opening.shape[1], has_end=False)


def _can_be_heard(clips: list[Clip]) -> bool:
    """Whether a voice has a reference, and another turn to speak behind it."""
    short = {clip.text for clip in clips if clip.codes.shape[1] <= _REFERENCE_FRAMES[1]}
    return bool(short) and len({clip.text for clip in clips}) > 1


def _short(clips: list[Clip], random: Random) -> Clip:
    short = [clip for clip in clips if clip.codes.shape[1] <= _REFERENCE_FRAMES[1]]
    return random.choice(short)
