# SPDX-License-Identifier: Apache-2.0
"""Products with matrices in 8 bits by kernels of our own. Importing this file needs `triton`."""

from __future__ import annotations

import torch
import triton

from duologue.runtime.backbone.torch_narrow_kernels import join_shares_kernel, multiply_kernel
from duologue.runtime.backbone.torch_weights import NarrowWeight, Tensor

_BLOCK_OUT = 64
_BLOCK_IN = 128
_BLOCK_IN_FLOAT32 = 64
_BATCH_TILES = (16, 32, 64)
_ENOUGH_TILES = 256
"""Two for each multiprocessor of a large GPU. Reasoned, not tuned on one."""
_MAX_SHARES = 8
_LEAST_BLOCKS = 2
"""Of a share, so that one is fetched while the other is multiplied."""
_NUM_WARPS = 4
_NUM_STAGES = 4
_JOIN_BLOCK = 512


def share_counts(width_out: int, width_in: int) -> tuple[int, int]:
    """Into how many shares a matrix's columns are cut, and the blocks of columns of each.

    >>> share_counts(2048, 6144), share_counts(160_000, 2048)
    ((8, 6), (1, 16))
    """
    num_tiles, num_blocks = triton.cdiv(width_out, _BLOCK_OUT), triton.cdiv(width_in, _BLOCK_IN)
    num_shares = 1
    while (
        num_shares < _MAX_SHARES
        and num_tiles * num_shares < _ENOUGH_TILES
        and num_blocks >= 2 * num_shares * _LEAST_BLOCKS
    ):
        num_shares *= 2
    return num_shares, triton.cdiv(num_blocks, num_shares)


def multiply_narrow(values: Tensor, weight: NarrowWeight, *, in_float32: bool = False) -> Tensor:
    """Multiply few rows [B, in] with a matrix in 8 bits [out, in].

    Args:
        values: contiguous.
        weight: the matrix.
        in_float32: both sides are widened to float32 before they are multiplied.

    Returns:
        [B, out], in the precision of the values.
    """
    (batch, width_in), width_out = values.shape, len(weight.numbers)
    is_float8 = weight.quantization == "fp8"
    numbers = weight.numbers.view(torch.uint8) if is_float8 else weight.numbers
    num_shares, share_blocks = share_counts(width_out, width_in)
    block_in = _BLOCK_IN_FLOAT32 if in_float32 else _BLOCK_IN
    product = values.new_empty(batch, width_out)
    parts = product
    if num_shares > 1:
        parts = values.new_empty(num_shares, batch, width_out, dtype=torch.float32)
    tile = next((size for size in _BATCH_TILES if size >= batch), _BATCH_TILES[-1])
    grid = triton.cdiv(width_out, _BLOCK_OUT), num_shares, triton.cdiv(batch, tile)
    multiply_kernel[grid](
        values,
        numbers,
        weight.scales,
        parts,
        batch,
        width_in,
        width_out,
        share_blocks * (_BLOCK_IN // block_in),
        IS_FLOAT8=is_float8,
        HAS_SHARES=num_shares > 1,
        IN_FLOAT32=in_float32,
        BLOCK_OUT=_BLOCK_OUT,
        BLOCK_BATCH=tile,
        BLOCK_IN=block_in,
        num_warps=_NUM_WARPS,
        num_stages=_NUM_STAGES,
    )
    if num_shares > 1:
        join_shares_kernel[(batch, triton.cdiv(width_out, _JOIN_BLOCK))](
            parts,
            weight.scales,
            product,
            batch,
            width_out,
            num_shares,
            IS_FLOAT8=is_float8,
            BLOCK=_JOIN_BLOCK,
        )
    return product
