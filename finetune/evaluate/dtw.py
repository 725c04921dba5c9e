# SPDX-License-Identifier: Apache-2.0
"""Dynamic time warping: how far apart two utterances are when their pace may differ.

Cells of one anti-diagonal do not depend on each other, so a diagonal of all candidates is one
step of array arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import FloatArray, IntArray

Doubles = npt.NDArray[np.float64]

_MAX_CELLS = 1 << 24
"""Of costs in memory at once: 64 MiB."""


def dtw_distances(query: FloatArray, candidates: Sequence[FloatArray]) -> Doubles:
    """Distance of one utterance from many.

    Args:
        query: features [T, D].
        candidates: C utterances [T_c, D].

    Returns:
        [C]: mean distance along the best path, per row of both utterances.

    >>> import numpy as np
    >>> ramp = np.arange(4.0, dtype=np.float32)[:, None]
    >>> dtw_distances(ramp, [np.repeat(ramp, 2, axis=0), ramp + 1]).round(2).tolist()
    [0.0, 0.25]
    """
    lengths = np.array([len(candidate) for candidate in candidates])
    means = np.empty(len(candidates))
    # Those of like length together, so that little is padded.
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        block = _block(lengths[order[start:]], len(query))
        places = order[start : start + block]
        means[places] = _distances(query, [candidates[place] for place in places])
        start += block
    return means


def dtw_path(query: FloatArray, reference: FloatArray) -> IntArray:
    """Which rows of two utterances belong together.

    Args:
        query: features [T, D].
        reference: features [R, D].

    Returns:
        [P, 2]: rows of query and reference, from the first pair to the last.
    """
    totals = [diagonal[0] for diagonal in _diagonals(_costs(query, reference[None]))]
    row, column = len(query) - 1, len(reference) - 1
    path = [(row, column)]
    while row or column:
        before = [(row - 1, column - 1), (row - 1, column), (row, column - 1)]
        inside = [(r, c) for r, c in before if r >= 0 and c >= 0]
        row, column = min(inside, key=lambda cell: float(totals[cell[0] + cell[1]][cell[0]]))
        path.append((row, column))
    return np.array(path[::-1])


def _block(lengths: IntArray, num_rows: int) -> int:
    """How many candidates, from the shortest on, fit into memory together."""
    cells = num_rows * (num_rows + lengths) * (np.arange(len(lengths)) + 1)
    return max(1, int(np.searchsorted(cells, _MAX_CELLS, side="right")))


def _distances(query: FloatArray, candidates: Sequence[FloatArray]) -> Doubles:
    """See `dtw_distances`; all at once."""
    longest = max(len(candidate) for candidate in candidates)
    # Rows behind the end of a candidate cost something, but no path to its own end meets them.
    padded = np.stack([_padded(candidate, longest) for candidate in candidates])
    lengths = np.array([len(candidate) for candidate in candidates])
    ends = np.empty(len(candidates))
    for diagonal, totals in enumerate(_diagonals(_costs(query, padded))):
        is_end = lengths == diagonal - len(query) + 2
        ends[is_end] = totals[is_end, -1]
    means: Doubles = ends / (len(query) + lengths)
    return means


def _costs(query: FloatArray, candidates: FloatArray) -> FloatArray:
    """Euclidean distances of all rows, per dimension so that they stay small.

    Returns:
        [T + R - 1, C, T]: what belongs to rows t and r stands in anti-diagonal t + r at place t,
        so that a diagonal lies in one piece.
    """
    count, num_columns, size = candidates.shape
    num_rows = len(query)
    squares, scale = np.square(query).sum(-1)[:, None], 1 / size
    skewed = np.empty((num_rows + num_columns - 1, count, num_rows), dtype=np.float32)
    # A row is as long as all diagonals and one more, so that in its flat memory the next
    # diagonal is the next element.
    wide = np.zeros((num_rows, num_rows + num_columns), dtype=np.float32)
    for place, candidate in enumerate(candidates):
        between = squares + np.square(candidate).sum(-1) - 2 * (query @ candidate.T)
        wide[:, :num_columns] = np.sqrt(np.maximum(between, 0) * scale)
        flat = wide.reshape(-1)[: num_rows * (num_rows + num_columns - 1)]
        skewed[:, place] = flat.reshape(num_rows, -1).T
    return skewed


def _diagonals(costs: FloatArray) -> Iterator[Doubles]:
    """Cost of the best path to each cell, one anti-diagonal [C, T] after the other.

    Cell (t, r) stands in diagonal t + r at place t. A diagonal step passes two rows at once and
    costs twice its cell, so that all paths to a cell are measured over the same length.
    """
    num_diagonals, count, num_rows = costs.shape
    num_columns = num_diagonals - num_rows + 1
    before_last = np.full((count, num_rows), np.inf)
    last = before_last.copy()
    last[:, 0] = 2 * costs[0, :, 0]
    yield last
    for diagonal in range(1, num_diagonals):
        low, high = max(0, diagonal - num_columns + 1), min(num_rows, diagonal + 1)
        cost = costs[diagonal, :, low:high]
        best = last[:, low:high] + cost
        # The first row has nothing above it.
        above = max(low, 1)
        steps, into = slice(above - 1, high - 1), slice(above - low, None)
        best[:, into] = np.minimum(best[:, into], last[:, steps] + cost[:, into])
        best[:, into] = np.minimum(best[:, into], before_last[:, steps] + 2 * cost[:, into])
        totals = np.full((count, num_rows), np.inf)
        totals[:, low:high] = best
        yield totals
        before_last, last = last, totals


def _padded(values: FloatArray, length: int) -> FloatArray:
    return np.pad(values, ((0, length - len(values)), (0, 0)))
