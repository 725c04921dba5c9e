"""Small language models with random weights, built for the engines as a bundle would be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duologue.build_engines.checkpoint import read_checkpoint, write_lm_safetensors
from duologue.build_engines.lm_onnx import write_lm_onnx
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.onnx_backbone import OnnxBackbone
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray, IntArray

WEIGHTS = "lm.safetensors"
GRAPH = "lm.onnx"


def build_random_lm(directory: Path, dtype: str = "float32", **changes: Any) -> LmConfig:
    """Write a random checkpoint, `lm.safetensors` and `lm.onnx`; odd sizes on purpose."""
    sizes: dict[str, Any] = {
        "seed": 7,
        "hidden_size": 48,
        "num_layers": 2,
        "num_heads": 6,
        "num_kv_heads": 2,
        "head_dim": 8,
        "intermediate_size": 100,
        "num_channels": 4,
        "codebook_size": 50,
        "max_position_embeddings": 512,
    }
    write_random_lm(directory, **{**sizes, **changes})
    return build_lm(directory, directory, dtype)


def build_lm(checkpoint_dir: Path, directory: Path, dtype: str = "float32") -> LmConfig:
    """Write `lm.safetensors` and `lm.onnx` of a checkpoint into a directory."""
    checkpoint = read_checkpoint(checkpoint_dir)
    write_lm_safetensors(checkpoint, directory / WEIGHTS, dtype)
    write_lm_onnx(checkpoint.lm, directory / WEIGHTS, directory / GRAPH)
    return checkpoint.lm


def open_backbone(
    engine: str, lm: LmConfig, directory: Path, *, max_slots: int = 6, max_rows: int = 300
) -> Backbone:
    """Open what `build_lm` wrote, on one thread."""
    sizes: dict[str, Any] = {"max_slots": max_slots, "max_rows": max_rows}
    if engine == "torch":
        return TorchBackbone(lm, directory / WEIGHTS, **sizes)
    if engine == "torch_device":
        return TorchDeviceBackbone(lm, directory / WEIGHTS, **sizes)
    return OnnxBackbone(lm, directory / GRAPH, num_threads=1, **sizes)


def random_ids(lm: LmConfig, num_rows: int, seed: int = 0) -> IntArray:
    """Rows [num_rows, K] of ids, each within its channel's vocabulary."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, lm.vocab_sizes, (num_rows, lm.num_channels))


def teacher_force(
    backbone: Backbone, slot: int, ids: IntArray, prompt_rows: int, pieces: Sequence[int] = ()
) -> FloatArray:
    """Feed known rows [S, K] to one slot; returns the logits behind rows prompt_rows - 1 .. S - 1.

    Args:
        backbone: the engine.
        slot: an empty slot.
        ids: prompt and continuation.
        prompt_rows: how many of the rows are read by prefill.
        pieces: row numbers at which the prompt is cut.
    """
    borders = [0, *pieces, prompt_rows]
    logits = []
    for start, stop in itertools.pairwise(borders):
        is_last = stop == prompt_rows
        last = backbone.prefill(slot, ids[start:stop], start, is_last=is_last)
        assert (last is not None) == is_last
        if last is not None:
            logits.append(last.values)
    for row in ids[prompt_rows:]:
        logits.append(backbone.decode([slot], row[None]).values)
    return np.concatenate(logits)
