# SPDX-License-Identifier: Apache-2.0
"""Checkpoint folders in the reference's format: read for training, written after it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from duologue.build_engines.checkpoint import Checkpoint, part_shapes, read_checkpoint
from duologue.build_engines.safetensors_writer import write_arrays
from duologue.finetune.errors import TrainingError
from duologue.finetune.model import TrainableLm
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.core import FloatArray
from duologue.runtime.text.tokenizer import TextTokenizer

WEIGHTS_FILE = "model.safetensors"
_PROBES_FILE = "voice_probes.safetensors"
_PROBES = "voice_probes."
_COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_NUMPY_DTYPES = {"float32": np.float32, "float16": np.float16}
_BIGGEST_FLOAT16 = 65504.0


@dataclass(frozen=True, slots=True, eq=False)
class BaseModel:
    """A checkpoint that training starts from.

    Attributes:
        directory: its folder.
        checkpoint: shape and special ids.
        tokenizer: of the model.
        model: the weights, ready to be trained.
    """

    directory: Path
    checkpoint: Checkpoint
    tokenizer: TextTokenizer
    model: TrainableLm


def load_base(directory: Path, channel_weights: Sequence[float] | None = None) -> BaseModel:
    """Read a checkpoint folder.

    Args:
        directory: config, weights and tokenizer, see `build_engines.checkpoint`.
        channel_weights: see `TrainableLm`.

    Raises:
        ConfigError: the folder is no checkpoint that can be read.
        TrainingError: the weights of the channels do not fit.
    """
    checkpoint = read_checkpoint(directory)
    tokenizer = TextTokenizer.from_file(directory / "tokenizer.json")
    model = TrainableLm(checkpoint.lm, channel_weights)
    state = {
        name: torch.from_numpy(np.array(checkpoint.source[name].float32()))
        for name in part_shapes(checkpoint.lm)
    }
    model.load_state_dict(state)
    return BaseModel(directory, checkpoint, tokenizer, model)


def save_checkpoint(
    model: TrainableLm, base_dir: Path, out_dir: Path, dtype: str = "float32"
) -> None:
    """Write a checkpoint folder that `build` and further training read.

    Args:
        model: whose weights.
        base_dir: the checkpoint that training began with; its configuration and tokenizer are
            copied.
        out_dir: made if it does not exist.
        dtype: "float32" or "float16".

    Raises:
        TrainingError: an unknown precision, or weights too large for it.
    """
    if dtype not in _NUMPY_DTYPES:
        raise TrainingError(f"dtype is {dtype!r}; allowed: {', '.join(_NUMPY_DTYPES)}")
    out_dir.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: _array(name, value.detach().cpu(), dtype)
        for name, value in model.state_dict().items()
        if not name.startswith(_PROBES)
    }
    write_arrays(out_dir / WEIGHTS_FILE, arrays)
    copy_companions(base_dir, out_dir)


def save_probes(model: TrainableLm, out_dir: Path) -> None:
    """Write the probes of a training run beside its checkpoint, for the run to go on with."""
    probes = {n: v.detach().cpu() for n, v in model.state_dict().items() if n.startswith(_PROBES)}
    if probes:
        write_arrays(out_dir / _PROBES_FILE, {n: v.float().numpy() for n, v in probes.items()})


def load_probes(model: TrainableLm, directory: Path) -> None:
    """Take up the probes that lie beside a checkpoint, if there are any of this many voices."""
    if not (directory / _PROBES_FILE).is_file():
        return
    stored, state = TensorFile(directory / _PROBES_FILE), model.state_dict()
    for name, tensor in stored.items():
        if name in state and tensor.shape == tuple(state[name].shape):
            state[name].copy_(torch.from_numpy(np.array(tensor.float32())))


def copy_companions(base_dir: Path, out_dir: Path) -> None:
    """Copy what stands beside the weights: configuration and tokenizer."""
    for name in _COMPANIONS:
        if (base_dir / name).is_file() and base_dir != out_dir:
            shutil.copyfile(base_dir / name, out_dir / name)


def _array(name: str, value: torch.Tensor, dtype: str) -> FloatArray:
    if dtype == "float16" and float(value.abs().max()) > _BIGGEST_FLOAT16:
        raise TrainingError(f"{name} has weights too large for float16; allowed: float32")
    narrowed: FloatArray = value.float().numpy().astype(_NUMPY_DTYPES[dtype])
    return narrowed
