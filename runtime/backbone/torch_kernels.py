# SPDX-License-Identifier: Apache-2.0
"""Kernels of a decode step in OpenAI's Triton, the compiler that torch's CUDA wheels bring along.

A step of one row per sequence is made of products, which torch computes, and of much small work
between them. Here that work is six kernels per layer instead of some sixty. Attention reads only
the live rows of each slot: a slot is cut into stretches of `STRETCH` rows that are worked on side
by side and joined at the end (as in Flash-Decoding, Dao et al. 2023). The cut does not depend on
the batch, so neither do a row's bits.

Importing this file needs the package `triton`. Where a step is rounded to the weights' precision is
as in plain torch, but for the rotation, which is rounded once.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def add_norm_kernel(
    hidden: tl.tensor,
    update: tl.tensor,
    weight: tl.tensor,
    normed: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    HAS_UPDATE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Per row: add `update` to `hidden` [B, H] in place; its norm goes to `normed`."""
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    values = tl.load(hidden + row + at, mask=inside, other=0.0)
    if HAS_UPDATE:
        values += tl.load(update + row + at, mask=inside, other=0.0)
        tl.store(hidden + row + at, values, mask=inside)
    wide = values.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide) / width + eps)
    scaled = (wide * scale).to(values.dtype)
    tl.store(normed + row + at, tl.load(weight + at, mask=inside) * scaled, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def store_kernel(
    joined: tl.tensor,
    query_weight: tl.tensor,
    key_weight: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    seats: tl.tensor,
    places: tl.tensor,
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    eps: tl.tensor,
    seat_stride: tl.tensor,
    head_stride: tl.tensor,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Per row and head: norm and rotate queries and keys, and put keys and values away."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = tl.arange(0, BLOCK)
    inside = at < HALF
    source = joined + (row * (NUM_HEADS + 2 * NUM_KV_HEADS) + head) * 2 * HALF
    first = tl.load(source + at, mask=inside, other=0.0)
    second = tl.load(source + HALF + at, mask=inside, other=0.0)
    target = tl.load(seats + row) * seat_stride + tl.load(places + row) * 2 * HALF
    if head >= NUM_HEADS + NUM_KV_HEADS:
        target += (head - NUM_HEADS - NUM_KV_HEADS) * head_stride
        tl.store(values + target + at, first, mask=inside)
        tl.store(values + target + HALF + at, second, mask=inside)
    else:
        heads = head + tl.zeros_like(at)
        of_query, of_key = inside & (heads < NUM_HEADS), inside & (heads >= NUM_HEADS)
        wide_first, wide_second = first.to(tl.float32), second.to(tl.float32)
        square = tl.sum(wide_first * wide_first) + tl.sum(wide_second * wide_second)
        scale = tl.rsqrt(square / (2 * HALF) + eps)
        # One of the two weights is masked out.
        weight = tl.load(query_weight + at, mask=of_query, other=0.0)
        weight += tl.load(key_weight + at, mask=of_key, other=0.0)
        normed_first = (weight * (wide_first * scale).to(first.dtype)).to(tl.float32)
        weight = tl.load(query_weight + HALF + at, mask=of_query, other=0.0)
        weight += tl.load(key_weight + HALF + at, mask=of_key, other=0.0)
        normed_second = (weight * (wide_second * scale).to(second.dtype)).to(tl.float32)
        c = tl.load(cos + row * HALF + at, mask=inside, other=0.0).to(tl.float32)
        s = tl.load(sin + row * HALF + at, mask=inside, other=0.0).to(tl.float32)
        turned_first = normed_first * c - normed_second * s
        turned_second = normed_second * c + normed_first * s
        to_query = query + (row * NUM_HEADS + head) * 2 * HALF
        tl.store(to_query + at, turned_first, mask=of_query)
        tl.store(to_query + HALF + at, turned_second, mask=of_query)
        target += (head - NUM_HEADS) * head_stride
        tl.store(keys + target + at, turned_first, mask=of_key)
        tl.store(keys + target + HALF + at, turned_second, mask=of_key)


@triton.jit  # type: ignore[untyped-decorator]
def attend_kernel(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    seats: tl.tensor,
    lengths: tl.tensor,
    parts: tl.tensor,
    peaks: tl.tensor,
    sums: tl.tensor,
    scale: tl.tensor,
    seat_stride: tl.tensor,
    head_stride: tl.tensor,
    num_stretches: tl.tensor,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    STRETCH: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
) -> None:
    """Per row, key head and share of the stretches: attention within each stretch."""
    row, kv_head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pair = row * tl.num_programs(1) + kv_head
    length = tl.load(lengths + row)
    base = tl.load(seats + row) * seat_stride + kv_head * head_stride
    member, dim, place = (
        tl.arange(0, BLOCK_GROUP),
        tl.arange(0, BLOCK_DIM),
        tl.arange(0, BLOCK_ROWS),
    )
    has_member, has_dim = member < GROUP, dim < HEAD_DIM
    at_query = (pair * GROUP + member)[:, None] * HEAD_DIM + dim[None, :]
    has_both = has_member[:, None] & has_dim[None, :]
    asked = tl.load(query + at_query, mask=has_both, other=0.0)
    for stretch in range(tl.program_id(2), tl.cdiv(length, STRETCH), tl.num_programs(2)):
        peak = tl.full([BLOCK_GROUP], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_GROUP], tl.float32)
        mixed = tl.zeros([BLOCK_GROUP, BLOCK_DIM], tl.float32)
        stop = tl.minimum((stretch + 1) * STRETCH, length)
        for start in range(stretch * STRETCH, stop, BLOCK_ROWS):
            is_live = start + place < stop
            at = base + (start + place)[:, None] * HEAD_DIM + dim[None, :]
            is_there = is_live[:, None] & has_dim[None, :]
            key = tl.load(keys + at, mask=is_there, other=0.0)
            scores = tl.dot(asked, tl.trans(key), input_precision="ieee") * scale
            scores = tl.where(is_live[None, :], scores, float("-inf"))
            higher = tl.maximum(peak, tl.max(scores, 1))
            decay, weights = tl.exp(peak - higher), tl.exp(scores - higher[:, None])
            value = tl.load(values + at, mask=is_there, other=0.0)
            gained = tl.dot(weights.to(value.dtype), value, input_precision="ieee")
            mixed = mixed * decay[:, None] + gained
            total = total * decay + tl.sum(weights, 1)
            peak = higher
        at_part = (pair * num_stretches + stretch) * GROUP + member
        tl.store(parts + at_part[:, None] * HEAD_DIM + dim[None, :], mixed, mask=has_both)
        tl.store(peaks + at_part, peak, mask=has_member)
        tl.store(sums + at_part, total, mask=has_member)


@triton.jit  # type: ignore[untyped-decorator]
def join_kernel(
    parts: tl.tensor,
    peaks: tl.tensor,
    sums: tl.tensor,
    lengths: tl.tensor,
    out: tl.tensor,
    num_stretches: tl.tensor,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    STRETCH: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Per row and head: the stretches of `attend_kernel` joined."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pair = row * (tl.num_programs(1) // GROUP) + head // GROUP
    num_live = tl.cdiv(tl.load(lengths + row), STRETCH)
    dim, place = tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK)
    has_dim = dim < HEAD_DIM
    peak, total = float("-inf"), 0.0
    mixed = tl.zeros([BLOCK_DIM], tl.float32)
    for start in range(0, num_live, BLOCK):
        is_live = start + place < num_live
        at = (pair * num_stretches + start + place) * GROUP + head % GROUP
        found = tl.load(peaks + at, mask=is_live, other=float("-inf"))
        higher = tl.maximum(peak, tl.max(found, 0))
        decay, weights = tl.exp(peak - higher), tl.exp(found - higher)
        at_part = at[:, None] * HEAD_DIM + dim[None, :]
        part = tl.load(parts + at_part, mask=is_live[:, None] & has_dim[None, :], other=0.0)
        mixed = mixed * decay + tl.sum(part * weights[:, None], 0)
        count = tl.load(sums + at, mask=is_live, other=0.0)
        total = total * decay + tl.sum(count * weights, 0)
        peak = higher
    at_out = (row * tl.num_programs(1) + head) * HEAD_DIM + dim
    tl.store(out + at_out, mixed / total, mask=has_dim)


@triton.jit  # type: ignore[untyped-decorator]
def gate_kernel(joined: tl.tensor, gated: tl.tensor, width: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Per row and block of columns: SiLU of the first half times the second half."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate = tl.load(joined + row * 2 * width + at, mask=inside, other=0.0)
    up = tl.load(joined + row * 2 * width + width + at, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    tl.store(gated + row * width + at, (wide * tl.sigmoid(wide)).to(up.dtype) * up, mask=inside)
