"""Openings: references, then a turn that is learnt in its first second only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from duologue.finetune.dataset import SpeechDataset, write_description, write_shard
from duologue.finetune.errors import DataError
from duologue.finetune.prepare import TextSide
from duologue.finetune.rows import IGNORED, count_frames
from duologue.finetune.speech_data.openings import OpeningMaker
from duologue.finetune.speech_data.spoken import SpokenDialogue, SpokenTurn
from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle
from duologue.runtime.text.tokenizer import TextTokenizer

FRAMES_PER_S = 12.5
TURN_S = 2.0


@pytest.fixture(scope="module")
def text_side() -> TextSide:
    bundle = Bundle.load(noise_bundle_path())
    tokenizer = TextTokenizer.from_file(noise_bundle_path() / "tokenizer.json")
    return TextSide(bundle.tokens, bundle.prompt, tokenizer, bundle.lm.num_channels)


def _dialogue(number: int, voices: tuple[str, str], language: str = "en") -> SpokenDialogue:
    """Two turns; every code of a voice is the voice's number."""
    turns = tuple(
        SpokenTurn(
            speaker, f"{voices[speaker - 1]} {number}", start_s + 0.2, start_s + TURN_S - 0.2
        )
        for speaker, start_s in ((1, 0.0), (2, TURN_S))
    )
    halves = [np.full((8, round(TURN_S * FRAMES_PER_S)), ord(voice[0])) for voice in voices]
    return SpokenDialogue(str(number), language, voices, turns, np.concatenate(halves, axis=1))


def _make(side: TextSide) -> OpeningMaker:
    dialogues = [_dialogue(n, pair) for n, pair in enumerate([("a", "b"), ("c", "d")] * 3)]
    return OpeningMaker(dialogues, side, FRAMES_PER_S)


def test_a_turn_is_learnt_in_its_first_second_and_has_no_end(
    text_side: TextSide, tmp_path: Path
) -> None:
    examples = list(_make(text_side).examples(Random(1), 200))
    write_shard(tmp_path, "shard-00000", examples)
    write_description(tmp_path, ["shard-00000"], {})
    rows = SpeechDataset(tmp_path)
    assert len(rows) == 200
    for row in (rows[index] for index in range(200)):
        assert count_frames(row) == 12
        assert np.array_equal(row.labels[-12:], row.input_ids[-12:])
        assert (row.labels[:-12] == IGNORED).all()
        assert text_side.tokens.end_of_speech not in row.input_ids[-13:, 0]


def test_the_turn_is_in_the_voice_of_its_speakers_reference(text_side: TextSide) -> None:
    one_or_two: Counter[int] = Counter()
    for example in _make(text_side).examples(Random(2), 200):
        speech = example.input_ids[example.input_ids[:, 1] < 1024, 1]
        heard, spoken = speech[:-12], set(speech[-12:])
        assert len(spoken) == 1
        assert spoken <= set(heard)
        one_or_two[len(set(heard))] += 1
    assert one_or_two[2] > one_or_two[1] > 0


def test_one_voice_alone_is_refused(text_side: TextSide) -> None:
    with pytest.raises(DataError, match="two voices"):
        OpeningMaker([_dialogue(1, ("a", "a"))], text_side, FRAMES_PER_S)
