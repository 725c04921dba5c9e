"""Datasets of a few small examples, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from duologue.finetune.dataset import Example, write_description, write_shard


def small_example(length: int, frames: int) -> Example:
    """Two channels of ids below 6."""
    return Example(np.arange(length * 2).reshape(length, 2) % 6, frames)


def write_dataset(folder: Path, *shards: list[Example]) -> None:
    """Write shards s0, s1, ... and the description that names them."""
    for place, examples in enumerate(shards):
        write_shard(folder, f"s{place}", examples)
    write_description(folder, [f"s{place}" for place in range(len(shards))], {})
