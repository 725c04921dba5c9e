"""config.json and the tokenizer's ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duologue.build_engines.checkpoint_config import (
    lm_config,
    read_json,
    special_ids,
    token_ids,
)
from duologue.runtime.errors import ConfigError

DATA = Path(__file__).parents[2] / "golden" / "data" / "lm_scaled"
CONFIG: dict[str, Any] = json.loads((DATA / "config.json").read_text())
IDS = special_ids(DATA)


def _without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in CONFIG.items() if name not in names}


def test_the_class_defaults_hold_where_the_file_is_silent() -> None:
    silent = _without("channels", "speech_vocab_size")
    assert lm_config(silent, tied_heads=True).vocab_sizes == (350, *[1025] * 7)


def test_newer_files_nest_the_rotary_base() -> None:
    nested = {**_without("rope_theta"), "rope_parameters": {"rope_theta": 5e5}}
    assert lm_config(nested, tied_heads=True).rope_theta == 5e5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["MossTTSDelayModel"]}, "allowed: AsteroidTTSInstruct, MossTTSDFor"),
        ({"architectures": None}, "architectures is"),
        ({"attention_bias": True}, "attention_bias is True; allowed: False"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; allowed: 'silu'"),
        ({"hidden_size": "48"}, "hidden_size is '48'; allowed: a whole number"),
        ({"num_key_value_heads": 4}, "num_kv_heads is 4; allowed: a divisor of 6"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None; allowed: a number"),
    ],
)
def test_what_the_body_cannot_do_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lm_config({**CONFIG, **changes}, tied_heads=True)


def test_ids_are_resolved_by_name() -> None:
    renamed = {**IDS, "<|end_of_speech|>": 343}
    assert token_ids(CONFIG, {}, renamed).end_of_speech == 343


def test_the_range_of_codes_comes_from_the_tokenizer_where_the_config_is_silent() -> None:
    tokens = token_ids({**CONFIG, "speech_token_range": []}, {}, IDS)
    assert (tokens.speech_start, tokens.speech_stop) == (278, 342)


def test_the_port_names_the_end_in_its_config() -> None:
    tokens = token_ids({**CONFIG, "speech_eos_token": 345}, {}, {})
    assert tokens.end_of_speech == 345


@pytest.mark.parametrize(("eos", "wanted"), [(None, ()), (5, (5,)), ([5, 6], (5, 6))])
def test_the_ends_of_the_generation_config(eos: object, wanted: tuple[int, ...]) -> None:
    assert token_ids(CONFIG, {"eos_token_id": eos}, IDS).eos == wanted


@pytest.mark.parametrize(
    ("changes", "ids", "message"),
    [
        ({}, {"<0>": 278}, "end_of_speech.*is None; allowed: an id below vocab_size = 350"),
        ({}, {**IDS, "<|end_of_speech|>": 350}, "is 350; allowed: an id below"),
        ({}, {**IDS, "<0>": 279}, "begins at 278, the tokenizer's <0> is 279"),
        ({"speech_token_range": []}, {"<|end_of_speech|>": 1}, "the tokenizer has no <0>"),
        ({"speech_token_range": [278, 400]}, IDS, "speech_token_range is 399"),
        ({"speech_pad_token": 65}, IDS, "speech_pad_token is 65"),
        ({"eos_token_id": None, "pad_token_id": None}, IDS, "eos_token_id is None"),
    ],
)
def test_ids_that_cannot_be_are_refused(
    changes: dict[str, Any], ids: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        token_ids({**CONFIG, **changes}, {}, ids)


@pytest.mark.parametrize("eos", ["256", [256, "257"], 1.5])
def test_ends_of_another_type_are_refused(eos: object) -> None:
    with pytest.raises(ConfigError, match=r"eos_token_id is .*allowed: an id"):
        token_ids(CONFIG, {"eos_token_id": eos}, IDS)


@pytest.mark.parametrize("text", ['{"added_tokens": [3]}', '{"model": 1}'])
def test_a_tokenizer_that_is_laid_out_otherwise_has_no_ids(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match=r"the tokenizer in .* cannot be read"):
        special_ids(tmp_path)


def test_json_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match="is missing"):
        read_json(path)
    assert read_json(path, optional=True) == {}
    for text, message in (("{", "is no JSON"), ("[]", "holds a list; allowed: an object")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_json(path)
