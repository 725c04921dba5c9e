from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duologue.build_engines.moss_ttsd import PROMPT
from duologue.build_engines.random_tokenizer import write_byte_tokenizer
from duologue.finetune.errors import DataError
from duologue.finetune.rows import IGNORED, build_row, encode_transcript, label_row
from duologue.runtime.config import TokenIds
from duologue.runtime.text.tokenizer import TextTokenizer

TOKENS = TokenIds(speech_start=10, speech_stop=14, end_of_speech=20, pad=0, speech_pad=4, eos=())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_byte_tokenizer(folder, 4)
    return TextTokenizer.from_file(folder / "tokenizer.json")


def test_speaker_tags_become_tokens_and_the_rest_stays_text(tokenizer: TextTokenizer) -> None:
    ids = encode_transcript("[S1]a[S2]b", PROMPT, tokenizer)
    start = ids.index(tokenizer.token_id("<|begin_of_text|>")) + 1
    stop = ids.index(tokenizer.token_id("<|end_of_text|>"))
    first, second = (tokenizer.token_id(name) for name in PROMPT.speaker_tokens)
    letters = [tokenizer.encode_text(letter)[0] for letter in "ab"]
    assert ids[start:stop] == [first, letters[0], second, letters[1]]
    assert ids[-1] == tokenizer.token_id("<|begin_of_speech|>")


def test_a_speaker_that_the_model_lacks_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DataError, match=r"\[S3\].*allowed: \[S1\] to \[S2\]"):
        encode_transcript("[S3]a", PROMPT, tokenizer)
    # More digits than Python reads as a number.
    with pytest.raises(DataError, match=r"allowed: \[S1\] to \[S2\]"):
        encode_transcript(f"[S{'9' * 5000}]a", PROMPT, tokenizer)


def test_only_the_audio_and_its_end_are_learnt() -> None:
    codes = np.array([[0, 3], [1, 2]])
    rows = build_row([7, 8], codes, TOKENS)
    assert rows.tolist() == [[7, 4], [8, 4], [10, 1], [13, 2], [20, 4]]
    labels = label_row(rows, 2).labels
    assert labels.tolist() == [[IGNORED] * 2] * 2 + [[10, 1], [13, 2], [20, IGNORED]]


@pytest.mark.parametrize("codes", [np.zeros((2, 0), np.int64), np.array([[4]]), np.array([[-1]])])
def test_codes_without_an_id_are_refused(codes: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(DataError, match="codes from 0 to 3"):
        build_row([7], codes, TOKENS)
