# SPDX-License-Identifier: Apache-2.0
"""Train an XY-Tokenizer of any size from a folder of audio files.

First some steps without a quantizer, then k-means starts the codebooks, then all learns
together. What is written is what `duologue build` takes, beside `training.state`, from which a
stopped run goes on (`codec_files`). A folder with weights and no such state is begun with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from duologue.finetune.codec_audio import CropSource, find_audio
from duologue.finetune.codec_files import CONFIG_FILE, WEIGHTS_FILE
from duologue.finetune.codec_learning import CodecTrainer
from duologue.finetune.codec_options import CodecTraining
from duologue.finetune.errors import TrainingError

__all__ = ["CONFIG_FILE", "LOG_FILE", "WEIGHTS_FILE", "train_codec"]

LOG_FILE = "losses.jsonl"


def train_codec(
    audio_dir: Path,
    output_dir: Path,
    params: dict[str, Any],
    options: CodecTraining,
    *,
    name_starts_with: str = "",
    on_log: Callable[[int, dict[str, float]], None] | None = None,
) -> CodecTrainer:
    """Train until `options.num_steps`, going on from what `output_dir` holds.

    Args:
        audio_dir: folder of WAV, FLAC or Ogg files, any rates.
        output_dir: where checkpoint, state and `losses.jsonl` go. A run that was stopped there
            goes on; a checkpoint without a state is begun with, from step 0.
        params: `generator_params` of the codec.
        options: how to train.
        name_starts_with: only files named so.
        on_log: told the step and mean losses, every `options.log_every` steps.

    Raises:
        ConfigError: no audio, sizes that cannot be, or a codec of others in `output_dir`.
        DataError: a file that cannot be read or holds nothing.
        TrainingError: no step is left, there are no codes for `options.decoder_only` to keep, or
            the loss is not a number.
    """
    trainer = CodecTrainer(params, options)
    trainer.resume(output_dir)
    if trainer.step >= options.num_steps:
        # They may be missing, or older than the state if the last run was stopped between the two.
        trainer.save_weights(output_dir)
    _check_start(trainer, output_dir)
    files = find_audio(audio_dir, name_starts_with)
    source = CropSource(files, trainer.parameters, options.batch_s)
    batches = source.batches(options.seed, trainer.step)
    rows: list[dict[str, float]] = []
    while trainer.step < options.num_steps:
        if trainer.step >= options.unquantized_steps:
            trainer.start_codebooks(source)
        started = time.monotonic()
        rows.append(trainer.train_step(next(batches)))
        rows[-1]["step_s"] = time.monotonic() - started
        is_last = trainer.step == options.num_steps
        if is_last or trainer.step % options.log_every == 0:
            mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            rows = []
            _log(output_dir, trainer.step, mean)
            if on_log is not None:
                on_log(trainer.step, mean)
        if is_last:
            trainer.start_codebooks(source)
        if is_last or trainer.step % options.save_every == 0:
            trainer.save(output_dir)
    return trainer


def _check_start(trainer: CodecTrainer, directory: Path) -> None:
    options, is_ready = trainer.options, trainer.quantizer.is_ready
    if trainer.step >= options.num_steps:
        raise TrainingError(
            f"the run in {directory} is at step {trainer.step} already, and num_steps (--steps) is"
            f" {options.num_steps}; it counts all steps from the first run on, with and without"
            f" decoder_only; allowed: more than {trainer.step}"
        )
    if options.decoder_only and not is_ready:
        raise TrainingError(
            f"{directory} holds no codebooks yet, so there are no codes that training the decoder"
            " only would keep; allowed: a folder with a trained codec"
        )


def _log(directory: Path, step: int, values: dict[str, float]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rounded = {name: round(value, 4) for name, value in values.items()}
    with (directory / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **rounded}) + "\n")
