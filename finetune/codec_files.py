# SPDX-License-Identifier: Apache-2.0
"""The folder of a codec in training: configuration, weights, and the state to go on from.

`config.yaml` and `xy_tokenizer.ckpt` are the reference's own format. A kill while they are written
never leaves half a file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from duologue.build_engines.codec_checkpoint import load_codec_checkpoint, write_torch_checkpoint
from duologue.finetune.errors import TrainingError
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.errors import ConfigError

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "xy_tokenizer.ckpt"
STATE_FILE = "training.state"
_UNFINISHED_FILE = "unfinished.tmp"
# What a damaged file can make its reader raise.
_UNREADABLE = (pickle.UnpicklingError, EOFError, LookupError, RuntimeError, ValueError)


def read_generator_params(path: Path) -> dict[str, Any]:
    """The `generator_params` of a yaml file.

    Raises:
        ConfigError: the file is missing, is no yaml, or has none.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"codec configuration {path} does not exist") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"codec configuration {path} cannot be read: {error}") from error
    params = data.get("generator_params") if isinstance(data, dict) else None
    if not isinstance(params, dict):
        raise ConfigError(
            f"codec configuration {path} has no mapping generator_params; allowed: the sizes of"
            " an XY-Tokenizer, as in configs/codec_small.yaml"
        )
    return params


def check_sizes(directory: Path, wanted: XyParameters) -> None:
    """See that the codec in a folder has the sizes that are asked for.

    Raises:
        ConfigError: it has others, or its `config.yaml` is missing or no configuration.
    """
    path = directory / CONFIG_FILE
    found = XyParameters.from_dict(read_generator_params(path))
    differing = [f.name for f in fields(found) if getattr(found, f.name) != getattr(wanted, f.name)]
    if differing:
        raise ConfigError(
            f"{directory} holds a codec whose {', '.join(differing)} differ from those asked for;"
            f" allowed: {path} as the configuration, or a folder without a codec"
        )


def read_weights(directory: Path) -> dict[str, Tensor] | None:
    """Weights by the names of `XyTokenizer`, float32; None where the folder has none.

    Raises:
        ConfigError: they are damaged, or do not fit the configuration beside them.
    """
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        return None
    return load_codec_checkpoint(path, directory / CONFIG_FILE).tensors


def write_weights(directory: Path, tensors: dict[str, Tensor]) -> None:
    """Write weights by the names of `XyTokenizer` in the reference's format."""
    _replace(directory / WEIGHTS_FILE, lambda path: write_torch_checkpoint(tensors, path))


def write_config(directory: Path, params: dict[str, Any]) -> None:
    """Write `generator_params`; makes the folder if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"generator_params": params}, sort_keys=False)
    _replace(directory / CONFIG_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def read_state(directory: Path, device: str) -> dict[str, Any] | None:
    """What `write_state` has written, on a device; None where the folder has none.

    Raises:
        TrainingError: the file is damaged.
    """
    path = directory / STATE_FILE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except _UNREADABLE as error:
        raise TrainingError(
            f"{path} is damaged; without it training begins with {WEIGHTS_FILE} beside it"
        ) from error
    return state


def write_state(directory: Path, state: dict[str, Any]) -> None:
    """Write plain values and tensors to go on from."""
    _replace(directory / STATE_FILE, lambda path: torch.save(state, path))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    unfinished = path.with_name(_UNFINISHED_FILE)
    write(unfinished)
    unfinished.replace(path)
