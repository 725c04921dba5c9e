# SPDX-License-Identifier: Apache-2.0
"""What training never sees: decided by a hash, so that every run agrees."""

from __future__ import annotations

import hashlib

_TEXTS_IN = 25
_WORDS_IN = 60
_SHORTEST_WORD = 6


def is_held_out_text(text: str) -> bool:
    """Whether a whole sentence or a template is kept for tests; one in 25 is."""
    return _bucket(text, _TEXTS_IN) == 0


def is_held_out_word(word: str) -> bool:
    """Whether a word is kept for tests; one in 60 of those with six letters or more is.

    >>> is_held_out_word("the")
    False
    """
    return len(word) >= _SHORTEST_WORD and _bucket(word.lower(), _WORDS_IN) == 0


def _bucket(text: str, num_buckets: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % num_buckets
