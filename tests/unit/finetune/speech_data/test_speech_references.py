"""Examples with references in front are laid out as a prompt with voices is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

from duologue.finetune.dataset import Example, SpeechDataset
from duologue.finetune.errors import DataError
from duologue.finetune.prepare import TextSide
from duologue.finetune.rows import IGNORED, label_row
from duologue.finetune.speech_data.examples import write_examples
from duologue.finetune.speech_data.references import ExampleMaker, number_voices
from duologue.finetune.speech_data.spoken import (
    SpokenDialogue,
    SpokenTurn,
    encode_blocks,
    read_spoken,
)
from duologue.finetune.speech_data.voices import DEFAULT_VOICES
from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle
from duologue.runtime.core import IntArray, Normalization, Voice
from duologue.runtime.text.normalize import normalize_script
from duologue.runtime.text.prompt import build_prompt
from duologue.runtime.text.script import parse_script
from duologue.runtime.text.tokenizer import TextTokenizer

FRAMES_PER_S = 12.5
DEFAULT_PAIR = tuple(voice.name for voice in DEFAULT_VOICES)
TURN_S = 2.0
BRIEF_FRAMES = 13


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    bundle = Bundle.load(noise_bundle_path())
    return dataclasses.replace(bundle, prompt=dataclasses.replace(bundle.prompt, reading="pinyin"))


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.from_file(noise_bundle_path() / "tokenizer.json")


@pytest.fixture(scope="module")
def text_side(bundle: Bundle, tokenizer: TextTokenizer) -> TextSide:
    return TextSide(bundle.tokens, bundle.prompt, tokenizer, bundle.lm.num_channels)


def _dialogue(number: int, voices: tuple[str, str], *texts: tuple[int, str]) -> SpokenDialogue:
    turns = tuple(
        SpokenTurn(speaker, text, place * TURN_S, (place + 1) * TURN_S)
        for place, (speaker, text) in enumerate(texts)
    )
    codes: IntArray = np.random.default_rng(number).integers(
        0, 1024, (8, round(len(turns) * TURN_S * FRAMES_PER_S))
    )
    return SpokenDialogue(f"train-cmn-{number:06d}", "cmn", voices, turns, codes)


def _make(dialogues: list[SpokenDialogue], side: TextSide, seed: int) -> list[Example]:
    maker = ExampleMaker(dialogues, side, FRAMES_PER_S, number_voices(dialogues))
    return list(maker.examples(Random(seed), parts=False))


def test_default_voices_stand_alone_and_all_their_codes_are_learnt(text_side: TextSide) -> None:
    dialogue = _dialogue(1, ("s1", "s2"), (1, "早。"), (2, "早上好。"))
    examples = [_make([dialogue], text_side, seed)[0] for seed in range(40)]
    alone = [e for e in examples if (e.input_ids[:, 1] < 1024).sum() == dialogue.codes.shape[1]]
    assert len(alone) > len(examples) / 2
    row = label_row(alone[0].input_ids.astype(np.int64), alone[0].num_frames)
    assert (row.labels[:, 1] >= 0).sum() == dialogue.codes.shape[1]


@pytest.mark.parametrize("rules", ["none", "v0.7"])
@pytest.mark.parametrize("first_speaker", [1, 2])
def test_an_example_is_the_prompt_of_its_references_and_then_its_codes(
    bundle: Bundle,
    tokenizer: TextTokenizer,
    text_side: TextSide,
    rules: Normalization,
    first_speaker: int,
) -> None:
    voices = ("boris", "linda")
    spoken = _dialogue(1, voices, (first_speaker, "你好，Tom，再见"), (3 - first_speaker, "好"))
    clips = [_dialogue(2, voices, (1, "我是王明")), _dialogue(3, voices, (2, "She left"))]
    prompts = {
        tuple(
            build_prompt(
                normalize_script(parse_script(_script(spoken), max_speakers=2), rules),
                {
                    place: Voice(clip.codes, clip.turns[0].text)
                    for place, clip in enumerate(clips, start=1)
                },
                bundle,
                tokenizer,
                rules=rules,
            ).aligned_ids.ravel()
        )
    }
    made = {_prompt_of(_example_of(spoken, clips, text_side, seed)) for seed in range(20)}
    assert prompts <= made
    # Neighbouring turns of one speaker may be joined or not; nothing else is left to chance.
    assert len(made) == (2 if first_speaker == 2 else 1)


def test_the_first_second_of_a_reference_is_not_learnt(text_side: TextSide) -> None:
    voices = ("boris", "linda")
    dialogues = [_dialogue(n, voices, (1, "再" * n), (2, "好" * n)) for n in range(1, 4)]
    for example in _make(dialogues, text_side, 0):
        row = label_row(example.input_ids.astype(np.int64), example.num_frames)
        heard = (example.input_ids[:, 1] < 1024).sum()
        assert heard > dialogues[0].codes.shape[1]
        assert (row.labels[:, 1] >= 0).sum() == heard - 12


def test_rows_of_speech_say_whose_voice_they_are_in(text_side: TextSide) -> None:
    pair = ("boris", "linda")
    spoken = _dialogue(1, pair, (1, "你好"), (2, "再见"))
    clips = [_dialogue(2, pair, (1, "我是王明")), _dialogue(3, pair, (2, "She left"))]
    example = _example_of(spoken, clips, text_side, seed=0)
    assert example.voices is not None
    assert len(example.voices) == len(example.input_ids)
    is_speech = example.input_ids[:, 1] < 1024
    assert (example.voices[~is_speech] == IGNORED).all()
    # Boris is number 0. Who speaks a reference's first frames cannot be told from what was before.
    unknown, heard = [IGNORED] * 3, round(TURN_S * FRAMES_PER_S) - 3
    voices = example.voices[is_speech].tolist()
    references = [*unknown, *[0] * heard, *unknown, *[1] * heard]
    assert voices[: len(references)] == references
    assert voices[len(references) :] == [0] * 5 + [1] * 8


def test_dialogues_of_the_default_voices_are_a_dataset_of_their_own(
    tmp_path: Path, text_side: TextSide
) -> None:
    for number, voices in enumerate((DEFAULT_PAIR, ("boris", "linda"))):
        (tmp_path / voices[0] / "blocks").mkdir(parents=True)
        turns = [{"speaker": 1, "text": f"Hi {number}.", "start_s": 0.0, "end_s": 1.0}]
        row = {"id": f"train-en-{number:06d}", "file_path": "a.wav", "language": "en",
               "voices": voices, "turns": turns}  # fmt: skip
        block = tmp_path / voices[0] / "blocks" / "train-en-00000.jsonl"
        block.write_text(json.dumps(row) + "\n")
        encode_blocks(tmp_path / voices[0], lambda _, n=number: np.full((8, 13), n))
    folders = [tmp_path / "s1", tmp_path / "boris"]
    counts = write_examples(folders, tmp_path / "out", text_side, FRAMES_PER_S, seed=1)
    assert counts == {"train": 2, "test": 0, "default": 1}
    dataset = SpeechDataset(tmp_path / "out" / "default")
    assert dataset.voices == ("boris", "linda", *DEFAULT_PAIR)
    codes = dataset[0].input_ids[:, 1]
    assert set(codes[codes < 1024]) == {0}


def test_voices_are_numbered_by_name() -> None:
    dialogues = [_dialogue(1, ("s1", "s2")), _dialogue(2, ("linda", "s1"))]
    assert number_voices(dialogues) == {"linda": 0, "s1": 1, "s2": 2}


def test_a_turn_is_cut_with_a_little_silence_around_it() -> None:
    dialogue = _dialogue(1, ("s1", "s2"), (1, "一"), (2, "二"), (1, "三"))
    assert np.array_equal(dialogue.cut(0, 2, FRAMES_PER_S), dialogue.codes)
    assert np.array_equal(dialogue.cut(1, 1, FRAMES_PER_S), dialogue.codes[:, 23:52])
    assert dialogue.speakers(1, 1, FRAMES_PER_S).tolist() == [2] * 27 + [0] * 2
    assert dialogue.speakers(0, 2, FRAMES_PER_S).tolist() == [1] * 23 + [2] * 25 + [1] * 27


def test_blocks_are_encoded_once_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    turn = {"speaker": 1, "text": "Hi.", "start_s": 0.0, "end_s": 1.0}
    row = {"id": "train-en-000000", "file_path": "a.wav", "language": "en",
           "voices": ["s1", "s2"], "turns": [turn]}  # fmt: skip
    (tmp_path / "blocks" / "train-en-00000.jsonl").write_text(json.dumps(row) + "\n")
    asked: list[Path] = []

    def encode(path: Path) -> IntArray:
        asked.append(path)
        return np.arange(16).reshape(8, 2)

    assert list(read_spoken(tmp_path, "train")) == []
    encode_blocks(tmp_path, encode)
    encode_blocks(tmp_path, encode)
    (found,) = read_spoken(tmp_path, "train")
    assert asked == [tmp_path / "a.wav"]
    assert found.voices == ("s1", "s2")
    assert found.turns == (SpokenTurn(1, "Hi.", 0.0, 1.0),)
    assert np.array_equal(found.codes, np.arange(16).reshape(8, 2))
    assert list(read_spoken(tmp_path, "test")) == []


def test_a_folder_without_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no block"):
        list(read_spoken(tmp_path, "train"))


def test_all_folders_become_one_dataset_for_training_and_one_for_tests(
    tmp_path: Path, text_side: TextSide
) -> None:
    for folder, split, number in (("a", "train", 0), ("b", "train", 1), ("b", "test", 0)):
        (tmp_path / folder / "blocks").mkdir(parents=True, exist_ok=True)
        turns = [{"speaker": s, "text": "Hi.", "start_s": s - 1, "end_s": s} for s in (1, 2)]
        row = {"id": f"{split}-en-{number:06d}", "file_path": "a.wav", "language": "en",
               "voices": list(DEFAULT_PAIR), "turns": turns}  # fmt: skip
        block = tmp_path / folder / "blocks" / f"{split}-en-00000.jsonl"
        block.write_text(json.dumps(row) + "\n")
        encode_blocks(tmp_path / folder, lambda _: np.arange(8 * 26).reshape(8, 26))
    folders = [tmp_path / "a", tmp_path / "b"]
    counts = write_examples(folders, tmp_path / "out", text_side, FRAMES_PER_S, seed=1)
    assert counts["train"] >= 2
    # Both folders are spoken by the default voices.
    assert counts["default"] == counts["train"]
    assert counts["test"] == 1
    for split, count in counts.items():
        dataset = SpeechDataset(tmp_path / "out" / split)
        assert len(dataset) == count
        assert dataset.voices == DEFAULT_PAIR
        assert dataset[0].voices is not None


def _script(dialogue: SpokenDialogue) -> str:
    return "".join(f"[S{turn.speaker}]{turn.text}" for turn in dialogue.turns)


def _example_of(
    spoken: SpokenDialogue, clips: list[SpokenDialogue], side: TextSide, seed: int
) -> Example:
    """The first example; the clips are long enough for references, the spoken turns are not."""
    short = [dataclasses.replace(t, start_s=p * 0.5, end_s=p * 0.5 + 0.5)
             for p, t in enumerate(spoken.turns)]  # fmt: skip
    brief = dataclasses.replace(spoken, turns=tuple(short), codes=spoken.codes[:, :BRIEF_FRAMES])
    return _make([brief, *clips], side, seed)[0]


def _prompt_of(example: Example) -> tuple[int, ...]:
    return tuple(example.input_ids[: -1 - BRIEF_FRAMES].astype(np.int64).ravel())
