"""Openings: references, then the beginnings of turns, which alone are learnt."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest

from duologue.finetune.dataset import SpeechDataset, write_description, write_shard
from duologue.finetune.errors import DataError
from duologue.finetune.prepare import TextSide
from duologue.finetune.rows import IGNORED, count_frames
from duologue.finetune.speech_data.openings import OpeningMaker
from duologue.finetune.speech_data.references import number_voices
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
    pairs = [("a", "b"), ("c", "d")] * 3
    dialogues = [_dialogue(n, pair) for n, pair in enumerate(pairs)]
    dialogues += [_dialogue(n, pair, "cmn") for n, pair in enumerate(pairs, start=10)]
    return OpeningMaker(dialogues, side, FRAMES_PER_S, number_voices(dialogues))


def test_a_turns_first_second_is_learnt_and_what_comes_just_before_an_answer(
    text_side: TextSide, tmp_path: Path
) -> None:
    examples = list(_make(text_side).examples(Random(1), 200))
    write_shard(tmp_path, "shard-00000", examples)
    write_description(tmp_path, ["shard-00000"], {})
    rows = SpeechDataset(tmp_path)
    assert len(rows) == 200
    learnt = Counter(count_frames(row) for row in (rows[index] for index in range(200)))
    assert set(learnt) == {12, 12 + 3}
    for row in (rows[index] for index in range(200)):
        count = count_frames(row)
        assert np.array_equal(row.labels[-count:], row.input_ids[-count:])
        assert (row.labels[:-count] == IGNORED).all()
        assert text_side.tokens.end_of_speech not in row.input_ids[-count - 1 :, 0]


def test_turns_are_in_the_voices_of_their_speakers_references(text_side: TextSide) -> None:
    one_or_two: Counter[int] = Counter()
    tags = [text_side.tokenizer.token_id(token) for token in text_side.prompt.speaker_tokens]
    for example in _make(text_side).examples(Random(2), 200):
        assert example.voices is not None
        is_speech = example.input_ids[:, 1] < 1024
        speech, voices = example.input_ids[is_speech, 1], example.voices[is_speech]
        heard, spoken = speech[: -example.num_frames], speech[-example.num_frames :]
        # Every code of a voice is its letter; voices are numbered by name.
        told = voices != IGNORED
        assert np.array_equal(voices[told], speech[told] - ord("a"))
        assert told[-example.num_frames :].all()
        speakers = [tag for tag in example.input_ids[:, 0] if tag in tags]
        order = list(dict.fromkeys(heard.tolist()))
        one_or_two[len(order)] += 1
        if len(order) == 1:
            assert set(spoken) == set(order)
        else:
            assert speakers[:2] == tags
            first, last = spoken[0], spoken[-1]
            assert {first, last} == set(order)
            assert order[tags.index(speakers[-1])] == last
    assert one_or_two[2] > one_or_two[1] > 0


def test_references_are_brief_or_long_and_turns_are_not_too_long(text_side: TextSide) -> None:
    frames = (20, 60, 100)
    dialogues = []
    for number, (pair, length) in enumerate(product([("a", "b"), ("c", "d")] * 3, frames)):
        duration_s = length / FRAMES_PER_S
        turns = tuple(
            SpokenTurn(
                speaker, f"{pair[speaker - 1]} {number}", start_s + 0.2, start_s + duration_s
            )
            for speaker, start_s in ((1, 0.0), (2, duration_s + 0.2))
        )
        codes = np.full((8, 2 * length + 3), length)
        dialogues.append(SpokenDialogue(str(number), "en", pair, turns, codes))
    maker = OpeningMaker(dialogues, text_side, FRAMES_PER_S, number_voices(dialogues))
    heard: Counter[int] = Counter()
    for example in maker.examples(Random(4), 300):
        speech = example.input_ids[example.input_ids[:, 1] < 1024, 1]
        assert set(speech[-example.num_frames :]) <= {20, 60}
        heard.update(set(speech[: -example.num_frames]))
    assert set(heard) == set(frames)
    assert heard[60] + heard[100] > heard[20]


def test_no_sentence_is_both_heard_and_spoken(text_side: TextSide) -> None:
    encode = text_side.tokenizer.encode_prompt
    letters = {encode([letter])[0]: letter for letter in "abcd 0123456789"}
    for example in _make(text_side).examples(Random(3), 100):
        text = "".join(letters.get(int(token), "|") for token in example.input_ids[:, 0])
        said = re.findall(r"[a-d] \d+", text)
        assert len(said) == len(set(said)) >= 2


def test_one_voice_alone_is_refused(text_side: TextSide) -> None:
    with pytest.raises(DataError, match="two voices"):
        OpeningMaker([_dialogue(1, ("a", "a"))], text_side, FRAMES_PER_S, {"a": 0})
