# SPDX-License-Identifier: Apache-2.0
"""Training of the language model: full or with adapters, on one device or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainingArguments

from duologue.finetune.collate import Collator
from duologue.finetune.errors import DataError, TrainingError
from duologue.finetune.lora import add_adapters, merge_adapters
from duologue.finetune.model import TrainableLm
from duologue.finetune.model_files import BaseModel, load_base, load_probes, save_checkpoint
from duologue.finetune.muon import Muon
from duologue.finetune.row_source import RowSource, check_rows, open_parts, open_rows
from duologue.finetune.settings import LmSettings, LoraSettings
from duologue.finetune.trainer import DialogueTrainer

FINAL_DIR = "final"
"""Folder inside the output folder where the finished checkpoint lies."""


@dataclass(frozen=True, slots=True)
class LmRun:
    """What to train, on what, and where to put it.

    Attributes:
        model_dir: checkpoint that training begins with.
        data_dirs: prepared data, see `row_source.open_rows`; a batch holds examples of one
            folder, and each folder has as many batches as its examples fill.
        out_dir: checkpoints, TensorBoard logs, and the finished checkpoint in `final`.
        settings: of the run.
        lora: adapters; None trains all weights.
        eval_dir: prepared data for evaluation; None: see `LmSettings.eval_fraction`.
        resume: go on from the last checkpoint in `out_dir`, if there is one.
    """

    model_dir: Path
    data_dirs: Sequence[Path]
    out_dir: Path
    settings: LmSettings
    lora: LoraSettings | None = None
    eval_dir: Path | None = None
    resume: bool = False


def train_lm(run: LmRun) -> Path:
    """Train a language model.

    Under `torchrun` every process calls this, each with its own device.

    Args:
        run: see there.

    Returns:
        Folder of the finished checkpoint, which `build` reads.

    Raises:
        DataError: there is no data, or it does not fit the model.
        TrainingError: a setting cannot work, the loss became no number, or `out_dir` holds the
            checkpoints of another run, which this one does not go on with.
        ConfigError: `model_dir` is no checkpoint.
    """
    train_rows, eval_rows = _open_data(run)
    base = load_base(run.model_dir)
    last = _last_checkpoint(run)
    trainer = _make_trainer(run, base, train_rows, eval_rows)
    if last is not None and isinstance(trainer.model, TrainableLm):
        load_probes(trainer.model, Path(last))
    trainer.train(resume_from_checkpoint=last)
    final_dir = run.out_dir / FINAL_DIR
    if trainer.is_world_process_zero():
        trained = trainer.accelerator.unwrap_model(trainer.model)
        whole = trained if isinstance(trained, TrainableLm) else merge_adapters(trained)
        save_checkpoint(whole, run.model_dir, final_dir, run.settings.save_dtype)
        trainer.state.save_to_json(str(run.out_dir / "trainer_state.json"))
    return final_dir


def _last_checkpoint(run: LmRun) -> str | None:
    """The newest complete checkpoint of an earlier run: the Trainer writes its state last."""
    states = run.out_dir.glob("checkpoint-*/trainer_state.json")
    steps = [(path.parent.name.rpartition("-")[2], path.parent) for path in states]
    numbered = {int(step): folder for step, folder in steps if step.isdecimal()}
    if not numbered:
        return None
    if not run.resume:
        # Resumed later, the two runs' checkpoints could not be told apart.
        raise TrainingError(
            f"{run.out_dir} holds checkpoints of an earlier run, up to step {max(numbered)}; "
            "allowed: to resume it, or another folder"
        )
    return str(numbered[max(numbered)])


def _open_data(run: LmRun) -> tuple[RowSource, RowSource | None]:
    if run.eval_dir is not None:
        return open_rows(*run.data_dirs), open_rows(run.eval_dir)
    seed = int(run.settings.trainer["seed"])
    return open_parts(run.data_dirs, run.settings.eval_fraction, seed)


def _make_trainer(
    run: LmRun,
    base: BaseModel,
    train_rows: RowSource,
    eval_rows: RowSource | None,
) -> DialogueTrainer:
    lm, settings = base.checkpoint.lm, run.settings
    collator = Collator.for_model(lm, base.checkpoint.tokens, settings.max_length)
    for rows in (train_rows, eval_rows):
        if rows is not None:
            check_rows(rows, collator)
    num_voices = _num_probed_voices(run, train_rows, eval_rows)
    model = TrainableLm(
        lm,
        settings.weights_for(lm.num_channels),
        recomputes=settings.gradient_checkpointing,
        num_voices=num_voices,
        voice_loss_weight=settings.voice_loss_weight,
    )
    model.load_state_dict({**model.state_dict(), **base.model.state_dict()})
    trained: torch.nn.Module = model if run.lora is None else add_adapters(model, run.lora)
    arguments = _arguments(run, with_eval=eval_rows is not None)
    trainer = DialogueTrainer(
        trained,
        arguments,
        optimizer=_muon(trained, arguments) if settings.muon else None,
        collator=collator,
        train_rows=train_rows,
        eval_rows=eval_rows,
        max_rows_per_batch=settings.max_rows_per_batch,
        base_dir=run.model_dir,
    )
    if settings.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(settings.early_stopping_patience))
    return trainer


def _num_probed_voices(run: LmRun, rows: RowSource, eval_rows: RowSource | None) -> int:
    """How many voices the probes are to tell; 0 where there are no probes."""
    weight = run.settings.voice_loss_weight
    if weight == 0:
        return 0
    if weight < 0 or run.lora is not None:
        found = f"voice_loss_weight is {weight}" + (", with adapters" if run.lora else "")
        raise TrainingError(f"{found}; allowed: 0 or more, and 0 with adapters")
    if not rows.voices:
        raise DataError("voice_loss_weight needs data that says who speaks; this says nothing")
    if eval_rows is not None and eval_rows.voices != rows.voices:
        raise DataError(
            f"evaluation data names the voices {list(eval_rows.voices)}, the data for training "
            f"{list(rows.voices)}; allowed: data that was made in one go"
        )
    return len(rows.voices)


def _muon(model: torch.nn.Module, arguments: TrainingArguments) -> Muon:
    return Muon(
        model.named_parameters(),
        lr=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )


def _arguments(run: LmRun, *, with_eval: bool) -> TrainingArguments:
    chosen: dict[str, Any] = dict(run.settings.trainer)
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    # A share of all steps below one, which is how the newer library spells the ratio.
    if "warmup_ratio" in chosen and "warmup_ratio" not in known:
        chosen.setdefault("warmup_steps", chosen.pop("warmup_ratio"))
    # Without it the Trainer refuses bfloat16 where there is no GPU, though the processor has it.
    chosen.setdefault("use_cpu", not torch.accelerator.is_available())
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise TrainingError(f"the training settings name {unknown}, which nobody knows")
    fixed: dict[str, Any] = {
        "output_dir": str(run.out_dir),
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
        "prediction_loss_only": True,
        "report_to": ["tensorboard"],
    }
    if with_eval:
        fixed |= {"eval_strategy": "steps"}
        chosen.setdefault("eval_steps", chosen["save_steps"])
    elif str(chosen.get("eval_strategy", "no")) != "no":
        found = f"eval_strategy is {chosen['eval_strategy']!r}"
        raise TrainingError(f"{found}, which needs evaluation data or an eval_fraction")
    if run.settings.early_stopping_patience is not None:
        if not with_eval:
            raise TrainingError("early stopping needs evaluation data or an eval_fraction")
        fixed |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
        fixed |= {"greater_is_better": False}
    try:
        return TrainingArguments(**{**fixed, **chosen})
    except (ValueError, TypeError) as error:
        raise TrainingError(f"the training settings cannot work: {error}") from error
