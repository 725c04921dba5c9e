# SPDX-License-Identifier: Apache-2.0
"""The draw: from scores that were processed to one id per row.

Only scores are sorted. Which id a score belongs to is asked once a rank is drawn, for one id per
row; equal scores are ranked by id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import FloatArray, IntArray
from duologue.runtime.lm.likely import Likely


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What may be drawn in each of R rows.

    Attributes:
        likely: the ids that each row lists, by rising id.
        listed: [R, C], scores of `likely`; -inf behind the last of a row.
        ranked: [R, C], the same, best first.
        mass: [R, C], running sums of unnormalised probabilities of `ranked`.
        last: [R], the last rank that may be drawn.
    """

    likely: Likely
    listed: FloatArray
    ranked: FloatArray
    mass: npt.NDArray[np.float64]
    last: IntArray

    def ids(self, ranks: IntArray) -> IntArray:
        """The ids [R] that stand at some ranks [R]."""
        rows = np.arange(len(ranks))
        score = self.ranked[rows, ranks][:, None]
        is_meant = self.listed == score
        column = is_meant.argmax(axis=1)
        if np.count_nonzero(is_meant) != len(ranks):
            nth = ranks - count_per_row(self.ranked > score)
            for row in nth.nonzero()[0]:
                column[row] = is_meant[row].nonzero()[0][nth[row]]
        likely = self.likely
        ids: IntArray = likely.places[likely.begins + column] - likely.origins
        return ids


def draw_ranks(candidates: Candidates, uniforms: npt.NDArray[np.float64]) -> IntArray:
    """Draw one rank per row by inverting the cumulative distribution.

    Args:
        candidates: of R rows.
        uniforms: [R] in [0, 1).

    Returns:
        [R] ranks; `Candidates.ids` has the ids.
    """
    # A running sum adds left to right, so what stands behind the last candidate changes nothing.
    mass = candidates.mass
    goal = uniforms * mass[np.arange(len(mass)), candidates.last]
    # Less than the sum at the last candidate, even rounded: so one up to there is greater.
    ranks: IntArray = (mass > goal[:, None]).argmax(axis=1)
    return ranks


def draw(candidates: Candidates, uniforms: npt.NDArray[np.float64]) -> IntArray:
    """Draw one id per row [R]; see `draw_ranks`."""
    return candidates.ids(draw_ranks(candidates, uniforms))


def count_per_row(is_counted: npt.NDArray[np.bool_]) -> IntArray:
    """How many of each row [R, C] are True: [R]."""
    counts: IntArray = np.add.reduce(is_counted, axis=1, dtype=np.int64)
    return counts
