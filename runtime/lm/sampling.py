# SPDX-License-Identifier: Apache-2.0
"""From scores to ids: processors and draws, for many streams and channels at once.

The processors are those of Hugging Face transformers, in the reference model's order:
repetition penalty, temperature, top-k, top-p. Each row of a matrix is one channel of one
sequence with settings of its own. Nothing here sums across rows or over a length that other
rows decide, so a row's outcome never depends, bit for bit, on its neighbours.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Any

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
from duologue.runtime.lm.sequence import Sequence

_BoolArray = npt.NDArray[np.bool_]


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


@dataclass(frozen=True, slots=True, eq=False)
class _Settings:
    """Columns [R, 1] of the settings of R rows; a neutral number stands for "left out"."""

    penalty: FloatArray
    temperature: FloatArray
    top_k: IntArray
    top_p: npt.NDArray[np.float64]

    @staticmethod
    def of(channels: Rows[ChannelSampling], vocab_size: int) -> _Settings:
        def column(values: list[float], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
            return np.asarray(values, dtype=dtype)[:, None]

        return _Settings(
            penalty=column([c.repetition_penalty or 1.0 for c in channels], np.float32),  # type: ignore[arg-type]
            temperature=column([c.temperature or 1.0 for c in channels], np.float32),  # type: ignore[arg-type]
            top_k=column([min(c.top_k or vocab_size, vocab_size) for c in channels], np.int64),  # type: ignore[arg-type]
            top_p=column([1.0 if c.top_p is None else c.top_p for c in channels], np.float64),  # type: ignore[arg-type]
        )


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


def find_candidates(
    scores: FloatArray, channels: Rows[ChannelSampling], seen: _BoolArray | None = None
) -> Candidates:
    """Apply the processors.

    Args:
        scores: [R, V] float32, forbidden ids at -inf already; each row has a finite one.
        channels: R settings.
        seen: [R, V], True where the id stands in the history of the row; None: nowhere.
    """
    settings = _Settings.of(channels, scores.shape[1])
    if seen is not None:
        penalised = np.where(scores < 0, scores * settings.penalty, scores / settings.penalty)
        scores = np.where(seen, penalised, scores)
    candidates = _keep_top_k(scores / settings.temperature, settings.top_k)
    return _keep_top_p(candidates, settings.top_p)


def process_scores(
    scores: FloatArray, channels: Rows[ChannelSampling], seen: _BoolArray | None = None
) -> FloatArray:
    """The same as a full matrix [R, V], -inf where nothing may be drawn."""
    candidates = find_candidates(scores, channels, seen)
    processed = np.full_like(scores, -np.inf)
    # From worst to best, so that padding, whose id is 0, does not hide a candidate.
    for column in range(candidates.ids.shape[1] - 1, -1, -1):
        kept = np.flatnonzero(np.isfinite(candidates.scores[:, column]))
        processed[kept, candidates.ids[kept, column]] = candidates.scores[kept, column]
    return processed


def _keep_top_k(scores: FloatArray, top_k: IntArray) -> Candidates:
    """Keep scores that are no lower than the k-th best; ties with it stay, as in the source."""
    kept = np.isfinite(scores)
    is_limited = top_k < scores.shape[1]
    if is_limited.any():
        bound = _bound_of_kth_best(scores, int(top_k[is_limited].max()))
        kept &= (scores >= bound) | ~is_limited
    ranked = _rank(scores, kept)
    place = np.minimum(top_k, ranked.scores.shape[1]) - 1
    kth_best = np.take_along_axis(ranked.scores, place, axis=1)
    cut = np.where(ranked.scores < kth_best, np.float32(-np.inf), ranked.scores)
    return Candidates(ranked.ids, cut)


def _bound_of_kth_best(scores: FloatArray, k: int) -> FloatArray:
    """A bound [R, 1] that the k-th best of a row reaches, and few others do.

    The k-th best of the columns' maxima, folded: no more than the k-th best of all, and found
    without sorting a vocabulary.
    """
    vocab_size = scores.shape[1]
    width = vocab_size
    while width // 2 >= 4 * k:
        width //= 2
    num_folds = vocab_size // width
    folded = scores[:, : num_folds * width].reshape(len(scores), num_folds, width).max(axis=1)
    rest = scores[:, num_folds * width :]
    maxima = np.sort(np.concatenate([folded, rest], axis=1), axis=1)
    bound: FloatArray = maxima[:, -k, None]
    return bound


def _rank(scores: FloatArray, kept: _BoolArray) -> Candidates:
    """Gather what is kept of [R, V] into as many columns as the fullest row needs."""
    rows, ids = np.nonzero(kept)
    counts = kept.sum(axis=1)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(scores), int(counts.max()))
    gathered = np.full(shape, -np.inf, dtype=np.float32)
    gathered[rows, places] = scores[rows, ids]
    gathered_ids = np.zeros(shape, dtype=np.int64)
    gathered_ids[rows, places] = ids
    order = np.argsort(-gathered, axis=1, kind="stable")
    return Candidates(
        np.take_along_axis(gathered_ids, order, axis=1), np.take_along_axis(gathered, order, axis=1)
    )


def _keep_top_p(candidates: Candidates, top_p: npt.NDArray[np.float64]) -> Candidates:
    """Keep the likeliest ids until their probabilities reach p; at least one stays."""
    if (top_p >= 1.0).all():
        return candidates
    mass = np.cumsum(candidates.weights, axis=1)
    # An id goes when the ids from the least likely up to it hold at most 1 - p together.
    mass_before = np.concatenate([np.zeros((len(mass), 1)), mass[:, :-1]], axis=1)
    drop = (mass_before >= top_p * mass[:, -1:]) & (top_p < 1.0)
    drop[:, 0] = False
    scores = np.where(drop, np.float32(-np.inf), candidates.scores)
    return Candidates(candidates.ids, scores)


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
    last = np.isfinite(candidates.scores).sum(axis=1) - 1
    place = np.minimum(place, last)
    chosen: IntArray = np.take_along_axis(candidates.ids, place[:, None], axis=1)[:, 0]
    return chosen


def choose(logits: Logits, sequences: Rows[Sequence]) -> IntArray:
    """Choose the ids of one step for B sequences.

    Args:
        logits: of B rows.
        sequences: B sequences, in the order of the rows.

    Returns:
        [B, K] ids, before forcing and draining.
    """
    values = logits.values.copy()
    banned = [
        (row, logits.offsets[channel] + token_id)
        for row, sequence in enumerate(sequences)
        for channel, token_id in sequence.state.forbidden()
    ]
    if banned:
        values[tuple(np.array(banned).T)] = -np.inf
    uniforms = np.stack([s.draws.row(s.state.step) for s in sequences])
    num_channels = len(logits.offsets) - 1
    chosen = np.empty((len(sequences), num_channels), dtype=np.int64)
    for first, stop in _equal_runs(logits.offsets):
        block = values[:, logits.offsets[first] : logits.offsets[stop]]
        chosen[:, first:stop] = _choose_block(block, sequences, uniforms, first, stop)
    return chosen


def _equal_runs(offsets: tuple[int, ...]) -> list[tuple[int, int]]:
    """Runs of neighbouring channels with equally large vocabularies."""
    sizes = np.diff(offsets)
    borders = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
    return list(itertools.pairwise(borders))


def _choose_block(
    block: FloatArray,
    sequences: Rows[Sequence],
    uniforms: npt.NDArray[np.float64],
    first: int,
    stop: int,
) -> IntArray:
    """Ids [B, stop - first] of channels first..stop, whose vocabularies are equally large."""
    num_rows, num_channels = len(sequences), stop - first
    scores = block.reshape(num_rows * num_channels, -1)
    channels = [channel for s in sequences for channel in s.sampling[first:stop]]
    seen = _seen(sequences, first, stop, scores.shape)
    is_plain = seen is None and not any(channel.do_sample for channel in channels)
    if is_plain:
        # Temperature, top-k and top-p never move the best id.
        best: IntArray = scores.argmax(axis=1).reshape(num_rows, num_channels)
        return best
    candidates = find_candidates(scores, channels, seen)
    drawn = draw(candidates, uniforms[:, first:stop].ravel())
    do_sample = np.asarray([channel.do_sample for channel in channels])
    chosen: IntArray = np.where(do_sample, drawn, candidates.ids[:, 0])
    return chosen.reshape(num_rows, num_channels)


def _seen(
    sequences: Rows[Sequence], first: int, stop: int, shape: tuple[int, ...]
) -> _BoolArray | None:
    if all(sequence.seen is None for sequence in sequences):
        return None
    nothing = np.zeros(shape[1] * (stop - first), dtype=np.bool_)
    rows = [
        nothing
        if s.seen is None
        else s.seen[s.logit_offsets[first] : s.logit_offsets[first] + len(nothing)]
        for s in sequences
    ]
    return np.stack(rows).reshape(shape)
