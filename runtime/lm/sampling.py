# SPDX-License-Identifier: Apache-2.0
"""The ids of a step: what a request wants laid over what the model asks for, bans, draws.

What the settings of a channel do to its scores stands in `processors`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

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

_Scalar = TypeVar("_Scalar", bound=np.generic)


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
    blocks = _blocks(logits, sequences)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where the columns of the logits lie when channels with like vocabularies form a matrix.

    Few calls on filled up rows are faster than more calls on exact ones.

    Attributes:
        num_columns: of all matrices side by side.
        places: [sum(V_c)], the column there of each column of the logits.
        runs: (first channel, next channel, first column, width of a row) of each matrix.
        moves: (from, to, channels, vocabulary, width) of neighbours with equal vocabularies.
    """

    num_columns: int
    places: IntArray
    runs: list[tuple[int, int, int, int]]
    moves: list[tuple[int, int, int, int, int]]

    def lay_out(self, values: npt.NDArray[_Scalar], fill: float) -> npt.NDArray[_Scalar]:
        """Columns [B, sum(V_c)] as they lie here; `fill` stands behind the shorter rows."""
        num_rows = len(values)
        laid = np.full((num_rows, self.num_columns), fill, dtype=values.dtype)
        for source, target, channels, size, width in self.moves:
            rows = laid[:, target : target + channels * width].reshape(num_rows, channels, width)
            columns = values[:, source : source + channels * size]
            rows[:, :, :size] = columns.reshape(num_rows, channels, size)
        return laid


@functools.lru_cache
def _layout(offsets: tuple[int, ...]) -> _Layout:
    """Channels stand together while their vocabularies differ by a factor of two at most."""
    sizes = np.diff(offsets).tolist()
    borders = [0]
    for channel, size in enumerate(sizes):
        run = [*sizes[borders[-1] : channel], size]
        if max(run) > 2 * min(run):
            borders.append(channel)
    column, runs, moves, places = 0, [], [], []
    for first, stop in itertools.pairwise([*borders, len(sizes)]):
        width = max(sizes[first:stop])
        runs.append((first, stop, column, width))
        for size, channels in itertools.groupby(range(first, stop), sizes.__getitem__):
            same = list(channels)
            moves.append((offsets[same[0]], column, len(same), size, width))
            places += [np.arange(size) + column + width * place for place in range(len(same))]
            column += len(same) * width
    return _Layout(column, np.concatenate(places), runs, moves)


def _blocks(logits: Logits, sequences: Rows[Sequence]) -> list[ScoreBlock]:
    """The channels of all sequences, by size of vocabulary; row b * K + c is channel c of b."""
    layout, num_channels = _layout(logits.offsets), len(logits.offsets) - 1
    scores, seen = layout.lay_out(logits.values, -np.inf), _seen(sequences, logits.offsets[-1])
    for row, sequence in zip(scores, sequences, strict=True):
        row[layout.places[sequence.banned_columns]] = -np.inf
    laid_seen = None if seen is None else layout.lay_out(seen, False)
    rows = np.arange(len(scores) * num_channels).reshape(-1, num_channels)
    blocks = []
    for first, stop, column, width in layout.runs:
        columns = slice(column, column + (stop - first) * width)
        is_seen = None if laid_seen is None else laid_seen[:, columns].reshape(-1, width)
        some = scores[:, columns].reshape(-1, width)
        blocks.append(ScoreBlock(rows[:, first:stop].ravel(), some, is_seen))
    return blocks


def _seen(sequences: Rows[Sequence], num_columns: int) -> BoolArray | None:
    """[B, sum(V_c)], or None where nobody penalises repetition."""
    if all(sequence.seen is None for sequence in sequences):
        return None
    nothing = np.zeros(num_columns, dtype=np.bool_)
    return np.stack([nothing if s.seen is None else s.seen for s in sequences])
