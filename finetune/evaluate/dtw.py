# SPDX-License-Identifier: Apache-2.0
"""Dynamic time warping: how far apart two utterances are when their pace may differ.

Cells of one anti-diagonal do not depend on each other, so a diagonal of all candidates is one
step of array arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import FloatArray, IntArray

Doubles = npt.NDArray[np.float64]


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
    longest = max(len(candidate) for candidate in candidates)
    # Rows behind the end of a candidate cost something, but no path to its own end meets them.
    padded = np.stack([_padded(candidate, longest) for candidate in candidates])
    totals = _accumulate(_costs(query, padded))
    lengths = np.array([len(candidate) for candidate in candidates])
    ends = totals[len(query) - 1 + lengths - 1, np.arange(len(candidates)), len(query) - 1]
    means: Doubles = ends / (len(query) + lengths)
    return means


def dtw_path(query: FloatArray, reference: FloatArray) -> IntArray:
    """Which rows of two utterances belong together.

    Args:
        query: features [T, D].
        reference: features [R, D].

    Returns:
        [P, 2]: rows of query and reference, from the first pair to the last.
    """
    totals = _accumulate(_costs(query, reference[None]))[:, 0]
    row, column = len(query) - 1, len(reference) - 1
    path = [(row, column)]
    while row or column:
        before = [(row - 1, column - 1), (row - 1, column), (row, column - 1)]
        inside = [(r, c) for r, c in before if r >= 0 and c >= 0]
        row, column = min(inside, key=lambda cell: totals[cell[0] + cell[1], cell[0]])
        path.append((row, column))
    return np.array(path[::-1])


def _costs(query: FloatArray, candidates: FloatArray) -> Doubles:
    """Euclidean distances [C, T, R] of all rows, per dimension so that they stay small."""
    products = np.einsum("td,crd->ctr", query, candidates, optimize=True)
    squares = (query**2).sum(-1)[None, :, None] + (candidates**2).sum(-1)[:, None, :]
    distances: Doubles = np.sqrt(np.maximum(squares - 2 * products, 0) / query.shape[1])
    return distances.astype(np.float64)


def _accumulate(costs: Doubles) -> Doubles:
    """Cost of the best path to each cell, by anti-diagonals: [T + R - 1, C, T].

    Cell (t, r) stands in diagonal t + r at place t. A diagonal step passes two rows at once and
    costs twice its cell, so that all paths to a cell are measured over the same length.
    """
    count, num_rows, num_columns = costs.shape
    totals = np.full((num_rows + num_columns - 1, count, num_rows), np.inf)
    totals[0, :, 0] = 2 * costs[:, 0, 0]
    for diagonal in range(1, num_rows + num_columns - 1):
        low, high = max(0, diagonal - num_columns + 1), min(num_rows, diagonal + 1)
        rows = np.arange(low, high)
        cost = costs[:, rows, diagonal - rows]
        best = totals[diagonal - 1][:, rows] + cost
        above = rows > 0
        from_above = totals[diagonal - 1][:, rows[above] - 1] + cost[:, above]
        best[:, above] = np.minimum(best[:, above], from_above)
        if diagonal > 1:
            across = totals[diagonal - 2][:, rows[above] - 1] + 2 * cost[:, above]
            best[:, above] = np.minimum(best[:, above], across)
        totals[diagonal][:, rows] = best
    return totals


def _padded(values: FloatArray, length: int) -> FloatArray:
    return np.pad(values, ((0, length - len(values)), (0, 0)))
