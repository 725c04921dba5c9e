# SPDX-License-Identifier: Apache-2.0
"""Which rows of the heads a fused step reads, and which ids their scores belong to.

By default all. Channel 0 has a row for every word of the text vocabulary, nine tenths of all rows
of the published model, and never needs most of them: a range of ids may be named that it is to
choose from. **That is exact wherever no id outside the ranges is among the candidates** that
temperature, top-k and top-p leave; greedy, wherever none of them is the best. No sampling can
tell in advance, so it is a statement about a checkpoint, made in its bundle (`channel0_ids` of the
torch engine), and not a default.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duologue.runtime.config import LmConfig
from duologue.runtime.core import IntArray
from duologue.runtime.errors import ConfigError

IdRanges = Sequence[tuple[int, int]]
"""Half-open ranges of ids, rising."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadColumns:
    """The columns of a fused step's scores.

    Attributes:
        ids: [W], the id that each column scores, in its channel.
        rows: [W], the row of the heads' table that scores it.
        offsets: K + 1 borders of the channels among the columns.
        column_of: [sum(V_c)], the column of each row of the table; W where it has none.
    """

    ids: IntArray
    rows: IntArray
    offsets: tuple[int, ...]
    column_of: IntArray

    @property
    def width(self) -> int:
        """W."""
        return len(self.ids)

    @property
    def are_all(self) -> bool:
        """Every row of the table is read."""
        return self.width == len(self.column_of)

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Runs [first, stop) of neighbouring channels with equally many columns."""
        sizes = np.diff(self.offsets)
        borders = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
        return list(itertools.pairwise(borders))


def head_columns(lm: LmConfig, channel0_ids: IdRanges | None = None) -> HeadColumns:
    """Lay out the columns.

    Args:
        lm: shape of the model.
        channel0_ids: what channel 0 may choose; None: everything.

    Raises:
        ConfigError: the ranges are empty, overlap, do not rise or leave the vocabulary.

    >>> lm = LmConfig((9, 3), (0, 1), 2, 3, 1, 1, 1, 2)
    >>> columns = head_columns(lm, [(2, 4), (8, 9)])
    >>> columns.ids.tolist(), columns.rows.tolist(), columns.offsets
    ([2, 3, 8, 0, 1, 2], [2, 3, 8, 9, 10, 11], (0, 3, 6))
    """
    first = _channel0(lm, channel0_ids)
    rest = [np.arange(size) for size in lm.vocab_sizes[1:]]
    ids = np.concatenate([first, *rest])
    sizes = [len(first), *lm.vocab_sizes[1:]]
    rows = ids + np.repeat(lm.logit_offsets[:-1], sizes)
    column_of = np.full(lm.logit_offsets[-1], len(ids), dtype=np.int64)
    column_of[rows] = np.arange(len(ids))
    return HeadColumns(ids, rows, tuple(itertools.accumulate(sizes, initial=0)), column_of)


def _channel0(lm: LmConfig, ranges: IdRanges | None) -> IntArray:
    size = lm.vocab_sizes[0]
    if ranges is None:
        return np.arange(size)
    borders = [border for start, stop in ranges for border in (start, stop)]
    rising = all(a < b for a, b in ranges) and borders == sorted(borders)
    if not borders or not rising or borders[0] < 0 or borders[-1] > size:
        raise ConfigError(
            f"channel0_ids is {list(ranges)}; allowed: rising ranges [start, stop) from 0 to {size}"
        )
    return np.concatenate([np.arange(start, stop) for start, stop in ranges])
