# SPDX-License-Identifier: Apache-2.0
"""The ids of a step: what a request wants laid over what the model asks for, bans, draws.

What the settings of a channel do to its scores stands in `processors`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence as Rows
from typing import Any

import numpy as np

from duologue.runtime.core import (
    ChannelSampling,
    FloatArray,
    IntArray,
    Logits,
    SamplingOverrides,
)
from duologue.runtime.errors import RequestError
from duologue.runtime.lm.processors import (
    BoolArray,
    ScoreBlock,
    does_sample,
    draw,
    find_candidates,
)
from duologue.runtime.lm.sequence import Sequence


def resolve_sampling(
    defaults: tuple[ChannelSampling, ...], overrides: SamplingOverrides
) -> tuple[ChannelSampling, ...]:
    """Lay one request's wishes over the bundle's settings.

    Raises:
        RequestError: a value is out of range, or `channels` has the wrong length.
    """
    channels = overrides.channels or defaults
    if len(channels) != len(defaults):
        raise RequestError(
            f"sampling.channels has {len(channels)} entries; allowed: {len(defaults)}"
        )
    resolved = tuple(_override(channel, overrides) for channel in channels)
    for channel in resolved:
        _check(channel)
    return resolved


def _override(channel: ChannelSampling, overrides: SamplingOverrides) -> ChannelSampling:
    wishes: dict[str, Any] = {
        name: getattr(overrides, name)
        for name in ("temperature", "top_k", "top_p", "repetition_penalty")
        if getattr(overrides, name) is not None
    }
    if overrides.greedy:
        wishes["do_sample"] = False
    return dataclasses.replace(channel, **wishes)


def _check(channel: ChannelSampling) -> None:
    ranges = (
        ("temperature", channel.temperature, 0.0, 100.0, "a number above 0, at most 100"),
        ("top_p", channel.top_p, 0.0, 1.0, "a number above 0, at most 1"),
        ("repetition_penalty", channel.repetition_penalty, 0.0, 100.0, "above 0, at most 100"),
        ("top_k", channel.top_k, 0, 1 << 20, "a whole number of at least 1"),
    )
    for name, value, low, high, allowed in ranges:
        if value is not None and not low < value <= high:
            raise RequestError(f"sampling.{name} is {value}; allowed: {allowed}")


def choose(logits: Logits, sequences: Rows[Sequence]) -> IntArray:
    """Choose the ids of one step for B sequences.

    Args:
        logits: of B rows.
        sequences: B sequences, in the order of the rows.

    Returns:
        [B, K] ids, before forcing and draining.
    """
    values = logits.values.copy()
    for row, sequence in zip(values, sequences, strict=True):
        row[sequence.banned_columns] = -np.inf
    table = np.concatenate([sequence.sampling_table for sequence in sequences])
    blocks = _blocks(values, logits.offsets, sequences)
    is_drawn = does_sample(table)
    if not is_drawn.any() and all(block.seen is None for block in blocks):
        # Temperature, top-k and top-p never move the best id.
        chosen = np.empty(len(table), dtype=np.int64)
        for block in blocks:
            chosen[block.rows] = block.scores.argmax(axis=1)
    else:
        candidates = find_candidates(blocks, table)
        uniforms = np.concatenate([s.draws.row(s.state.step) for s in sequences])
        chosen = np.where(is_drawn, draw(candidates, uniforms), candidates.ids[:, 0])
    return chosen.reshape(len(sequences), -1)


def sound_rows(logits: Logits) -> BoolArray:
    """Which rows can be chosen from: whatever goes wrong in a model ends as no number [B].

    One score per channel is looked at, since all of them come from one hidden state.
    """
    first: FloatArray = logits.values[:, list(logits.offsets[:-1])]
    sound: BoolArray = ~(np.isnan(first) | np.isposinf(first)).any(axis=1)
    return sound


def _blocks(
    values: FloatArray, offsets: tuple[int, ...], sequences: Rows[Sequence]
) -> list[ScoreBlock]:
    """The channels of all sequences, by size of vocabulary; row b * K + c is channel c of b."""
    num_rows, num_channels = len(values), len(offsets) - 1
    has_history = any(sequence.seen is not None for sequence in sequences)
    blocks = []
    for first, stop in _equal_runs(offsets):
        begin, end = offsets[first], offsets[stop]
        rows = np.arange(num_rows)[:, None] * num_channels + np.arange(first, stop)
        scores = values[:, begin:end].reshape(rows.size, -1)
        seen = _seen(sequences, begin, end).reshape(scores.shape) if has_history else None
        blocks.append(ScoreBlock(rows.ravel(), scores, seen))
    return blocks


@functools.lru_cache
def _equal_runs(offsets: tuple[int, ...]) -> list[tuple[int, int]]:
    """Runs of neighbouring channels with equally large vocabularies."""
    sizes = np.diff(offsets)
    borders = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
    return list(itertools.pairwise(borders))


def _seen(sequences: Rows[Sequence], begin: int, end: int) -> BoolArray:
    nothing = np.zeros(end - begin, dtype=np.bool_)
    return np.stack([nothing if s.seen is None else s.seen[begin:end] for s in sequences])
