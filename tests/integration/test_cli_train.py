"""`duologue train`: from codes and transcripts to a checkpoint, as a person would call it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from duologue.cli.train import train
from duologue.finetune.dataset import SpeechDataset
from duologue.finetune.model_files import load_base
from duologue.finetune.new_model import write_new_model
from duologue.finetune.prepare_plan import PLAN_FILE
from duologue.finetune.rows import count_frames
from duologue.finetune.settings import packaged_config
from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle

RUNNER = CliRunner()
SETTINGS = """
max_steps: 2
per_device_train_batch_size: 4
learning_rate: 1.0e-2
use_cpu: true
bf16: false
dataloader_num_workers: 0
disable_tqdm: true
report_to: none
muon: true
"""


@pytest.fixture
def app() -> typer.Typer:
    root = typer.Typer()

    @root.callback()
    def _root(debug: bool = False) -> None:
        """Hold the option that the program has."""

    root.add_typer(train, name="train")
    return root


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    lines = []
    for place in range(8):
        np.save(tmp_path / f"{place}.npy", generator.integers(0, 16, (4, 6)))
        lines.append({"file_path": f"{place}.npy", "full_transcript": f"[S1]{place}[S2]b"})
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in [*lines, {"text": "no audio"}]))
    return path


def test_codes_become_data_and_data_a_checkpoint(
    app: typer.Typer, jsonl: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    write_new_model(tmp_path / "model", "tiny", seed=0)
    model = ["--model", str(tmp_path / "model")]
    data, out = tmp_path / "prepared", tmp_path / "out"
    made = RUNNER.invoke(app, ["train", "prepare", str(jsonl), *model, "--out", str(data)])
    assert made.exit_code == 0, made.output
    assert "8 new examples" in made.stdout
    assert "line 9 is left out" in made.stderr
    config = tmp_path / "settings.yaml"
    config.write_text(SETTINGS)
    common = ["--data", str(data), "--config", str(config)]
    done = RUNNER.invoke(app, ["train", "lm", *common, *model, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert load_base(Path(done.stdout.strip().splitlines()[-1])).checkpoint.lm.num_channels == 4
    fresh = ["--from-config", "tiny", "--out", str(tmp_path / "fresh")]
    assert RUNNER.invoke(app, ["train", "lm", *common, *fresh]).exit_code == 0


def test_recordings_are_encoded_by_a_bundle_that_is_called_by_name(
    app: typer.Typer, tmp_path: Path
) -> None:
    import soundfile

    write_new_model(tmp_path / "model", "small", seed=0)
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000)
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"file_path": "a.wav", "full_transcript": "[S1]a"}))
    data = tmp_path / "prepared"
    command = ["train", "prepare", str(path), "--model", str(tmp_path / "model")]
    command += ["--out", str(data), "--codec", "noise", "--device"]
    made = RUNNER.invoke(app, [*command, "cpu"])
    assert made.exit_code == 0, made.output
    assert "1 new examples" in made.stdout
    # 12.5 frames a second.
    assert count_frames(SpeechDataset(data)[0]) == 12
    weights = Bundle.load(noise_bundle_path()).files["codec.safetensors"]
    assert json.loads((data / PLAN_FILE).read_text())["codec_sha256"] == weights["sha256"]
    refused = RUNNER.invoke(app, [*command, "tpu"])
    assert "codec device is 'tpu'; allowed: auto, cpu, cuda or cuda:N" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lm", "--data", "none", "--out", "x", "--from-config", "tiny"], "is no folder"),
        (["lm", "--data", "none", "--out", "x"], "either a model to begin with, or the shape"),
        (["compare", "none", "--out", "x"], "has no dialogues.jsonl"),
        (["prepare", "none.jsonl", "--model", "none", "--out", "x"], "config.json is missing"),
        (
            ["prepare", "none.jsonl", "--model", "none", "--out", "x", "--codec", "none"],
            "allowed: 'default', 'noise' or the directory of a bundle",
        ),
        (
            ["codec", "none", "--out", "x", "--config", str(packaged_config("lm_small.yaml"))],
            "has no mapping generator_params",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    app: typer.Typer,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = RUNNER.invoke(app, ["train", *arguments])
    assert failed.exit_code != 0
    assert message in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
