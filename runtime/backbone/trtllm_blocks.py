# SPDX-License-Identifier: Apache-2.0
"""Which blocks of the paged KV cache belong to which slot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from duologue.runtime.errors import EngineError

BlockArray = npt.NDArray[np.int32]


def blocks_for(num_rows: int, tokens_per_block: int) -> int:
    """Blocks that so many rows fill, the last one perhaps in part.

    >>> blocks_for(33, 32)
    2
    """
    return -(-num_rows // tokens_per_block)


class BlockTable:
    """Hands blocks of rows out to slots, and takes them back whole.

    Args:
        num_blocks: of the pool.
        tokens_per_block: rows of one block.
        max_slots: seats.
        max_rows: rows per seat.
    """

    def __init__(
        self, num_blocks: int, tokens_per_block: int, max_slots: int, max_rows: int
    ) -> None:
        self.tokens_per_block = tokens_per_block
        self.max_blocks_per_slot = blocks_for(max_rows, tokens_per_block)
        self._table: BlockArray = np.zeros((max_slots, self.max_blocks_per_slot), np.int32)
        self._counts = [0] * max_slots
        # The block that was given back last is taken first: it may still be in a cache.
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def num_free(self) -> int:
        """Blocks that nobody has."""
        return len(self._free)

    def reserve(self, slot: int, num_rows: int) -> None:
        """See to it that a slot has blocks for so many rows; on failure nothing changes.

        Raises:
            EngineError: the slot would become too long, or the pool is empty.
        """
        wanted = blocks_for(num_rows, self.tokens_per_block)
        lacking = wanted - self._counts[slot]
        if wanted > self.max_blocks_per_slot:
            raise EngineError(
                f"slot {slot} asks for {wanted} blocks; allowed: {self.max_blocks_per_slot}"
            )
        if lacking > len(self._free):
            raise EngineError(
                f"slot {slot} asks for {lacking} more blocks of the KV cache; "
                f"{len(self._free)} are free"
            )
        for place in range(self._counts[slot], wanted):
            self._table[slot, place] = self._free.pop()
        self._counts[slot] = max(wanted, self._counts[slot])

    def release(self, slot: int) -> None:
        """Take all blocks of a slot back."""
        self._free += self.blocks(slot)[::-1].tolist()
        self._counts[slot] = 0

    def blocks(self, slot: int) -> BlockArray:
        """The blocks of a slot, in the order of its rows."""
        return self._table[slot, : self._counts[slot]].copy()

    def offsets(self, slots: Sequence[int], num_layers: int) -> BlockArray:
        """Where the engine finds keys and values, in tiles of one layer's block of heads.

        Args:
            slots: B seats.
            num_layers: of the pool, whose blocks are [layers, keys and values, ...].

        Returns:
            [1, B, 2, blocks per slot]; places without a block hold those of block 0.
        """
        held = np.arange(self.max_blocks_per_slot) < np.array(self._counts)[list(slots), None]
        keys = np.where(held, self._table[list(slots)], 0) * (2 * num_layers)
        offsets: BlockArray = np.stack([keys, keys + 1], axis=1)[None].astype(np.int32)
        return offsets
