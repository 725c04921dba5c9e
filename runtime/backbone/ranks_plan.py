# SPDX-License-Identifier: Apache-2.0
"""What rank 0 tells the others: calls as flat arrays of whole numbers, nothing executable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.core import IntArray

_PIECE_FIELDS = 4


class Op(IntEnum):
    """The calls of a body that change what a rank holds."""

    CLOSE = 0
    STEP = 1
    SAVE = 2
    """Of a slot and so many rows, under a number."""
    LOAD = 3
    """Into a slot what was saved under a number."""
    FREE = 4
    """A slot."""
    DROP = 5
    """What was saved under a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call.

    Attributes:
        op: which.
        numbers: its arguments; empty for a step.
        pieces: of a step.
    """

    op: Op
    numbers: tuple[int, ...] = ()
    pieces: tuple[Piece, ...] = ()


def step_call(pieces: Sequence[Piece]) -> Call:
    """The call of a step."""
    return Call(Op.STEP, (), tuple(pieces))


def encode_call(call: Call) -> bytes:
    """A call as little-endian int64: its op, then its numbers, or heads and ids of its pieces."""
    if call.op != Op.STEP:
        return np.array([call.op, *call.numbers], "<i8").tobytes()
    heads = [
        (piece.slot, piece.start, len(piece.input_ids), int(piece.is_prompt))
        for piece in call.pieces
    ]
    num_channels = call.pieces[0].input_ids.shape[1]
    parts = [np.array([call.op, len(heads), num_channels]), np.array(heads)]
    parts += [piece.input_ids for piece in call.pieces]
    numbers: IntArray = np.concatenate([part.ravel() for part in parts])
    return bytes(numbers.astype("<i8").tobytes())


def decode_call(data: bytes) -> Call:
    """What `encode_call` wrote."""
    numbers: IntArray = np.frombuffer(data, "<i8").astype(np.int64)
    op = Op(int(numbers[0]))
    if op != Op.STEP:
        return Call(op, tuple(int(number) for number in numbers[1:]))
    num_pieces, num_channels = int(numbers[1]), int(numbers[2])
    ids_at = 3 + _PIECE_FIELDS * num_pieces
    heads = numbers[3:ids_at].reshape(num_pieces, _PIECE_FIELDS)
    ids = numbers[ids_at:].reshape(-1, num_channels)
    blocks = np.split(ids, np.cumsum(heads[:, 2])[:-1])
    pieces = [
        Piece(int(slot), int(start), block, is_prompt=bool(is_prompt))
        for (slot, start, _, is_prompt), block in zip(heads, blocks, strict=True)
    ]
    return step_call(pieces)
