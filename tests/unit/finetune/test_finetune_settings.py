from __future__ import annotations

from pathlib import Path

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
    with pytest.raises(TrainingError, match=r"\['rank'\]; allowed: \['bias'"):
        lora_settings({"rank": 3})
    with pytest.raises(TrainingError, match="learning_rate is 'fast'; allowed: a number"):
        lm_settings({"learning_rate": "fast"})
    with pytest.raises(TrainingError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(TrainingError, match="holds a list"):
        read_yaml(tmp_path / "list.yaml")
