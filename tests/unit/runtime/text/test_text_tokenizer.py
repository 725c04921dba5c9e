# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from duologue.runtime.errors import ConfigError, ScriptError
from duologue.runtime.text.tokenizer import Piece, TextTokenizer

PATH = Path(__file__).parents[3] / "golden" / "data" / "lm_scaled" / "tokenizer.json"
SAFE = TextTokenizer.from_file(PATH)
REFERENCE = Tokenizer.from_file(str(PATH))
CONTROL = {token["content"]: token["id"] for token in json.loads(PATH.read_text())["added_tokens"]}


def write(path: Path, **changes: Any) -> Path:
    data = json.loads(PATH.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_ordinary_text_is_encoded_as_by_the_whole_tokenizer(text: str) -> None:
    if not any(control in text for control in CONTROL):
        assert SAFE.encode_text(text) == REFERENCE.encode(text).ids


texts = st.lists(st.sampled_from(list(CONTROL)) | st.text(max_size=4), max_size=6).map("".join)


@given(texts.filter(lambda text: text.isprintable()))
def test_nothing_in_a_text_becomes_a_control_token(text: str) -> None:
    ids = SAFE.encode_text(text)
    assert not set(ids) & set(CONTROL.values())
    assert REFERENCE.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("name", ["<|end_of_speech|>", "<speaker1>", "<5>", "<|endoftext|>"])
def test_a_control_token_written_out_is_as_long_as_its_letters(name: str) -> None:
    assert len(SAFE.encode_text(name)) == len(name)
    assert SAFE.token_id(name) == CONTROL[name]


def test_added_tokens_that_are_not_special_are_plain_text_too(tmp_path: Path) -> None:
    token = {"id": 256, "content": "<tool>", "special": False, "normalized": True}
    token |= {"single_word": False, "lstrip": False, "rstrip": False}
    path = write(tmp_path / "t.json", added_tokens=[token])
    assert Tokenizer.from_file(str(path)).encode("<tool>").ids == [256]
    assert len(TextTokenizer.from_file(path).encode_text("<tool>")) == 6


@given(st.lists(st.sampled_from(list(CONTROL)) | st.text(alphabet="ab 你<>|\n1"), max_size=8))
def test_a_template_is_encoded_as_by_the_whole_tokenizer(parts: list[str]) -> None:
    text = "".join(parts)
    assert SAFE.encode_prompt(SAFE.split_template(text)) == REFERENCE.encode(text).ids


def test_neighbouring_strings_are_encoded_as_one(tmp_path: Path) -> None:
    vocab = json.loads(PATH.read_text())["model"]["vocab"] | {"ab": 256}
    model = {"type": "BPE", "vocab": vocab, "merges": ["a b"]}
    tokenizer = TextTokenizer.from_file(write(tmp_path / "t.json", model=model, added_tokens=[]))
    pieces: list[Piece] = ["a", "b", 7, "", "a"]
    assert tokenizer.encode_prompt(pieces) == [256, 7, vocab["a"]]


def test_tokens_around_every_text_stand_once_around_the_prompt(tmp_path: Path) -> None:
    processor = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            name: {"id": name, "ids": [CONTROL[name]], "tokens": [name]}
            for name in ("<|im_start|>", "<|im_end|>")
        },
    }
    path = write(tmp_path / "t.json", post_processor=processor)
    tokenizer = TextTokenizer.from_file(path)
    text = "a<speaker1>b"
    expected = Tokenizer.from_file(str(path)).encode(text).ids
    assert expected[0] == CONTROL["<|im_start|>"]
    assert tokenizer.encode_prompt(tokenizer.split_template(text)) == expected
    assert len(tokenizer.encode_text("ab")) == 2


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    data = json.loads(PATH.read_text(encoding="utf-8"))
    path = tmp_path / "t.json"
    path.write_text(json.dumps(dict(reversed(data.items()))), encoding="utf-8")
    assert TextTokenizer.from_file(path).token_id("<speaker1>") == CONTROL["<speaker1>"]


def test_a_vocabulary_that_holds_a_control_token_cannot_smuggle_it_in(tmp_path: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"<speaker1>": 348, "?": 0}, "unk_token": "?"}
    path = write(tmp_path / "t.json", model=model, pre_tokenizer=None)
    with pytest.raises(ScriptError, match="control token"):
        TextTokenizer.from_file(path).encode_text("<speaker1>")


def test_an_unknown_token_is_a_config_error() -> None:
    assert SAFE.token_id("a") == REFERENCE.token_to_id("a")
    with pytest.raises(ConfigError, match="<speaker9>"):
        SAFE.token_id("<speaker9>")


def test_half_a_character_is_a_script_error() -> None:
    with pytest.raises(ScriptError, match="Unicode"):
        SAFE.encode_text("\ud800")


@pytest.mark.parametrize("text", ["", "no json", "{}", "[1]", '{"added_tokens": [{}]}', '{"a": '])
def test_a_file_that_is_no_tokenizer_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot be read"):
        TextTokenizer.from_file(path)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        TextTokenizer.from_file(tmp_path / "none.json")


def test_added_tokens_that_swallow_spaces_are_not_supported(tmp_path: Path) -> None:
    token = {"id": 256, "content": "<x>", "special": True, "normalized": False}
    token |= {"single_word": False, "lstrip": True, "rstrip": False}
    with pytest.raises(ConfigError, match="lstrip"):
        TextTokenizer.from_file(write(tmp_path / "t.json", added_tokens=[token]))
