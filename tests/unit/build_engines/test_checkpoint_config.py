"""config.json, generation_config.json and the tokenizer's ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duologue.build_engines.checkpoint_config import (
    lm_config,
    read_json,
    sampling,
    special_ids,
    token_ids,
)
from duologue.runtime.core import ChannelSampling
from duologue.runtime.errors import ConfigError

DATA = Path(__file__).parents[2] / "golden" / "data" / "lm_scaled"
CONFIG: dict[str, Any] = json.loads((DATA / "config.json").read_text())
IDS = special_ids(DATA)
DEFAULT = ChannelSampling(True, 0.8, 50, 0.95)


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


def test_sampling_is_read_channel_by_channel() -> None:
    layers = [{"temperature": 1, "top_k": 5}, {"repetition_penalty": 1.1}]
    got = sampling({"do_samples": [True, False], "layers": layers}, 2)
    assert got == (
        ChannelSampling(True, temperature=1.0, top_k=5),
        ChannelSampling(False, repetition_penalty=1.1),
    )


@pytest.mark.parametrize(
    ("generation", "wanted"),
    [
        ({}, (DEFAULT, DEFAULT)),
        ({"do_sample": False, "top_k": 7}, (ChannelSampling(False, 0.8, 7, 0.95),) * 2),
        ({"do_samples": [True, False]}, (DEFAULT, ChannelSampling(False))),
    ],
)
def test_silence_means_the_documented_defaults(
    generation: dict[str, Any], wanted: tuple[ChannelSampling, ...]
) -> None:
    assert sampling(generation, 2) == wanted


def test_lists_of_another_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="layers has 1 entries; allowed: 2"):
        sampling({"do_samples": [True, True], "layers": [{}]}, 2)


def test_json_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match="is missing"):
        read_json(path)
    assert read_json(path, optional=True) == {}
    for text, message in (("{", "is no JSON"), ("[]", "holds a list; allowed: an object")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_json(path)
