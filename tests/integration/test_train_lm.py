"""Training at the smallest size: it learns, stops, goes on, and leaves what can be used."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.build_engines.moss_ttsd import PROMPT
from duologue.finetune.collate import Collator
from duologue.finetune.dataset import Example, write_description, write_shard
from duologue.finetune.errors import DataError, TrainingError
from duologue.finetune.finetune import main
from duologue.finetune.lm_trainer import LmRun, train_lm
from duologue.finetune.model_files import BaseModel, load_base
from duologue.finetune.new_model import write_new_model
from duologue.finetune.row_source import open_rows
from duologue.finetune.rows import IGNORED, build_row, count_frames, encode_transcript
from duologue.finetune.settings import LoraSettings, lm_settings, packaged_config, read_yaml

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "use_cpu": True,
    "bf16": False,
    "dataloader_num_workers": 0,
    "disable_tqdm": True,
    "report_to": "none",
    "per_device_train_batch_size": 8,
    "logging_steps": 5,
    "save_steps": 5,
    "max_steps": 10,
    "eval_fraction": 0.25,
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_new_model(folder, "tiny", seed=0)
    return folder


@pytest.fixture(scope="module")
def data_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Letters whose codes follow from them."""
    folder = tmp_path_factory.mktemp("data")
    base = load_base(model_dir)
    generator = np.random.default_rng(0)
    examples = []
    for _ in range(32):
        word = generator.integers(0, 8, int(generator.integers(3, 9)))
        text = "[S1]" + "".join(chr(ord("a") + letter) for letter in word)
        ids = encode_transcript(text, PROMPT, base.tokenizer)
        codes = np.stack([word] * 4)
        examples.append(Example(build_row(ids, codes, base.checkpoint.tokens), len(word)))
    write_shard(folder, "s", examples)
    write_description(folder, ["s"], {})
    return folder


def _run(model_dir: Path, data_dir: Path, out_dir: Path, **changes: Any) -> LmRun:
    options = {name: changes.pop(name) for name in ("lora", "resume") if name in changes}
    settings = lm_settings({**SETTINGS, **changes})
    return LmRun(model_dir, [data_dir], out_dir, settings, **options)


def _loss(model_dir: Path, data_dir: Path) -> float:
    base, rows = load_base(model_dir), open_rows(data_dir)
    collator = Collator.for_model(base.checkpoint.lm, base.checkpoint.tokens)
    batch = collator([rows[place] for place in range(len(rows))])
    with torch.inference_mode():
        return float(base.model(batch["input_ids"], batch["labels"])["loss"])


def test_training_lowers_the_loss_and_leaves_a_checkpoint(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    final = train_lm(_run(model_dir, data_dir, tmp_path, max_rows_per_batch=200))
    assert _loss(final, data_dir) < 0.8 * _loss(model_dir, data_dir)
    # Every checkpoint on the way is a model of its own.
    assert _loss(tmp_path / "checkpoint-5", data_dir) < _loss(model_dir, data_dir)


def test_a_run_that_was_killed_ends_where_an_unbroken_one_does(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    whole = train_lm(_run(model_dir, data_dir, tmp_path / "a"))
    train_lm(_run(model_dir, data_dir, tmp_path / "b"))
    # What a kill during step 9 leaves: the checkpoint of step 5, and a half one.
    half = tmp_path / "b" / "checkpoint-10"
    (half / "trainer_state.json").unlink()
    resumed = train_lm(_run(model_dir, data_dir, tmp_path / "b", resume=True))
    first, second = (load_base(folder).model.state_dict() for folder in (whole, resumed))
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-6), name


def test_a_run_is_not_begun_over_the_checkpoints_of_another(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "trainer_state.json").write_text("{}")
    train_lm(_run(model_dir, data_dir, tmp_path, max_steps=5))
    with pytest.raises(TrainingError, match="an earlier run, up to step 5; allowed: to resume it"):
        train_lm(_run(model_dir, data_dir, tmp_path))


def test_gradients_of_several_batches_count_as_those_of_one(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    rows = open_rows(data_dir)
    ids = rows[0].input_ids
    num_frames = count_frames(rows[0])
    write_shard(tmp_path, "s", [Example(ids, num_frames)] * 8)
    write_description(tmp_path, ["s"], {})
    states = []
    for accumulated in (1, 4):
        sizes = {"per_device_train_batch_size": 8 // accumulated, "eval_fraction": 0.0}
        sizes |= {"gradient_accumulation_steps": accumulated, "max_steps": 3, "save_steps": 9}
        final = train_lm(_run(model_dir, tmp_path, tmp_path / str(accumulated), **sizes))
        states.append(load_base(final).model.state_dict())
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-4), name


def test_curves_of_the_channels_are_kept_for_tensorboard(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    train_lm(_run(model_dir, data_dir, tmp_path, report_to="tensorboard", eval_steps=5))
    written = b"".join(path.read_bytes() for path in tmp_path.glob("runs/*/events*"))
    for name in (b"train/loss", b"train/loss_channel_3", b"eval/loss_channel_0"):
        assert name in written


def test_a_batch_that_was_cut_before_its_speech_ends_the_run(
    model_dir: Path, tmp_path: Path
) -> None:
    base = load_base(model_dir)
    examples = []
    for text in ["[S1]a"] * 8 + ["[S1]" + "a" * 200] * 8:
        ids = encode_transcript(text, PROMPT, base.tokenizer)
        rows = build_row(ids, np.zeros((4, 5), dtype=int), base.checkpoint.tokens)
        examples.append(Example(rows, 5))
    write_shard(tmp_path, "s", examples)
    write_description(tmp_path, ["s"], {})
    changes = {"max_length": 100, "per_device_train_batch_size": 1, "max_steps": 16}
    with pytest.raises(TrainingError, match=r"no label is left in a batch of \[1, 100\] rows"):
        train_lm(_run(model_dir, tmp_path, tmp_path / "out", **changes))


def _with_voices(base: BaseModel, folder: Path, names: list[str]) -> Path:
    """Words of one letter each, whose voice is the letter."""
    folder.mkdir()
    examples = []
    for letter in range(4):
        ids = encode_transcript("[S1]" + "abcd"[letter] * 5, PROMPT, base.tokenizer)
        rows = build_row(ids, np.full((4, 5), letter), base.checkpoint.tokens)
        voices = np.full(len(rows), IGNORED)
        voices[-6:-1] = letter % len(names)
        examples.append(Example(rows, 5, voices=voices))
    write_shard(folder, "s", examples * 4)
    write_description(folder, ["s"], {"voices": names})
    return folder


def test_probes_learn_who_speaks_and_a_broken_run_keeps_them(
    model_dir: Path, tmp_path: Path
) -> None:
    base = load_base(model_dir)
    data = [_with_voices(base, tmp_path / part, ["anna", "ben"]) for part in ("x", "y")]
    settings = lm_settings({**SETTINGS, "voice_loss_weight": 0.3, "logging_steps": 1})
    whole = train_lm(LmRun(model_dir, data, tmp_path / "a", settings))
    train_lm(LmRun(model_dir, data, tmp_path / "b", settings))
    half = tmp_path / "b" / "checkpoint-10"
    (half / "trainer_state.json").unlink()
    resumed = train_lm(LmRun(model_dir, data, tmp_path / "b", settings, resume=True))
    first, second = (load_base(folder).model.state_dict() for folder in (whole, resumed))
    assert set(first) == set(base.model.state_dict())
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-6), name
    state = json.loads((tmp_path / "a" / "trainer_state.json").read_text())
    losses = [entry["voice_loss"] for entry in state["log_history"] if "voice_loss" in entry]
    assert losses[-1] < losses[0]


def test_probes_need_data_that_names_voices_and_all_weights(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    settings = lm_settings({**SETTINGS, "voice_loss_weight": 0.3})
    with pytest.raises(DataError, match="says nothing"):
        train_lm(LmRun(model_dir, [data_dir], tmp_path, settings))
    with pytest.raises(TrainingError, match="with adapters"):
        train_lm(LmRun(model_dir, [data_dir], tmp_path, settings, lora=LoraSettings()))
    base = load_base(model_dir)
    parts = [_with_voices(base, tmp_path / n, [n, "ben"]) for n in ("anna", "carl")]
    with pytest.raises(DataError, match=r"different voices: \['anna', 'ben'\]"):
        train_lm(LmRun(model_dir, parts, tmp_path / "out", settings))
    with pytest.raises(DataError, match="evaluation data names the voices"):
        train_lm(LmRun(model_dir, parts[:1], tmp_path / "o", settings, eval_dir=parts[1]))


def test_the_packaged_settings_for_a_cpu_work_on_one(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    few = {"max_steps": 2, "report_to": "none", "disable_tqdm": True}
    values = {**read_yaml(packaged_config("lm_small.yaml")), **few}
    run = LmRun(model_dir, [data_dir], tmp_path, lm_settings(values), eval_dir=data_dir)
    assert (train_lm(run) / "model.safetensors").is_file()


def test_adapters_are_trained_alone_and_merged(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    run = _run(model_dir, data_dir, tmp_path, lora=LoraSettings(r=4))
    final = train_lm(run)
    before, after = (load_base(folder).model.state_dict() for folder in (model_dir, final))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    assert _loss(final, data_dir) < _loss(model_dir, data_dir)
    resumed = train_lm(_run(model_dir, data_dir, tmp_path, lora=LoraSettings(r=4), resume=True))
    assert math.isclose(_loss(resumed, data_dir), _loss(final, data_dir), rel_tol=1e-6)


def test_a_run_stops_early_when_nothing_improves(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    changes = {"learning_rate": 1e-12, "max_steps": 40, "eval_steps": 5}
    train_lm(_run(model_dir, data_dir, tmp_path, early_stopping_patience=1, **changes))
    assert max(int(p.name.rpartition("-")[2]) for p in tmp_path.glob("checkpoint-*")) < 40


def test_the_line_of_the_reference_works(model_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    training, lora = tmp_path / "training.yaml", tmp_path / "lora.yaml"
    lines = [f"{name}: {value}" for name, value in {**SETTINGS, "max_steps": 1}.items()]
    training.write_text("\n".join(lines))
    lora.write_text("r: 2\nuse_rslora: true\n")
    line = f"--model_path {model_dir} --data_dir {data_dir} --output_dir {tmp_path / 'out'} "
    main([*line.split(), "--training_config", str(training), "--lora", "--lora_config", str(lora)])
    assert _loss(tmp_path / "out" / "final", data_dir) > 0


def test_what_cannot_work_is_said(model_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        train_lm(_run(model_dir, tmp_path / "none", tmp_path))
    with pytest.raises(TrainingError, match=r"\['speed'\], which nobody knows"):
        train_lm(_run(model_dir, data_dir, tmp_path, speed=3))
    lora = LoraSettings(target_modules=("q_proj", "w_proj"))
    with pytest.raises(TrainingError, match=r"names \['w_proj'\]; allowed: down_proj, gate_proj"):
        train_lm(_run(model_dir, data_dir, tmp_path, lora=lora))
    lora = LoraSettings(target_modules=("q_proj", "q_norm"))
    with pytest.raises(TrainingError, match=r"names \['q_norm'\]; allowed: down_proj, gate_proj"):
        train_lm(_run(model_dir, data_dir, tmp_path, lora=lora))
    with pytest.raises(TrainingError, match="'steps', which needs evaluation data"):
        train_lm(_run(model_dir, data_dir, tmp_path, eval_fraction=0.0, eval_strategy="steps"))
    with pytest.raises(TrainingError, match="early stopping needs evaluation data"):
        train_lm(_run(model_dir, data_dir, tmp_path, eval_fraction=0.0, early_stopping_patience=1))
    with pytest.raises(SystemExit, match="error: "):
        main(["--model_path", str(tmp_path), "--data_dir", str(data_dir), "--output_dir", "x"])


def test_a_loss_that_is_no_number_ends_the_run(
    model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="the loss is nan at step"):
        train_lm(_run(model_dir, data_dir, tmp_path, learning_rate=1e30, max_grad_norm=0))


@pytest.mark.slow
def test_two_processes_train_one_model(model_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    training = tmp_path / "training.yaml"
    settings = {**SETTINGS, "max_steps": 2, "save_steps": 2, "per_device_train_batch_size": 4}
    training.write_text("\n".join(f"{name}: {value}" for name, value in settings.items()))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "duologue.finetune.finetune", f"--model_path={model_dir}"]
    command += [f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'out'}"]
    command += [f"--training_config={training}"]
    # Away from the checkout, whose folders have the names of other packages.
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert _loss(tmp_path / "out" / "final", data_dir) < _loss(model_dir, data_dir)
