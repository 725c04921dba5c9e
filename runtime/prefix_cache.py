# SPDX-License-Identifier: Apache-2.0
"""Keys and values of prompts' beginnings, kept so that they are computed once.

A prompt is cut into blocks of the length in which the engine reads it anyway. A block is known by
a hash over itself and all blocks before it, so equal hashes mean equal rows from the first on,
and keys and values that depend on nothing else. What is restored was computed in the same pieces
as it would be now: results do not change by a bit.

MOSS-TTSD's prompt holds the whole text in front of the voices' codes. So a repeated request
shares its prompt, but another text with the same voices shares the template and the transcripts
alone. Only what has been seen twice is kept: a prompt that comes once costs no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from duologue.runtime.backbone.base import Backbone, PrefixHandle
from duologue.runtime.core import IntArray

_MAX_SEEN = 4096
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class PrefixStats:
    """What the cache has done.

    Attributes:
        lookups: prompts that were looked up.
        hits: prompts whose beginning was restored.
        rows: rows of all prompts.
        rows_restored: rows that were not computed again.
        num_bytes: memory in use.
        evictions: kept beginnings that had to make room for others.
    """

    lookups: int = 0
    hits: int = 0
    rows: int = 0
    rows_restored: int = 0
    num_bytes: int = 0
    evictions: int = 0

    @property
    def misses(self) -> int:
        """Prompts of which nothing was kept."""
        return self.lookups - self.hits


class PrefixCache:
    """Least recently used prefixes within a budget of bytes. For one thread.

    Args:
        backbone: whose slots are saved and filled.
        block_rows: rows of a block; prompts are read in pieces of so many.
        budget_bytes: memory of all kept prefixes; 0 turns the cache off.
    """

    def __init__(self, backbone: Backbone, block_rows: int, budget_bytes: int) -> None:
        self._backbone = backbone
        self._block_rows = block_rows
        self._budget_bytes = budget_bytes
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._kept: OrderedDict[bytes, PrefixHandle] = OrderedDict()
        self._wanted: dict[int, tuple[bytes, int]] = {}
        self._num_bytes = 0
        self._lookups = self._hits = self._rows = self._rows_restored = self._evictions = 0

    @property
    def stats(self) -> PrefixStats:
        """Counts since the start."""
        return PrefixStats(
            *(self._lookups, self._hits, self._rows, self._rows_restored),
            *(self._num_bytes, self._evictions),
        )

    def restore(self, slot: int, prompt_rows: IntArray) -> int:
        """Fill an empty slot with the longest beginning of a prompt that is kept.

        Args:
            slot: seat in the KV cache.
            prompt_rows: [S, K]; at least the last row is left to be read, for its logits.

        Returns:
            Rows that the slot holds now: a multiple of the block's length.
        """
        self._wanted.pop(slot, None)
        if self._budget_bytes <= 0:
            return 0
        digests = self._digests(prompt_rows)
        kept = max((n for n, digest in enumerate(digests, 1) if digest in self._kept), default=0)
        known = sum(digest in self._seen for digest in digests)
        self._note(digests)
        if known > kept:
            self._wanted[slot] = (digests[known - 1], known * self._block_rows)
        restored = kept * self._block_rows
        self._lookups += 1
        self._rows += len(prompt_rows)
        if kept:
            self._kept.move_to_end(digests[kept - 1])
            self._backbone.load_prefix(slot, self._kept[digests[kept - 1]])
            self._hits += 1
            self._rows_restored += restored
        return restored

    def keep(self, slot: int) -> None:
        """Save the beginning of a prompt that has been read, if it came before."""
        if slot not in self._wanted:
            return
        digest, num_rows = self._wanted.pop(slot)
        if digest in self._kept:
            return
        if num_rows * self._backbone.spec.kv_bytes_per_row > self._budget_bytes:
            return
        handle = self._backbone.save_prefix(slot, num_rows)
        self._kept[digest] = handle
        self._num_bytes += handle.num_bytes
        while self._num_bytes > self._budget_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._num_bytes -= oldest.num_bytes
            self._evictions += 1

    def _digests(self, prompt_rows: IntArray) -> list[bytes]:
        """One per whole block that leaves a row to be read."""
        num_blocks = (len(prompt_rows) - 1) // self._block_rows
        digests, digest = [], b""
        for block in prompt_rows[: num_blocks * self._block_rows].reshape(
            num_blocks, self._block_rows * prompt_rows.shape[1]
        ):
            digest = blake2b(digest + block.tobytes(), digest_size=_DIGEST_BYTES).digest()
            digests.append(digest)
        return digests

    def _note(self, digests: list[bytes]) -> None:
        for digest in digests:
            self._seen[digest] = None
            self._seen.move_to_end(digest)
        while len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
