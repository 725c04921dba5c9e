# SPDX-License-Identifier: Apache-2.0
"""Train an XY-Tokenizer of any size from a folder of audio files.

First some steps without a quantizer, then k-means starts the codebooks, then all learns
together. What is written is the reference's own format: `config.yaml` and `xy_tokenizer.ckpt`,
which `duologue build` takes, beside `training.state`, from which a stopped run goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from duologue.build_engines.codec_checkpoint import write_torch_checkpoint
from duologue.finetune.codec_audio import CropBatch, CropSource, find_audio
from duologue.finetune.codec_losses import PitchHint, ReconstructionLoss
from duologue.finetune.codec_model import freeze_encoder, latents_of, new_codec, reconstruct
from duologue.finetune.codec_options import CodecTraining
from duologue.finetune.codec_quantizer import QuantizerTrainer
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.errors import DuologueError

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "xy_tokenizer.ckpt"
STATE_FILE = "training.state"
LOG_FILE = "losses.jsonl"

_BETAS = (0.8, 0.99)
_WEIGHT_DECAY = 1e-3
_MAX_GRADIENT = 1.0
_VECTORS_PER_CODE = 6
# A crop's decoded window is a part of it this often, to sound right with little context.
_CUT_WINDOW = 0.5
_SHORTEST_WINDOW = 6
_TERM_WEIGHTS = {"mel": 2.0, "stft": 1.0, "convergence": 1.0, "harmonics": 1.0, "pitch": 1.0}


class TrainingFailedError(DuologueError):
    """The loss is no longer a number."""


class CodecTrainer:
    """Model, codebooks, optimizer and the number of steps they have seen."""

    def __init__(self, params: dict[str, Any], options: CodecTraining) -> None:
        self.params = params
        self.options = options
        self.parameters = XyParameters.from_dict(params)
        self.codec = new_codec(self.parameters, options.positions, options.seed)
        dropout = params["quantizer_kwargs"].get("quantizer_dropout", 0.0)
        self.quantizer = QuantizerTrainer(self.codec.quantizer, dropout=dropout, seed=options.seed)
        self.loss = ReconstructionLoss(self.parameters.sample_rate_hz)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.hint = PitchHint(
                self.parameters.latent_dim,
                self.parameters.sample_rate_hz,
                self.parameters.samples_per_frame,
            )
        for module in (self.codec, self.quantizer, self.loss, self.hint):
            module.to(options.device)
        if options.decoder_only:
            freeze_encoder(self.codec)
            self.quantizer.eval()
        self.learned = [p for p in self.codec.parameters() if p.requires_grad]
        self.optimizers = [
            torch.optim.AdamW(
                parameters, options.learning_rate, _BETAS, weight_decay=_WEIGHT_DECAY, fused=True
            )
            for parameters in (self.learned, list(self.hint.parameters()))
        ]
        self.step = 0

    def train_step(self, batch: CropBatch) -> dict[str, float]:
        """Learn from one batch.

        Returns:
            Losses by name.

        Raises:
            TrainingFailedError: the loss is not a number.
        """
        self._set_learning_rate()
        values = self._losses(batch)
        total = values["total"]
        if not torch.isfinite(total):
            raise TrainingFailedError(
                f"the loss is {float(total.detach())} at step {self.step}; lower learning_rate"
                f" (now {self.options.learning_rate}) or go on from an earlier checkpoint"
            )
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.learned, _MAX_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in values.items()}

    def _losses(self, batch: CropBatch) -> dict[str, Tensor]:
        """All terms, their weighted sum "total", and "usage" of the codebooks."""
        samples = batch.samples.to(self.options.device)
        wanted = batch.wanted.to(self.options.device)
        window = self._window(samples.shape[1] // self.parameters.input_samples_per_frame)
        longest = self.parameters.window_samples
        with torch.autocast(self.options.device, torch.bfloat16, enabled=self.options.bf16):
            made = reconstruct(self.codec, self.quantizer, samples, window, longest)
        frame = self.parameters.samples_per_frame
        terms = self.loss(made.samples, wanted[:, window.start * frame : window.stop * frame])
        terms["pitch"] = self.hint(made.quantized.latents, wanted)
        commitment, usage = made.quantized.commitment, made.quantized.usage.mean()
        total = sum(
            (_TERM_WEIGHTS[name] * value for name, value in terms.items()),
            self.options.commitment * commitment,
        )
        return {"total": total, "commitment": commitment, **terms, "usage": usage}

    def start_codebooks(self, source: CropSource) -> None:
        """Fit the codebooks to latents of some crops, others than those of any step."""
        wanted = self.parameters.codebook_size * _VECTORS_PER_CODE
        random = np.random.default_rng((self.options.seed, 2))
        found: list[Tensor] = []
        with torch.inference_mode():
            while sum(map(len, found)) < wanted:
                samples = source.draw(random).samples.to(self.options.device)
                latents = latents_of(self.codec, samples, self.parameters.window_samples)
                found.append(latents.flatten(0, 1))
        self.quantizer.fit(torch.cat(found).clone())

    def save(self, directory: Path) -> None:
        """Write the checkpoint and what is needed to go on; a crash never leaves half a file."""
        directory.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump({"generator_params": self.params}, sort_keys=False)
        (directory / CONFIG_FILE).write_text(text, encoding="utf-8")
        state = {
            "step": self.step,
            "codec": self.codec.state_dict(),
            "quantizer": self.quantizer.state_dict(),
            "is_ready": self.quantizer.is_ready,
            "hint": self.hint.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "options": asdict(self.options),
        }
        unfinished = directory / "unfinished.tmp"
        torch.save(state, unfinished)
        unfinished.rename(directory / STATE_FILE)
        write_torch_checkpoint(self.codec.state_dict(), unfinished)
        unfinished.rename(directory / WEIGHTS_FILE)

    def resume(self, directory: Path) -> bool:
        """Go on from what `save` wrote; False if there is nothing."""
        path = directory / STATE_FILE
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        self.codec.load_state_dict(state["codec"])
        self.quantizer.load_state_dict(state["quantizer"])
        self.quantizer.is_ready = state["is_ready"]
        self.hint.load_state_dict(state["hint"])
        if state["options"]["decoder_only"] == self.options.decoder_only:
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        self.step = state["step"]
        return True

    def _set_learning_rate(self) -> None:
        options = self.options
        rising = min(1.0, (self.step + 1) / options.warmup_steps)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / options.num_steps)))
        for group in (group for each in self.optimizers for group in each.param_groups):
            group["lr"] = options.learning_rate * rising * (0.05 + 0.95 * falling)

    def _window(self, num_frames: int) -> slice:
        random = np.random.default_rng((self.options.seed, 1, self.step))
        if num_frames <= _SHORTEST_WINDOW or random.random() >= _CUT_WINDOW:
            return slice(0, num_frames)
        length = int(random.integers(_SHORTEST_WINDOW, num_frames + 1))
        start = int(random.integers(0, num_frames - length + 1))
        return slice(start, start + length)


def train_codec(
    audio_dir: Path,
    output_dir: Path,
    params: dict[str, Any],
    options: CodecTraining,
    *,
    name_starts_with: str = "",
    on_log: Callable[[int, dict[str, float]], None] | None = None,
) -> CodecTrainer:
    """Train until `options.num_steps`, going on from `output_dir` if a run was stopped there.

    Args:
        audio_dir: folder of WAV, FLAC or Ogg files, any rates.
        output_dir: where checkpoint, state and `losses.jsonl` go.
        params: `generator_params` of the codec.
        options: how to train.
        name_starts_with: only files named so.
        on_log: told the step and mean losses, every `options.log_every` steps.

    Raises:
        ConfigError: no audio, or sizes that cannot be.
        TrainingFailedError: the loss is not a number.
    """
    trainer = CodecTrainer(params, options)
    trainer.resume(output_dir)
    files = find_audio(audio_dir, name_starts_with)
    source = CropSource(files, trainer.parameters, options.batch_s)
    batches = source.batches(options.seed, trainer.step)
    rows: list[dict[str, float]] = []
    while trainer.step < options.num_steps:
        if trainer.step >= options.unquantized_steps and not trainer.quantizer.is_ready:
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
        if is_last or trainer.step % options.save_every == 0:
            trainer.save(output_dir)
    return trainer


def _log(directory: Path, step: int, values: dict[str, float]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rounded = {name: round(value, 4) for name, value in values.items()}
    with (directory / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **rounded}) + "\n")
