# SPDX-License-Identifier: Apache-2.0
"""The JSON files of a reference checkpoint, read as duologue's own configuration.

Sources: OpenMOSS/MOSS-TTSD v0.7, `modeling_asteroid.py` (AsteroidTTSConfig on top of
Qwen3Config) and `generation_config.json`; huggingface/transformers#40286 for the port's names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.runtime.config import READINGS, LmConfig, TokenIds
from duologue.runtime.errors import ConfigError

ARCHITECTURES = ("AsteroidTTSInstruct", "MossTTSDForCausalLM")
END_OF_SPEECH = "<|end_of_speech|>"
FIRST_CODE = "<0>"
CLASS_DEFAULTS = {"channels": 8, "speech_pad_token": 1024, "speech_vocab_size": 1025}
"""What the reference's configuration class assumes where `config.json` is silent."""
_UNSUPPORTED = {
    "attention_bias": (False, None),
    "use_sliding_window": (False, None),
    "rope_scaling": (None,),
    "hidden_act": ("silu",),
}

Json = Mapping[str, Any]


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Read a JSON object; an optional file that is missing is an empty one.

    Raises:
        ConfigError: the file is missing or holds no object.
    """
    if optional and not path.is_file():
        return {}
    if not path.is_file():
        raise ConfigError(f"{path} is missing")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}; allowed: an object")
    return data


def reading(config: Json) -> str:
    """How a model reads text: `text_reading` of `config.json`, which only our own models have.

    Raises:
        ConfigError: an unknown reading.
    """
    value = str(config.get("text_reading", "none"))
    if value not in READINGS:
        raise ConfigError(f"text_reading is {value!r}; allowed: {', '.join(READINGS)}")
    return value


def lm_config(config: Json, *, tied_heads: bool) -> LmConfig:
    """The shape of the model from `config.json`; channel k lags k steps.

    Raises:
        ConfigError: another architecture, a missing field, or a feature that the body lacks.
    """
    names = config.get("architectures") or []
    if not set(names) & set(ARCHITECTURES):
        raise ConfigError(f"architectures is {names!r}; allowed: {', '.join(ARCHITECTURES)}")
    for name, allowed in _UNSUPPORTED.items():
        if config.get(name, allowed[0]) not in allowed:
            raise ConfigError(f"{name} is {config[name]!r}; allowed: {allowed[0]!r}")
    channels = _whole(config, "channels")
    codes = _whole(config, "speech_vocab_size")
    return LmConfig(
        vocab_sizes=(_whole(config, "vocab_size"), *[codes] * (channels - 1)),
        delays=tuple(range(channels)),
        hidden_size=_whole(config, "hidden_size"),
        intermediate_size=_whole(config, "intermediate_size"),
        num_layers=_whole(config, "num_hidden_layers"),
        num_heads=_whole(config, "num_attention_heads"),
        num_kv_heads=_whole(config, "num_key_value_heads"),
        head_dim=_whole(config, "head_dim"),
        rms_norm_eps=number(config, "rms_norm_eps"),
        rope_theta=_rope_theta(config),
        max_position_embeddings=_whole(config, "max_position_embeddings"),
        tied_heads=tied_heads,
    )


def config_json(
    lm: LmConfig, speech: range, speech_pad: int, pad: int, dtype: str
) -> dict[str, Any]:
    """What `config.json` says of a model: `lm_config` and `token_ids` the other way.

    Args:
        lm: shape of the model.
        speech: ids of the first codebook.
        speech_pad: pad of all channels but the first.
        pad: of the first channel; the end of the text, too.
        dtype: precision of the weights beside it, e.g. "float32".
    """
    return {
        "architectures": [ARCHITECTURES[0]],
        "model_type": "qwen3",
        "attention_bias": False,
        "hidden_act": "silu",
        "channels": lm.num_channels,
        "speech_pad_token": speech_pad,
        "speech_vocab_size": lm.vocab_sizes[-1],
        "speech_token_range": [speech.start, speech.stop],
        "vocab_size": lm.vocab_sizes[0],
        "hidden_size": lm.hidden_size,
        "intermediate_size": lm.intermediate_size,
        "num_hidden_layers": lm.num_layers,
        "num_attention_heads": lm.num_heads,
        "num_key_value_heads": lm.num_kv_heads,
        "head_dim": lm.head_dim,
        "rms_norm_eps": lm.rms_norm_eps,
        "rope_theta": lm.rope_theta,
        "max_position_embeddings": lm.max_position_embeddings,
        "tie_word_embeddings": lm.tied_heads,
        "bos_token_id": pad,
        "eos_token_id": pad,
        "pad_token_id": pad,
        "torch_dtype": dtype,
    }


def special_ids(directory: Path) -> dict[str, int]:
    """Token -> id of the tokenizer's vocabulary and added tokens.

    Raises:
        ConfigError: a file of the tokenizer is no JSON, or is laid out otherwise.
    """
    try:
        return _special_ids(directory)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"the tokenizer in {directory} cannot be read: {error!r}") from error


def _special_ids(directory: Path) -> dict[str, int]:
    tokenizer = read_json(directory / "tokenizer.json", optional=True)
    ids: dict[str, int] = dict(tokenizer.get("model", {}).get("vocab", {}))
    ids.update(read_json(directory / "added_tokens.json", optional=True))
    decoder = read_json(directory / "tokenizer_config.json", optional=True)
    for id_text, token in decoder.get("added_tokens_decoder", {}).items():
        ids[token["content"]] = int(id_text)
    for token in tokenizer.get("added_tokens", []):
        ids[token["content"]] = int(token["id"])
    return ids


def token_ids(config: Json, generation: Json, ids: Mapping[str, int]) -> TokenIds:
    """The special ids: by name through the tokenizer where they have one.

    Args:
        config: `config.json`.
        generation: `generation_config.json`, {} if there is none.
        ids: see `special_ids`.

    Raises:
        ConfigError: an id is found nowhere, lies outside the vocabulary, or the tokenizer and
            `config.json` disagree.
    """
    start, stop = _speech_range(config, ids)
    end = ids.get(END_OF_SPEECH, config.get("speech_eos_token"))
    pad = config.get("eos_token_id")
    pad = config.get("pad_token_id") if not isinstance(pad, int) else pad
    tokens = TokenIds(
        speech_start=start,
        speech_stop=stop,
        end_of_speech=_within(config, "vocab_size", END_OF_SPEECH, end),
        pad=_within(config, "vocab_size", "eos_token_id", pad),
        speech_pad=_within(
            config, "speech_vocab_size", "speech_pad_token", _whole(config, "speech_pad_token")
        ),
        eos=_eos_ids(generation.get("eos_token_id")),
    )
    _within(config, "vocab_size", "speech_token_range", stop - 1)
    return tokens


def _eos_ids(found: object) -> tuple[int, ...]:
    ids = [] if found is None else found if isinstance(found, list) else [found]
    if not all(isinstance(each, int) for each in ids):
        raise ConfigError(f"eos_token_id is {found!r}; allowed: an id, or a list of ids")
    return tuple(ids)


def _speech_range(config: Json, ids: Mapping[str, int]) -> tuple[int, int]:
    named = ids.get(FIRST_CODE)
    given = config.get("speech_token_range") or []
    if len(given) == 2:
        start, stop = int(given[0]), int(given[1])
    elif named is not None:
        # The pad code is the one code that channel 0 does not have.
        start, stop = named, named + _whole(config, "speech_vocab_size") - 1
    else:
        raise ConfigError(
            f"speech_token_range is {given!r} and the tokenizer has no {FIRST_CODE}; "
            "allowed: [start, stop), or a tokenizer with the code tokens"
        )
    if named is not None and named != start:
        raise ConfigError(
            f"speech_token_range begins at {start}, the tokenizer's {FIRST_CODE} is {named}; "
            "allowed: the same id"
        )
    return start, stop


def _within(config: Json, size_name: str, name: str, value: object) -> int:
    size = _whole(config, size_name)
    if not isinstance(value, int) or not 0 <= value < size:
        raise ConfigError(f"{name} is {value!r}; allowed: an id below {size_name} = {size}")
    return value


def _rope_theta(config: Json) -> float:
    nested = config.get("rope_parameters") or {}
    if nested.get("rope_type", "default") != "default":
        raise ConfigError(f"rope_parameters is {nested!r}; allowed: rope_type 'default'")
    return number(nested if "rope_theta" in nested else config, "rope_theta")


def number(config: Json, name: str) -> float:
    """A number of a JSON object.

    Raises:
        ConfigError: it is missing and has no default, or is no number.
    """
    value = config.get(name, CLASS_DEFAULTS.get(name))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{name} is {value!r}; allowed: a number")
    return float(value)


def _whole(config: Json, name: str) -> int:
    value = config.get(name, CLASS_DEFAULTS.get(name))
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} is {value!r}; allowed: a whole number")
    return value
