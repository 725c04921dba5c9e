# SPDX-License-Identifier: Apache-2.0
"""From scores to the ids that may be drawn, for many streams and channels at once.

The processors are those of Hugging Face transformers, in the reference model's order:
repetition penalty, temperature, top-k, top-p. Each row of a matrix is one channel of one
sequence with settings of its own. Nothing here sums across rows or over a length that other
rows decide, so a row's outcome never depends, bit for bit, on its neighbours.

Few calls on large arrays: at one stream, a step's time is the number of calls into numpy.
"""

from __future__ import annotations

import functools
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
        mass: [R, C], running sums of `weights` up to the last candidate, if they are known.
    """

    ids: IntArray
    scores: FloatArray
    mass: npt.NDArray[np.float64] | None = None

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Unnormalised probabilities [R, C]; the first of a row is 1."""
        scores = self.scores.astype(np.float64)
        weights: npt.NDArray[np.float64] = np.exp(scores - scores[:, :1])
        return weights


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBlock:
    """Scores of channels with vocabularies of one width.

    Attributes:
        rows: [R'], places of the rows among all R, rising.
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
    settings = _read(table.tobytes())
    ids, scores = _likely_ids(blocks, table)
    row = np.arange(len(table))[:, None]
    order = np.argsort(-scores, axis=1, kind="stable")
    ids, scores = ids[row, order], scores[row, order]
    # Ties with the k-th best stay, as in the source.
    place = np.minimum(settings.top_k, scores.shape[1]).astype(np.int64) - 1
    scores = np.where(scores < scores[row, place], _NOTHING, scores)
    candidates = Candidates(ids, scores)
    return _keep_top_p(candidates, settings.top_p) if settings.has_top_p else candidates


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
    # A running sum adds left to right, so what stands behind the last candidate changes nothing.
    mass = candidates.mass
    if mass is None:
        mass = np.cumsum(candidates.weights, axis=1)
    row = np.arange(len(mass))
    last = (candidates.scores > _NOTHING).sum(axis=1) - 1
    place = (mass <= (uniforms * mass[row, last])[:, None]).sum(axis=1)
    chosen: IntArray = candidates.ids[row, np.minimum(place, last)]
    return chosen


@dataclass(frozen=True, slots=True, eq=False)
class _Settings:
    """A `SamplingTable` as the processors use it.

    Attributes:
        penalty, temperature, top_k, top_p: columns [R, 1].
        largest_k: the largest number that any row keeps.
        has_top_p: whether a row has a limit there.
    """

    penalty: FloatArray
    temperature: FloatArray
    top_k: npt.NDArray[np.float64]
    top_p: npt.NDArray[np.float64]
    largest_k: float
    has_top_p: bool


@functools.lru_cache(maxsize=64)
def _read(table: bytes) -> _Settings:
    """Read a table once; keyed by its bytes, since the same settings come in every step."""
    columns = np.frombuffer(table).reshape(-1, _DO_SAMPLE + 1, 1)
    return _Settings(
        penalty=columns[:, _PENALTY].astype(np.float32),
        temperature=columns[:, _TEMPERATURE].astype(np.float32),
        top_k=columns[:, _TOP_K],
        top_p=columns[:, _TOP_P],
        largest_k=float(columns[:, _TOP_K].max()),
        has_top_p=bool((columns[:, _TOP_P] < 1.0).any()),
    )


def _likely_ids(blocks: Rows[ScoreBlock], table: SamplingTable) -> tuple[IntArray, FloatArray]:
    """Ids [R, C] that may be among the k best of their row, by rising id, and their scores.

    Scores behind the last of a row are -inf.
    """
    if len(blocks) == 1:
        return _likely_ids_of(blocks[0], _read(table.tobytes()))
    found = [_likely_ids_of(block, _read(table[block.rows].tobytes())) for block in blocks]
    shape = (len(table), max(ids.shape[1] for ids, _ in found))
    ids, scores = np.zeros(shape, dtype=np.int64), np.full(shape, _NOTHING)
    for block, (some_ids, some_scores) in zip(blocks, found, strict=True):
        ids[block.rows, : some_ids.shape[1]] = some_ids
        scores[block.rows, : some_ids.shape[1]] = some_scores
    return ids, scores


def _likely_ids_of(block: ScoreBlock, settings: _Settings) -> tuple[IntArray, FloatArray]:
    """Penalise, apply the temperature, and leave out what is certainly not in the top k."""
    scores, (num_rows, vocab_size) = block.scores, block.scores.shape
    if block.seen is not None:
        penalised = np.where(scores < 0, scores * settings.penalty, scores / settings.penalty)
        scores = np.where(block.seen, penalised, scores)
    scores = scores / settings.temperature
    flat = np.flatnonzero(scores >= _bounds(scores, settings))
    rows = flat // vocab_size
    counts = np.bincount(rows, minlength=num_rows)
    is_filled = np.arange(counts.max()) < counts[:, None]
    ids, likely = np.zeros(is_filled.shape, dtype=np.int64), np.full(is_filled.shape, _NOTHING)
    ids[is_filled] = flat - rows * vocab_size
    likely[is_filled] = scores.ravel()[flat]
    return ids, likely


def _bounds(scores: FloatArray, settings: _Settings) -> FloatArray:
    """[R, 1]: what an id of the top k reaches; finite, so that nothing forbidden does."""
    vocab_size = scores.shape[1]
    if settings.largest_k < vocab_size:
        return np.maximum(_bound_of_kth_best(scores, int(settings.largest_k)), _LOWEST)
    is_limited = settings.top_k < vocab_size
    lowest = np.full((len(scores), 1), _LOWEST)
    if not is_limited.any():
        return lowest
    bound = _bound_of_kth_best(scores, int(settings.top_k[is_limited].max()))
    return np.where(is_limited, np.maximum(bound, _LOWEST), lowest)


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
    mass = np.cumsum(candidates.weights, axis=1)
    scores = candidates.scores.copy()
    # An id goes when the ids from the least likely up to it hold at most 1 - p together.
    drop = (mass[:, :-1] >= top_p * mass[:, -1:]) & (top_p < 1.0)
    scores[:, 1:][drop] = _NOTHING
    return Candidates(candidates.ids, scores, mass)
