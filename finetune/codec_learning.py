# SPDX-License-Identifier: Apache-2.0
"""A codec while it learns: model, codebooks and optimizers, one step after another."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duologue.finetune.codec_audio import CropBatch, CropSource
from duologue.finetune.codec_files import (
    check_sizes,
    read_state,
    read_weights,
    write_config,
    write_state,
    write_weights,
)
from duologue.finetune.codec_losses import PitchHint, ReconstructionLoss
from duologue.finetune.codec_model import freeze_encoder, latents_of, new_codec, reconstruct
from duologue.finetune.codec_options import CodecTraining
from duologue.finetune.codec_quantizer import QuantizerTrainer
from duologue.finetune.errors import TrainingError
from duologue.runtime.codec.xy.parameters import XyParameters

_BETAS = (0.8, 0.99)
_WEIGHT_DECAY = 1e-3
_MAX_GRADIENT = 1.0
_VECTORS_PER_CODE = 6
# A crop's decoded window is a part of it this often, to sound right with little context.
_CUT_WINDOW = 0.5
_SHORTEST_WINDOW = 6
_TERM_WEIGHTS = {"mel": 2.0, "stft": 1.0, "convergence": 1.0, "harmonics": 1.0, "pitch": 1.0}


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
            TrainingError: the loss is not a number.
        """
        self._set_learning_rate()
        values = self._losses(batch)
        total = values["total"]
        if not torch.isfinite(total):
            raise TrainingError(
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
        """Fit the codebooks to latents of some crops, others than those of any step.

        Codebooks that are in use already stay as they are.
        """
        if self.quantizer.is_ready:
            return
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
        """Write the checkpoint and what is needed to go on; a crash never leaves half a file.

        Weights come first: a run that ends between the two goes on from the state before and
        writes both.
        """
        write_config(directory, self.params)
        self.save_weights(directory)
        state = {
            "step": self.step,
            "codec": self.codec.state_dict(),
            "quantizer": self.quantizer.state_dict(),
            **self.quantizer.progress(),
            "hint": self.hint.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "options": asdict(self.options),
        }
        write_state(directory, state)

    def save_weights(self, directory: Path) -> None:
        """Write the weights alone, once there are codebooks: nothing can be built without."""
        if self.quantizer.is_ready:
            write_weights(directory, self.codec.state_dict())

    def resume(self, directory: Path) -> bool:
        """Go on from what `save` wrote, or begin with the weights of a checkpoint.

        Returns:
            False if the folder has neither.

        Raises:
            ConfigError: the codec there has other sizes, or is damaged.
        """
        state, weights = read_state(directory, self.options.device), None
        if state is None:
            weights = read_weights(directory)
        if state is None and weights is None:
            return False
        check_sizes(directory, self.parameters)
        if state is not None:
            self._go_on(state)
        elif weights is not None:
            self.codec.load_state_dict(weights)
            self.quantizer.adopt_tables()
        return True

    def _go_on(self, state: dict[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.quantizer.load_state_dict(state["quantizer"])
        self.quantizer.go_on(state)
        self.hint.load_state_dict(state["hint"])
        if state["options"]["decoder_only"] == self.options.decoder_only:
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        self.step = state["step"]

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
