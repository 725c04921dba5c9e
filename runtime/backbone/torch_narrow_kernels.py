# SPDX-License-Identifier: Apache-2.0
"""Products of few rows with a matrix in 8 bits, in OpenAI's Triton.

The matrix is read as it is stored and widened in registers: its numbers are exact in the
activations' precision, sums are float32, and the row's scale comes last. A float8 number is widened
by its bits, which a GPU of any age can do: moved into a float16 they mean 2 ** -8 of it, small
numbers included, and the factor goes into the scale.

A matrix is cut into tiles of rows, and its columns into shares, so that a small matrix keeps a
whole GPU busy, too; `join_shares_kernel` adds up the shares in their order. Tiles and shares follow
from the matrix alone, so the order of every sum is the same whatever the batch. The matrix is the
left side of the product of tiles: its 64 rows fill the units of a GPU, which a batch of one would
not.

Triton knows no units of a T4 that multiply half precision: there, all is widened to float32
(`IN_FLOAT32`), which needs fewer registers.

Importing this file needs the package `triton`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def multiply_kernel(
    values: tl.tensor,
    numbers: tl.tensor,
    scales: tl.tensor,
    product: tl.tensor,
    batch: tl.tensor,
    width_in: tl.tensor,
    width_out: tl.tensor,
    share_blocks: tl.tensor,
    IS_FLOAT8: tl.constexpr,
    HAS_SHARES: tl.constexpr,
    IN_FLOAT32: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_BATCH: tl.constexpr,
    BLOCK_IN: tl.constexpr,
) -> None:
    """Per tile of rows, share and tile of the batch: values [B, in] times numbers [out, in]."""
    share = tl.program_id(1)
    row = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    member = tl.program_id(2) * BLOCK_BATCH + tl.arange(0, BLOCK_BATCH)
    has_row, has_member = row < width_out, member < batch
    # A matrix of the heads can have more numbers than 32 bits count.
    at_row, at_member = row.to(tl.int64) * width_in, member.to(tl.int64) * width_in
    total = tl.zeros([BLOCK_OUT, BLOCK_BATCH], tl.float32)
    for block in range(share * share_blocks, (share + 1) * share_blocks):
        place = block * BLOCK_IN + tl.arange(0, BLOCK_IN)
        inside = place < width_in
        stored = tl.load(
            numbers + at_row[:, None] + place[None, :],
            mask=has_row[:, None] & inside[None, :],
            other=0,
        )
        given = tl.load(
            values + at_member[None, :] + place[:, None],
            mask=has_member[None, :] & inside[:, None],
            other=0.0,
        )
        if IN_FLOAT32:
            given = given.to(tl.float32)
        if IS_FLOAT8:
            bits = stored.to(tl.uint16)
            half = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
            wide = half.to(tl.float16, bitcast=True).to(tl.float32).to(given.dtype)
        else:
            wide = stored.to(given.dtype)
        total = tl.dot(wide, given, total, input_precision="ieee")
    at = member[None, :].to(tl.int64) * width_out + row[:, None]
    has_both = has_row[:, None] & has_member[None, :]
    if HAS_SHARES:
        at += share.to(tl.int64) * batch * width_out
    else:
        scale = tl.load(scales + row, mask=has_row, other=0.0)
        if IS_FLOAT8:
            scale *= 256.0
        total *= scale[:, None]
    tl.store(product + at, total, mask=has_both)


@triton.jit  # type: ignore[untyped-decorator]
def join_shares_kernel(
    parts: tl.tensor,
    scales: tl.tensor,
    product: tl.tensor,
    batch: tl.tensor,
    width_out: tl.tensor,
    num_shares: tl.tensor,
    IS_FLOAT8: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Per row of the batch and block of columns: the sum of the shares [shares, B, out], scaled."""
    member = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    has_row = row < width_out
    total = tl.zeros([BLOCK], tl.float32)
    for share in range(num_shares):
        at = (share * batch + member) * width_out + row
        total += tl.load(parts + at, mask=has_row, other=0.0)
    scale = tl.load(scales + row, mask=has_row, other=0.0)
    if IS_FLOAT8:
        scale *= 256.0
    tl.store(product + member * width_out + row, total * scale, mask=has_row)
