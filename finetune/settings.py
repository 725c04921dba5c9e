# SPDX-License-Identifier: Apache-2.0
"""What a training run is told: a YAML file with the keys of the reference, and some of our own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from duologue.finetune.errors import TrainingError
from duologue.runtime.errors import ConfigError
from duologue.runtime.plain import from_plain

if TYPE_CHECKING:
    import yaml

_T = TypeVar("_T")
_TRAINER_DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 50,
    "learning_rate": 1e-4,
    "bf16": True,
    "logging_steps": 10,
    "save_steps": 10,
    "save_total_limit": 100,
    "dataloader_num_workers": 1,
    "warmup_ratio": 0.1,
    "lr_scheduler_type": "cosine",
    "seed": 42,
}
_NUMBERS = {"learning_rate", "weight_decay", "warmup_ratio", "max_grad_norm", "adam_epsilon"}
_LARGE_FIRST_CHANNELS = (8.0, 2.0)
# Settings of the reference that mean nothing here: weights are always saved as safetensors.
_OBSOLETE = {"save_safetensors"}
_BIASES = ("none", "all", "lora_only")
# YAML 1.1 reads 1e-4 as a text, because it has no point; people and YAML 1.2 mean a number.
_NUMBER_WITHOUT_POINT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$")

SAVE_DTYPES = ("float32", "float16")
"""Precisions of a finished checkpoint."""


@dataclass(frozen=True, slots=True)
class LmSettings:
    """A run of the language model's training.

    Attributes:
        trainer: arguments of transformers' TrainingArguments.
        channel_weights: how much each channel counts; None is 8, 2, 1, 1, ...
        max_length: rows of the longest sequence; what is longer is cut.
        max_rows_per_batch: rows of a batch with its padding; None: batches are counted in
            examples, as `per_device_train_batch_size` says.
        eval_fraction: share of the examples kept for evaluation where no evaluation data is given.
        early_stopping_patience: evaluations without progress before the run ends; None: never.
        gradient_checkpointing: compute activations twice instead of keeping them.
        voice_loss_weight: how much it counts that linear probes on the middle layers tell who
            will speak the next row, where the data says so; the probes are not kept.
        muon: train the matrices of the body by Muon, which wants fewer steps, instead of AdamW.
        save_dtype: precision of the final checkpoint, "float32" or "float16".
    """

    trainer: Mapping[str, Any] = field(default_factory=lambda: dict(_TRAINER_DEFAULTS))
    channel_weights: tuple[float, ...] | None = None
    max_length: int = 16000
    max_rows_per_batch: int | None = None
    eval_fraction: float = 0.0
    early_stopping_patience: int | None = None
    gradient_checkpointing: bool = True
    voice_loss_weight: float = 0.0
    muon: bool = False
    save_dtype: str = "float32"

    def weights_for(self, num_channels: int) -> tuple[float, ...]:
        """One weight per channel.

        >>> LmSettings().weights_for(4)
        (8.0, 2.0, 1.0, 1.0)
        """
        padded = (*_LARGE_FIRST_CHANNELS, *[1.0] * num_channels)
        return self.channel_weights or padded[:num_channels]


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adapters; the defaults are the reference's.

    Attributes:
        r: rank.
        lora_alpha: scale.
        target_modules: last part of the names of the projections that are adapted.
        lora_dropout: share of inputs dropped while training.
        bias: "none", "all" or "lora_only".
        use_rslora: divide by the root of the rank instead of the rank.
    """

    r: int = 16
    lora_alpha: int = 32
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    lora_dropout: float = 0.05
    bias: str = "none"
    use_rslora: bool = True


def lm_settings(values: Mapping[str, Any]) -> LmSettings:
    """Settings from plain values; what is left out has the reference's default.

    Args:
        values: fields of `LmSettings` but `trainer`, and any of TrainingArguments.

    Raises:
        TrainingError: a value of ours is of another kind than its field, or out of range.
    """
    own_names = {f.name for f in dataclasses.fields(LmSettings)} - {"trainer"}
    own = {name: value for name, value in values.items() if name in own_names}
    rest = {n: v for n, v in values.items() if n not in own_names and n not in _OBSOLETE}
    for name in _NUMBERS & set(rest):
        rest[name] = _number(name, rest[name])
    settings = _from_values(LmSettings, own, "the training settings")
    # A run must not come to its end and then find that it cannot be saved.
    _require(settings.save_dtype in SAVE_DTYPES, "save_dtype", settings.save_dtype, *SAVE_DTYPES)
    _require(settings.max_length > 0, "max_length", settings.max_length, "a positive number")
    return dataclasses.replace(settings, trainer={**_TRAINER_DEFAULTS, **rest})


def lora_settings(values: Mapping[str, Any]) -> LoraSettings:
    """Adapter settings from plain values.

    Raises:
        TrainingError: an unknown name, a value of another kind than its field, or out of range.
    """
    # Where the reference's files name the task, there is only one.
    chosen = {name: value for name, value in values.items() if name != "task_type"}
    settings = _from_values(LoraSettings, chosen, "the LoRA settings")
    _require(settings.r > 0, "r", settings.r, "a positive number")
    dropout = settings.lora_dropout
    _require(0 <= dropout < 1, "lora_dropout", dropout, "0 and more, below 1")
    _require(settings.bias in _BIASES, "bias", settings.bias, *_BIASES)
    return settings


def read_yaml(path: Path | None) -> dict[str, Any]:
    """Read a YAML file of names and values; None is an empty one.

    Raises:
        TrainingError: the file is missing, is no YAML, or holds no names.
    """
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _yaml_loader())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path} holds a {type(content).__name__}; allowed: names and values")
    return content


def packaged_config(name: str) -> Path:
    """Path of one of the configurations that come with this package."""
    return Path(__file__).parent / "configs" / name


def _yaml_loader() -> type[yaml.SafeLoader]:
    import yaml

    class NumberLoader(yaml.SafeLoader):
        """Safe, and reads 1e-4 as a number."""

    NumberLoader.add_implicit_resolver(
        "tag:yaml.org,2002:float", _NUMBER_WITHOUT_POINT, list("-+0123456789")
    )
    return NumberLoader


def _from_values(cls: type[_T], values: Mapping[str, Any], where: str) -> _T:
    """A dataclass of settings; 1e4 will do where a whole number is wanted."""
    hints = get_type_hints(cls)
    whole = {
        name: int(value)
        for name, value in values.items()
        if isinstance(value, float)
        and value.is_integer()
        and name in hints
        and int in (hints[name], *get_args(hints[name]))
    }
    try:
        return from_plain(cls, {**values, **whole}, where)
    except ConfigError as error:
        raise TrainingError(str(error)) from error


def _require(holds: bool, name: str, value: object, *allowed: str) -> None:
    if not holds:
        raise TrainingError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise TrainingError(f"{name} is {value!r}; allowed: a number") from error
