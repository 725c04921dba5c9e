# SPDX-License-Identifier: Apache-2.0
"""The ids of a step: what a request wants laid over what the model asks for, bans, draws.

What the settings of a channel do to its scores stands in `processors`.
"""

from __future__ import annotations

import dataclasses
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
from duologue.runtime.lm.candidates import draw_ranks
from duologue.runtime.lm.likely import groups_of
from duologue.runtime.lm.processors import BoolArray, find_candidates, read_settings
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
    table = np.concatenate([sequence.sampling_table for sequence in sequences])
    settings, seen = read_settings(table), _seen(sequences, logits.offsets[-1])
    banned = _banned_places(sequences, logits.offsets[-1])
    if settings.num_drawn == 0 and seen is None:
        return _best(logits, banned)
    candidates = find_candidates(logits, table, banned, seen)
    uniforms = np.concatenate([s.draws.row(s.state.step) for s in sequences])
    ranks = draw_ranks(candidates, uniforms)
    if settings.num_drawn < len(ranks):
        ranks[~settings.is_drawn] = 0
    return candidates.ids(ranks).reshape(len(sequences), -1)


def sound_rows(logits: Logits) -> BoolArray:
    """Which rows can be chosen from: whatever goes wrong in a model ends as no number [B].

    One score per channel is looked at, since all of them come from one hidden state.
    """
    first: FloatArray = logits.values[:, list(logits.offsets[:-1])]
    sound: BoolArray = ~(np.isnan(first) | np.isposinf(first)).any(axis=1)
    return sound


def _best(logits: Logits, banned: IntArray) -> IntArray:
    """The best ids [B, K]: temperature, top-k and top-p never move them."""
    values = logits.values.copy()
    values.reshape(-1)[banned] = -np.inf
    groups = groups_of(logits.offsets)
    return np.concatenate([group.of(values).argmax(axis=2) for group in groups], axis=1)


def _banned_places(sequences: Rows[Sequence], num_columns: int) -> IntArray:
    """Places in the flat logits [B, sum(V_c)] that must not be chosen, at most one per channel."""
    if len(sequences) == 1:
        return sequences[0].banned_columns
    columns = enumerate(sequence.banned_columns for sequence in sequences)
    return np.concatenate([some + row * num_columns for row, some in columns])


def _seen(sequences: Rows[Sequence], num_columns: int) -> BoolArray | None:
    """[B, sum(V_c)], or None where nobody penalises repetition."""
    if all(sequence.seen is None for sequence in sequences):
        return None
    nothing = np.zeros(num_columns, dtype=np.bool_)
    return np.stack([nothing if s.seen is None else s.seen for s in sequences])
