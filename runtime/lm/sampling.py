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


def process_scores(
    scores: FloatArray, channels: Rows[ChannelSampling], seen: _BoolArray | None = None
) -> FloatArray:
    """Apply the processors; what may not be drawn becomes -inf.

    Args:
        scores: [R, V] float32, forbidden ids at -inf already.
        channels: R settings.
        seen: [R, V], True where the id stands in the history of the row; None: nowhere.

    Returns:
        [R, V] float32.
    """
    settings = _Settings.of(channels, scores.shape[1])
    if seen is not None:
        penalised = np.where(scores < 0, scores * settings.penalty, scores / settings.penalty)
        scores = np.where(seen, penalised, scores)
    scores = scores / settings.temperature
    scores = _keep_top_k(scores, settings.top_k)
    return _keep_top_p(scores, settings.top_p)


def _keep_top_k(scores: FloatArray, top_k: IntArray) -> FloatArray:
    """Keep scores that are no lower than the k-th best; ties with it stay, as in the source."""
    vocab_size = scores.shape[1]
    for k in np.unique(top_k[top_k < vocab_size]):
        rows = np.flatnonzero(top_k[:, 0] == k)
        kth_best = np.partition(scores[rows], vocab_size - k, axis=1)[:, vocab_size - k, None]
        scores[rows] = np.where(scores[rows] < kth_best, -np.inf, scores[rows])
    return scores


def _keep_top_p(scores: FloatArray, top_p: npt.NDArray[np.float64]) -> FloatArray:
    """Keep the likeliest ids until their probabilities reach p; at least one stays."""
    rows = np.flatnonzero(top_p[:, 0] < 1.0)
    if len(rows) == 0:
        return scores
    ids, ranked = _ranked(scores[rows])
    mass = np.cumsum(_weights(ranked), axis=1)
    # An id goes when the ids from the least likely up to it hold at most 1 - p together.
    mass_before = np.concatenate([np.zeros((len(rows), 1)), mass[:, :-1]], axis=1)
    drop = mass_before >= top_p[rows] * mass[:, -1:]
    drop[:, 0] = False
    ranked = np.where(drop, np.float32(-np.inf), ranked)
    kept = np.full_like(scores[rows], -np.inf)
    np.put_along_axis(kept, ids, ranked, axis=1)
    scores[rows] = kept
    return scores


def _ranked(scores: FloatArray) -> tuple[IntArray, FloatArray]:
    """Ids and scores from best to worst, as many columns as the fullest row has left.

    Equal scores are ordered by id, so that the order does not depend on the other rows.
    """
    num_left = int(np.isfinite(scores).sum(axis=1).max(initial=1))
    if num_left < scores.shape[1]:
        ids = np.argpartition(-scores, num_left - 1, axis=1)[:, :num_left]
        ids.sort(axis=1)
    else:
        ids = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    candidates = np.take_along_axis(scores, ids, axis=1)
    order = np.argsort(-candidates, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _weights(ranked: FloatArray) -> npt.NDArray[np.float64]:
    """Unnormalised probabilities of ranked scores [R, C]; the first is 1."""
    best: npt.NDArray[np.float64] = ranked.astype(np.float64)
    return np.exp(best - best[:, :1])


def draw(scores: FloatArray, uniforms: npt.NDArray[np.float64]) -> IntArray:
    """Draw one id per row by inverting the cumulative distribution.

    Args:
        scores: [R, V], processed.
        uniforms: [R] in [0, 1).

    Returns:
        [R] ids.
    """
    ids, ranked = _ranked(scores)
    # A running sum adds left to right, so trailing columns of weight 0 change nothing.
    mass = np.cumsum(_weights(ranked), axis=1)
    place = (mass <= uniforms[:, None] * mass[:, -1:]).sum(axis=1)
    last = np.isfinite(ranked).sum(axis=1) - 1
    place = np.minimum(place, last)
    chosen: IntArray = np.take_along_axis(ids, place[:, None], axis=1)[:, 0]
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
    for row, sequence in enumerate(sequences):
        for channel, token_id in sequence.state.forbidden():
            values[row, logits.offsets[channel] + token_id] = -np.inf
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
    processed = process_scores(scores, channels, seen)
    drawn = draw(processed, uniforms[:, first:stop].ravel())
    do_sample = np.asarray([channel.do_sample for channel in channels])
    chosen: IntArray = np.where(do_sample, drawn, processed.argmax(axis=1))
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
