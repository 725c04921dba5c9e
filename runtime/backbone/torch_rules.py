# SPDX-License-Identifier: Apache-2.0
"""The rules of `runtime.lm` once more, as tensor operations of fixed shapes that never wait.

Bans, repetition penalty, temperature, top-k, top-p and the draw, as `lm.sampling` and
`lm.processors` have them, and the step through the delay pattern of `lm.delay`. A step of both
gives the same ids: tests hold them together. What differs is the room: a row keeps
`NUM_CANDIDATES` ids, so a top-k beyond `MAX_TOP_K`, or none over a larger vocabulary, is left to
the host, and of ids that tie with the k-th best only those that find room are kept.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from duologue.runtime.backbone.device import WideArray
from duologue.runtime.backbone.torch_columns import HeadColumns
from duologue.runtime.backbone.torch_states import StepView
from duologue.runtime.config import LmConfig

Tensor = torch.Tensor

NUM_CANDIDATES = 256
MAX_TOP_K = 192
"""Leaves room for ids that tie with the k-th best."""

_LOW_BITS = 32
_LOW_MASK = (1 << _LOW_BITS) - 1
_ALL_BUT_SIGN = 0x7FFFFFFF


def can_choose(columns: HeadColumns, sampling: WideArray) -> bool:
    """Whether every channel's candidates fit, by the settings [K, 5]."""
    sizes = np.diff(columns.offsets)
    is_free = sampling[:, 4] == 0
    return bool((is_free | (sizes <= NUM_CANDIDATES) | (sampling[:, 2] <= MAX_TOP_K)).all())


def ban(scores: Tensor, view: StepView, delays: Tensor) -> Tensor:
    """Forbid, in place, what the delay pattern forbids in this step; see `DelayState.forbidden`.

    Args:
        scores: [B, W].
        view: the sequences.
        delays: [K].
    """
    columns = torch.cat([view.end_column[:, None], view.fill_columns[:, 1:]], dim=1)
    step = view.step[:, None]
    is_banned = torch.cat([step < delays[-1:], step >= delays[1:]], dim=1)
    kept = scores.gather(1, columns)
    return scores.scatter_(1, columns, kept.masked_fill(is_banned, -torch.inf))


def choose(scores: Tensor, view: StepView, uniforms: Tensor, columns: HeadColumns) -> Tensor:
    """Choose one id per channel.

    Args:
        scores: [B, W] float32, banned columns at -inf.
        view: settings of the B sequences.
        uniforms: [B, K] float64 in [0, 1).
        columns: what the scores belong to.

    Returns:
        [B, K], columns counted from the first of each channel.
    """
    keys = torch.cat([_best_keys(scores, view, columns, run) for run in columns.runs], dim=1)
    places, kept = _take_apart(keys)
    worst = (view.top_k.clamp(1, NUM_CANDIDATES) - 1)[..., None]
    kept = kept.masked_fill(kept < kept.gather(2, worst), -torch.inf)
    mass = _weights(kept).cumsum(2)
    top_p = view.top_p[..., None]
    is_dropped = (mass[..., :-1] >= top_p * mass[..., -1:]) & (top_p < 1)
    kept = torch.cat([kept[..., :1], kept[..., 1:].masked_fill(is_dropped, -torch.inf)], dim=2)
    mass = _weights(kept).cumsum(2)
    drawn = (mass <= uniforms[..., None] * mass[..., -1:]).sum(2)
    last = (kept > -torch.inf).sum(2) - 1
    drawn = torch.minimum(drawn, last).clamp(min=0) * view.does_sample
    return places.gather(2, drawn[..., None])[..., 0]


def _best_keys(
    scores: Tensor, view: StepView, columns: HeadColumns, run: tuple[int, int]
) -> Tensor:
    """Keys [B, channels, NUM_CANDIDATES] of the best columns of some equally large channels.

    A key orders by score and then by column, so equal scores come in the host's order.
    """
    first, stop = run
    begin, end = columns.offsets[first], columns.offsets[stop]
    shape = len(scores), stop - first, (end - begin) // (stop - first)
    block = scores[:, begin:end].reshape(shape)
    if view.seen is not None:
        penalty = view.penalty[:, first:stop, None].float()
        seen = view.seen[:, begin:end].reshape(shape)
        penalised = torch.where(block < 0, block * penalty, block / penalty)
        block = torch.where(seen, penalised, block)
    # Adding zero makes -0 and 0 the same bits.
    block = block / view.temperature[:, first:stop, None].float() + 0.0
    bits = block.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & _ALL_BUT_SIGN)
    size = shape[2]
    place = torch.arange(size, device=scores.device)
    keys = (ordered.long() << _LOW_BITS) + (_LOW_MASK - place)
    if size <= NUM_CANDIDATES:
        best, _ = keys.sort(dim=2, descending=True)
        lowest = torch.iinfo(torch.int64).min
        return torch.nn.functional.pad(best, (0, NUM_CANDIDATES - size), value=lowest)
    best, _ = keys.topk(NUM_CANDIDATES, dim=2)
    return best


def _take_apart(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and scores of keys; of a padded key column 0 and -inf."""
    ordered = (keys >> _LOW_BITS).int()
    scores = (ordered ^ ((ordered >> 31) & _ALL_BUT_SIGN)).view(torch.float32)
    is_padding = keys == torch.iinfo(torch.int64).min
    columns = (_LOW_MASK - (keys & _LOW_MASK)).masked_fill(is_padding, 0)
    return columns, scores.masked_fill(is_padding, -torch.inf)


def _weights(scores: Tensor) -> Tensor:
    """Unnormalised probabilities; the first of a row is 1."""
    wide = scores.double()
    return torch.exp(wide - wide[..., :1])


def advance(chosen: Tensor, view: StepView, delays: Tensor, lm: LmConfig) -> StepView:
    """Take the chosen ids [B, K] of one step; see `DelayState.advance`.

    Args:
        chosen: one id per channel.
        view: the sequences before the step.
        delays: [K].
        lm: gives the longest delay.

    Returns:
        The sequences after it.
    """
    is_speech = (chosen[:, 0] >= view.speech[:, 0]) & (chosen[:, 0] < view.speech[:, 1])
    is_trigger = (view.left < 0) & ~is_speech
    left = view.left.masked_fill(is_trigger, lm.max_delay)
    depth = view.forced.shape[1]
    at = view.step.clamp(max=depth - 1)[:, None, None].expand(-1, 1, lm.num_channels)
    row = torch.where(delays > view.step[:, None], view.forced.gather(1, at)[:, 0], chosen)
    is_draining = ((left >= 0) & ~is_trigger)[:, None]
    is_drained = is_draining & (delays <= (lm.max_delay - left)[:, None])
    row = torch.where(is_drained, view.fills, row)
    left = torch.where(left > 0, left - 1, left)
    return dataclasses.replace(view, length=view.length + 1, step=view.step + 1, left=left, row=row)
