# SPDX-License-Identifier: Apache-2.0
"""Which ids may be among the k best of their channel, found without sorting a vocabulary."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import FloatArray, IntArray, Logits

BoolArray = npt.NDArray[np.bool_]
_LOWEST = np.float32(np.finfo(np.float32).min / 2)
"""What is less counts as forbidden, even if it is finite: room to subtract from a bound."""
_Scalar = TypeVar("_Scalar", bound=np.generic)
_WIDTH_PER_K = 2.5
"""Columns that a vocabulary is folded to, per id that is kept: more take longer to partition,
fewer let more ids through the bound."""
_LANES = 16
"""Floats that numpy compares at once."""
_RELATIVE_ROOM, _ABSOLUTE_ROOM = np.float32(2.0**-20), np.float32(2.0**-120)
"""How far below the bound an id is listed still: two scores further apart stay apart when they are
divided by a temperature, which is 100 at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Likely:
    """What was listed for R = B * K rows; row b * K + c is channel c of sequence b.

    Attributes:
        places: [N] in the flat scores, row after row and rising.
        begins: [R], where a row begins in `places`.
        counts: [R], how many it has.
        origins: [R], the place of a row's id 0.
    """

    places: IntArray
    begins: IntArray
    counts: IntArray
    origins: IntArray


def list_likely(
    scores: Logits, largest_k: int, is_limited: BoolArray | None, banned: IntArray | None
) -> Likely:
    """List the ids that may be among the k best, before or after a temperature.

    Args:
        scores: of B sequences.
        largest_k: the largest number of ids that a row is limited to; 0: no row is.
        is_limited: [R], which rows are; None: all of them.
        banned: places in the flat scores that are not listed, at most one in a row.
    """
    values = scores.values
    # One more, since the best of a row may be banned.
    bounds = _bounds(scores, largest_k + 1, is_limited)
    is_likely = np.empty(values.shape, np.bool_)
    for group in groups_of(scores.offsets):
        group_bounds = bounds[:, group.first : group.stop, None]
        np.greater_equal(group.of(values), group_bounds, out=group.of(is_likely))
    if banned is not None:
        is_likely.reshape(-1)[banned] = False
    places = is_likely.reshape(-1).nonzero()[0]
    borders = _borders(scores.offsets, len(values))
    ends = places.searchsorted(borders)
    return Likely(places, ends[:-1], ends[1:] - ends[:-1], borders[:-1])


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Neighbouring channels with vocabularies of one size: few calls on more rows.

    Attributes:
        first, stop: the channels.
        left, right: their columns.
        size: of each vocabulary.
    """

    first: int
    stop: int
    left: int
    right: int
    size: int

    def of(self, values: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """A view [B, channels, V] of the columns [B, sum(V_c)]."""
        columns = values[:, self.left : self.right]
        return columns.reshape(len(values), -1, self.size)


@functools.lru_cache
def groups_of(offsets: tuple[int, ...]) -> tuple[ChannelGroup, ...]:
    """The channels by size of vocabulary."""
    sizes = np.diff(offsets).tolist()
    found = []
    for size, same in itertools.groupby(range(len(sizes)), sizes.__getitem__):
        channels = list(same)
        first, stop = channels[0], channels[-1] + 1
        found.append(ChannelGroup(first, stop, offsets[first], offsets[stop], size))
    return tuple(found)


@functools.lru_cache(maxsize=64)
def _borders(offsets: tuple[int, ...], num_sequences: int) -> IntArray:
    """[R + 1]: where the rows begin in the flat scores, and their end."""
    firsts = np.arange(num_sequences)[:, None] * offsets[-1] + np.array(offsets[:-1])
    return np.append(firsts, num_sequences * offsets[-1])


def _bounds(scores: Logits, k: int, is_limited: BoolArray | None) -> FloatArray:
    """[B, K]: what an id of a row's top k reaches."""
    shape = len(scores.values), len(scores.offsets) - 1
    largest_vocab = max(group.size for group in groups_of(scores.offsets))
    if k == 1 or k >= largest_vocab:
        return np.full(shape, _LOWEST)
    folded = _fold(scores, min(largest_vocab, _LANES * math.ceil(_WIDTH_PER_K * k / _LANES)))
    folded.partition(-k, axis=2)
    bounds = np.maximum(folded[:, :, -k], _LOWEST)
    bounds -= np.abs(bounds) * _RELATIVE_ROOM + _ABSOLUTE_ROOM
    if is_limited is not None:
        bounds = np.where(is_limited.reshape(shape), bounds, _LOWEST)
    return bounds


def _fold(scores: Logits, width: int) -> FloatArray:
    """[B, K, width]: the largest of some columns each; other columns may be left out.

    The k-th best of them is no more than the k-th best of all.
    """
    values = scores.values
    shape = len(values), len(scores.offsets) - 1, width
    folded = np.empty(shape, np.float32)
    for group in groups_of(scores.offsets):
        num_folds = max(1, group.size // width)
        folds = group.of(values)[:, :, : num_folds * width]
        folds = folds.reshape(*folds.shape[:2], num_folds, -1)
        into = folded[:, group.first : group.stop]
        np.maximum.reduce(folds, axis=2, out=into[:, :, : folds.shape[3]])
        if folds.shape[3] < width:
            into[:, :, folds.shape[3] :] = -np.inf
    return folded
