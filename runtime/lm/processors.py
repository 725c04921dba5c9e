# SPDX-License-Identifier: Apache-2.0
"""From scores to the ids that may be drawn, for many streams and channels at once.

The processors are those of Hugging Face transformers, in the reference model's order:
repetition penalty, temperature, top-k, top-p. Each row of a matrix is one channel of one
sequence with settings of its own. Nothing here sums across rows or over a length that other
rows decide, so a row's outcome never depends, bit for bit, on its neighbours.

Few calls on large arrays: at one stream, a step's time is the number of calls into numpy.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import ChannelSampling, FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
SamplingTable = npt.NDArray[np.float64]
"""[R, 5]: the settings of R rows; a neutral number stands for "left out"."""

_PENALTY, _TEMPERATURE, _TOP_K, _TOP_P, _DO_SAMPLE = range(5)
_LOWEST = np.finfo(np.float32).min
_NOTHING = np.float32(-np.inf)


def sampling_table(channels: Rows[ChannelSampling]) -> SamplingTable:
    """The settings of some channels as the processors read them.

    >>> sampling_table([ChannelSampling(top_k=50)]).tolist()
    [[1.0, 1.0, 50.0, 1.0, 1.0]]
    """
    rows = [
        (
            channel.repetition_penalty or 1.0,
            channel.temperature or 1.0,
            channel.top_k or np.inf,
            1.0 if channel.top_p is None else channel.top_p,
            channel.do_sample,
        )
        for channel in channels
    ]
    return np.array(rows, dtype=np.float64)


def does_sample(table: SamplingTable) -> BoolArray:
    """[R]: whether an id is drawn; otherwise the best is taken."""
    drawn: BoolArray = table[:, _DO_SAMPLE] > 0
    return drawn


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What may be drawn in each of R rows, best first; equal scores are ordered by id.

    Attributes:
        ids: [R, C].
        scores: [R, C]; -inf where a row has fewer than C candidates.
    """

    ids: IntArray
    scores: FloatArray

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Unnormalised probabilities [R, C]; the first of a row is 1."""
        scores = self.scores.astype(np.float64)
        weights: npt.NDArray[np.float64] = np.exp(scores - scores[:, :1])
        return weights


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBlock:
    """Scores of channels with equally large vocabularies.

    Attributes:
        rows: [R'], places of the rows among all R.
        scores: [R', V] float32, forbidden ids at -inf already; each row has a finite one.
        seen: [R', V], True where the id stands in the history of the row; None: nowhere.
    """

    rows: IntArray
    scores: FloatArray
    seen: BoolArray | None = None


def find_candidates(blocks: Rows[ScoreBlock], table: SamplingTable) -> Candidates:
    """Apply the processors.

    Args:
        blocks: they hold each of R rows once.
        table: settings of the R rows.
    """
    survivors = [_likely_ids(block, table[block.rows]) for block in blocks]
    num_columns = max(int(each.counts.max()) for each in survivors)
    scores = np.full((len(table), num_columns), _NOTHING)
    ids = np.zeros(scores.shape, dtype=np.int64)
    for block, each in zip(blocks, survivors, strict=True):
        first = np.cumsum(each.counts) - each.counts
        places = np.arange(len(each.rows)) - first[each.rows]
        rows = block.rows[each.rows]
        scores[rows, places] = each.scores
        ids[rows, places] = each.ids
    row = np.arange(len(table))[:, None]
    order = np.argsort(-scores, axis=1, kind="stable")
    ids, scores = ids[row, order], scores[row, order]
    # Ties with the k-th best stay, as in the source.
    place = np.minimum(table[:, _TOP_K, None], num_columns).astype(np.int64) - 1
    scores = np.where(scores < scores[row, place], _NOTHING, scores)
    return _keep_top_p(Candidates(ids, scores), table[:, _TOP_P, None])


def process_scores(
    scores: FloatArray, channels: Rows[ChannelSampling], seen: BoolArray | None = None
) -> FloatArray:
    """The same for one block as a full matrix [R, V], -inf where nothing may be drawn."""
    block = ScoreBlock(np.arange(len(scores)), scores, seen)
    candidates = find_candidates([block], sampling_table(channels))
    processed = np.full_like(scores, _NOTHING)
    # From worst to best, so that padding, whose id is 0, does not hide a candidate.
    for column in range(candidates.ids.shape[1] - 1, -1, -1):
        kept = np.flatnonzero(np.isfinite(candidates.scores[:, column]))
        processed[kept, candidates.ids[kept, column]] = candidates.scores[kept, column]
    return processed


def draw(candidates: Candidates, uniforms: npt.NDArray[np.float64]) -> IntArray:
    """Draw one id per row by inverting the cumulative distribution.

    Args:
        candidates: of R rows.
        uniforms: [R] in [0, 1).

    Returns:
        [R] ids.
    """
    # A running sum adds left to right, so trailing columns of weight 0 change nothing.
    mass = np.cumsum(candidates.weights, axis=1)
    place = (mass <= uniforms[:, None] * mass[:, -1:]).sum(axis=1)
    last = (candidates.scores > _NOTHING).sum(axis=1) - 1
    chosen: IntArray = candidates.ids[np.arange(len(place)), np.minimum(place, last)]
    return chosen


@dataclass(frozen=True, slots=True, eq=False)
class _Survivors:
    """Ids of a block that may be among the k best of their row, row by row, by rising id."""

    rows: IntArray
    ids: IntArray
    scores: FloatArray
    counts: IntArray


def _likely_ids(block: ScoreBlock, settings: SamplingTable) -> _Survivors:
    """Penalise, apply the temperature, and leave out what is certainly not in the top k."""
    scores, vocab_size = block.scores, block.scores.shape[1]
    narrow = settings[:, :_TOP_K].astype(np.float32)
    if block.seen is not None:
        penalty = narrow[:, _PENALTY, None]
        penalised = np.where(scores < 0, scores * penalty, scores / penalty)
        scores = np.where(block.seen, penalised, scores)
    scores = scores / narrow[:, _TEMPERATURE, None]
    flat = np.flatnonzero(scores >= _bounds(scores, settings[:, _TOP_K, None]))
    rows = flat // vocab_size
    counts = np.bincount(rows, minlength=len(scores))
    return _Survivors(rows, flat - rows * vocab_size, scores.ravel()[flat], counts)


def _bounds(scores: FloatArray, top_k: npt.NDArray[np.float64]) -> FloatArray:
    """[R, 1]: what an id of the top k reaches; finite, so that nothing forbidden does."""
    is_limited = top_k < scores.shape[1]
    lowest = np.full((len(scores), 1), _LOWEST)
    if not is_limited.any():
        return lowest
    bound = np.maximum(_bound_of_kth_best(scores, int(top_k[is_limited].max())), _LOWEST)
    return bound if is_limited.all() else np.where(is_limited, bound, lowest)


def _bound_of_kth_best(scores: FloatArray, k: int) -> FloatArray:
    """A bound [R, 1] that the k-th best of a row reaches, and few others do.

    The k-th best of the columns' maxima, folded: no more than the k-th best of all, and found
    without sorting a vocabulary. Columns that the folds leave over cannot raise it.
    """
    width = scores.shape[1]
    while width // 2 >= 4 * k:
        width //= 2
    num_folds = scores.shape[1] // width
    folded = scores[:, : num_folds * width].reshape(len(scores), num_folds, width).max(axis=1)
    # Measured: numpy sorts so few floats faster than it partitions them.
    folded.sort(axis=1)
    bound: FloatArray = folded[:, width - k, None]
    return bound


def _keep_top_p(candidates: Candidates, top_p: npt.NDArray[np.float64]) -> Candidates:
    """Keep the likeliest ids until their probabilities reach p; at least one stays."""
    if (top_p >= 1.0).all():
        return candidates
    mass = np.cumsum(candidates.weights, axis=1)
    scores = candidates.scores.copy()
    # An id goes when the ids from the least likely up to it hold at most 1 - p together.
    drop = (mass[:, :-1] >= top_p * mass[:, -1:]) & (top_p < 1.0)
    scores[:, 1:][drop] = _NOTHING
    return Candidates(candidates.ids, scores)
