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

from duologue.runtime.core import ChannelSampling, FloatArray, IntArray, Logits
from duologue.runtime.lm.candidates import Candidates, count_per_row
from duologue.runtime.lm.likely import list_likely

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


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """A `SamplingTable` as the processors use it.

    Attributes:
        penalty, temperature, top_k, top_p: columns [R, 1].
        is_drawn: [R], whether an id is drawn; otherwise the best is taken.
        largest_k: the largest number of ids that a row is limited to; 0: no row is.
        same_k: the number that every row is limited to, if it is the same.
        is_limited: [R], which rows are limited, if not all are.
        num_drawn, num_top_p: rows that draw, and rows with a limit there.
    """

    penalty: FloatArray
    temperature: FloatArray
    top_k: npt.NDArray[np.float64]
    top_p: npt.NDArray[np.float64]
    is_drawn: BoolArray
    largest_k: int
    same_k: int | None
    is_limited: BoolArray | None
    num_drawn: int
    num_top_p: int


def read_settings(table: SamplingTable) -> Settings:
    """The settings of R rows; the same ones come in every step and are read once."""
    return _read(table.tobytes())


@functools.lru_cache(maxsize=64)
def _read(table: bytes) -> Settings:
    columns = np.frombuffer(table).reshape(-1, _DO_SAMPLE + 1, 1)
    top_k, is_drawn = columns[:, _TOP_K], columns[:, _DO_SAMPLE, 0] > 0
    is_limited = np.isfinite(top_k[:, 0])
    largest_k = int(np.max(top_k[:, 0], where=is_limited, initial=0))
    return Settings(
        penalty=columns[:, _PENALTY].astype(np.float32),
        temperature=columns[:, _TEMPERATURE].astype(np.float32),
        top_k=top_k,
        top_p=columns[:, _TOP_P],
        is_drawn=is_drawn,
        largest_k=largest_k,
        same_k=largest_k if (top_k == largest_k).all() else None,
        is_limited=None if is_limited.all() else is_limited,
        num_drawn=int(is_drawn.sum()),
        num_top_p=int((columns[:, _TOP_P] < 1.0).sum()),
    )


def find_candidates(
    scores: Logits,
    table: SamplingTable,
    banned: IntArray | None = None,
    seen: BoolArray | None = None,
) -> Candidates:
    """Apply the processors.

    Args:
        scores: of B sequences with K channels each; row b * K + c is channel c of sequence b.
        table: settings of the R = B * K rows.
        banned: places in the flat scores that must not be chosen, at most one in a row.
        seen: [B, sum(V_c)], True where the id stands in the history of the row; None: nowhere.
    """
    settings = read_settings(table)
    if seen is not None:
        scores = _penalise(scores, settings, seen)
    likely = list_likely(scores, settings.largest_k, settings.is_limited, banned)
    listed = np.full((len(table), likely.counts.max()), _NOTHING)
    is_filled = np.arange(listed.shape[1]) < likely.counts[:, None]
    listed[is_filled] = scores.values.reshape(-1)[likely.places]
    listed /= settings.temperature
    ranked = np.sort(listed, axis=1)[:, ::-1]
    # Ties with the k-th best stay, as in the source.
    is_kept = ranked >= _kth_best(ranked, settings)
    exact = ranked.astype(np.float64, order="C")
    weights = np.exp(exact - exact[:, :1])
    weights *= is_kept
    mass = np.add.accumulate(weights, axis=1)
    last = _last_ranks(is_kept, mass, settings)
    return Candidates(likely, listed, ranked, mass, last)


def _penalise(scores: Logits, settings: Settings, seen: BoolArray) -> Logits:
    """Make what was said before less likely."""
    values, sizes = scores.values, np.diff(scores.offsets)
    penalty = settings.penalty.reshape(len(values), -1).repeat(sizes, axis=1)
    penalised = np.where(values < 0, values * penalty, values / penalty)
    return Logits(np.where(seen, penalised, values), scores.offsets)


def process_scores(
    scores: FloatArray, channels: Rows[ChannelSampling], seen: BoolArray | None = None
) -> FloatArray:
    """The same for one sequence with K like channels: [K, V], -inf where nothing may be drawn."""
    offsets = tuple(range(0, scores.size + 1, scores.shape[1]))
    seen = None if seen is None else seen.reshape(1, -1)
    logits = Logits(scores.reshape(1, -1), offsets)
    candidates = find_candidates(logits, sampling_table(channels), seen=seen)
    processed = np.full_like(scores, _NOTHING)
    for rank in range(candidates.ranked.shape[1]):
        rows = np.flatnonzero(candidates.last >= rank)
        ids = candidates.ids(np.minimum(rank, candidates.last))
        processed[rows, ids[rows]] = candidates.ranked[rows, rank]
    return processed


def _kth_best(ranked: FloatArray, settings: Settings) -> FloatArray:
    """[R, 1]: the least that is kept; finite, so that nothing behind a row's last is."""
    num_listed = ranked.shape[1]
    if settings.same_k is not None:
        kth = ranked[:, min(settings.same_k, num_listed) - 1, None]
    else:
        rank = np.minimum(settings.top_k, num_listed).astype(np.int64) - 1
        kth = np.take_along_axis(ranked, rank, axis=1)
    return np.maximum(kth, _LOWEST)


def _last_ranks(is_kept: BoolArray, mass: npt.NDArray[np.float64], settings: Settings) -> IntArray:
    """[R]: keep the likeliest ids until their probabilities reach p; at least one stays."""
    if settings.num_top_p == 0:
        return count_per_row(is_kept) - 1
    # An id goes when the ids from the least likely up to it hold at most 1 - p together.
    last: IntArray = (mass >= settings.top_p * mass[:, -1:]).argmax(axis=1)
    if settings.num_top_p < len(last):
        last = np.where(settings.top_p[:, 0] < 1.0, last, count_per_row(is_kept) - 1)
    return last
