from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue.finetune.errors import TrainingError
from duologue.finetune.settings import LoraSettings, lm_settings, lora_settings, read_yaml

TRAINING_YAML = """
per_device_train_batch_size: 2
gradient_accumulation_steps: 1
num_train_epochs: 50
learning_rate: 1e-4
bf16: true
logging_steps: 10
save_steps: 10
save_total_limit: 100
dataloader_num_workers: 1
warmup_ratio: 0.1
lr_scheduler_type: "cosine"
save_safetensors: false
"""
LORA_YAML = """
r: 8
lora_alpha: 32
target_modules: ["q_proj", "v_proj"]
lora_dropout: 0.05
bias: "none"
task_type: "CAUSAL_LM"
use_rslora: true
"""


def test_the_keys_of_the_reference_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text(TRAINING_YAML)
    trainer = lm_settings(read_yaml(path)).trainer
    # YAML reads 1e-4 as a text.
    assert trainer["learning_rate"] == 1e-4
    assert trainer["per_device_train_batch_size"] == 2
    assert "save_safetensors" not in trainer


def test_adapter_settings_keep_the_defaults_of_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lora.yaml"
    path.write_text(LORA_YAML)
    assert lora_settings(read_yaml(path)) == LoraSettings(r=8, target_modules=("q_proj", "v_proj"))
    assert lora_settings({}) == LoraSettings()


def test_channel_weights_follow_the_number_of_channels() -> None:
    assert lm_settings({}).weights_for(8) == (8.0, 2.0, *[1.0] * 6)
    assert lm_settings({"channel_weights": [3, 1]}).weights_for(2) == (3.0, 1.0)


def test_unknown_names_and_bad_values_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"fields \['rank'\]; allowed: \['bias'"):
        lora_settings({"rank": 3})
    with pytest.raises(TrainingError, match="learning_rate is 'fast'; allowed: a number"):
        lm_settings({"learning_rate": "fast"})
    with pytest.raises(TrainingError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(TrainingError, match="holds a list"):
        read_yaml(tmp_path / "list.yaml")


def test_numbers_may_be_written_without_a_point(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("eval_fraction: 1e-1\nmax_length: 1e4\nadam_beta2: 99e-2\nname: e4\n")
    values = read_yaml(path)
    settings = lm_settings(values)
    assert (settings.eval_fraction, settings.max_length) == (0.1, 10_000)
    assert settings.trainer["adam_beta2"] == 0.99
    assert values["name"] == "e4"
    assert lora_settings({"lora_dropout": 0}).lora_dropout == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channel_weights": 8}, "channel_weights is 8; allowed: a list"),
        ({"channel_weights": [8, "two"]}, r"channel_weights\[1\] is 'two'; allowed: float"),
        ({"max_length": 0.5}, r"max_length is 0\.5; allowed: int"),
        ({"max_length": 0}, "max_length is 0; allowed: a positive number"),
        ({"gradient_checkpointing": "no"}, "gradient_checkpointing is 'no'; allowed: bool"),
        ({"save_dtype": "fp16"}, "save_dtype is 'fp16'; allowed: float32, float16"),
    ],
)
def test_a_setting_of_another_kind_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        lm_settings(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r": 0}, "r is 0; allowed: a positive number"),
        ({"r": 2.5}, r"r is 2\.5; allowed: int"),
        ({"lora_dropout": "some"}, "lora_dropout is 'some'; allowed: float"),
        ({"lora_dropout": 1.0}, "0 and more, below 1"),
        ({"bias": "every"}, "bias is 'every'; allowed: none, all, lora_only"),
        ({"target_modules": "q_proj"}, "target_modules is 'q_proj'; allowed: a list"),
    ],
)
def test_an_adapter_setting_of_another_kind_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        lora_settings(values)
