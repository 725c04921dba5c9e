# SPDX-License-Identifier: Apache-2.0
"""How a codec is to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from duologue.runtime.errors import ConfigError

Positions = Literal["sinusoidal", "none"]


@dataclass(frozen=True, slots=True)
class CodecTraining:
    """How to train.

    Attributes:
        num_steps: when the learning rate has fallen to a twentieth, the end.
        batch_s: seconds of audio per step.
        learning_rate: the highest; reached after `warmup_steps`.
        warmup_steps: of the learning rate.
        unquantized_steps: before the codebooks are started.
        commitment: weight of the distance between vectors and codes.
        positions: what the position tables hold, see `codec_model.new_codec`.
        seed: of weights, crops and chance.
        decoder_only: encoder and codebooks stay as they are, so that codes keep their meaning
            for a language model that was trained on them; only their sound improves.
        bf16: compute in bfloat16 where torch thinks it safe.
        save_every, log_every: in steps.
        device: "cpu", "cuda", ...
    """

    num_steps: int = 20_000
    batch_s: float = 6.0
    learning_rate: float = 6e-4
    warmup_steps: int = 200
    unquantized_steps: int = 500
    commitment: float = 0.25
    positions: Positions = "none"
    seed: int = 0
    decoder_only: bool = False
    bf16: bool = True
    save_every: int = 250
    log_every: int = 25
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_s", "learning_rate", "save_every", "log_every"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: above 0")
