# SPDX-License-Identifier: Apache-2.0
"""Bytes by key, on disk, within a limit. Nothing is ever pickled or unpickled.

What is kept is the model's own audio, before speed, pitch and format: one entry serves them all.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from pathlib import Path
from typing import Any, Protocol

import diskcache

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.logs import log_event

_DIGEST_BYTES = 32
# So many of the largest entries fit at the same time.
_MIN_ENTRIES = 16
# Modes of diskcache that hold plain bytes.
_PLAIN_MODES = (diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY)


class ResultsCache(Protocol):
    """Keeps bytes; may forget them at any time. Blocks: call it from a thread."""

    def get(self, key: str) -> bytes | None:
        """What was put there, or None."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes, if there is room."""
        ...

    def close(self) -> None:
        """Let the files go."""
        ...


class DiskResults:
    """A cache in a folder, which several processes may share.

    A cache that fails is a cache that finds nothing: the model speaks again, and the log says so.

    Args:
        folder: made if it is not there.
        max_bytes: of all entries; what was not asked for longest makes room.
        ttl_s: after which an entry is forgotten.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(self, folder: Path, *, max_bytes: int, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        # Each entry that comes in pushes out two old ones from three quarters on; where that is
        # not enough, as many as it takes go at once.
        try:
            self._cache = diskcache.Cache(
                str(folder),
                disk=_PlainDisk,
                size_limit=3 * max_bytes // 4,
                cull_limit=2,
                eviction_policy="least-recently-used",
            )
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"storage.cache_dir {folder} cannot be used: {error}") from error

    def get(self, key: str) -> bytes | None:
        """See `ResultsCache`; an entry whose bytes have changed on the disk is none."""
        try:
            found = self._cache.get(key)
        except (OSError, sqlite3.Error, diskcache.Timeout, TypeError) as error:
            _tell(error)
            return None
        if not isinstance(found, bytes):
            return None
        digest, data = found[:_DIGEST_BYTES], found[_DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else None

    def put(self, key: str, data: bytes) -> None:
        """See `ResultsCache`."""
        if len(data) > self._max_bytes // _MIN_ENTRIES:
            return  # it would push out most of the others
        try:
            self._cache.set(key, hashlib.sha256(data).digest() + data, expire=self._ttl_s)
            if self._cache.volume() > self._max_bytes:
                self._cache.cull()
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            _tell(error)

    def close(self) -> None:
        """See `ResultsCache`."""
        self._cache.close()


class _PlainDisk(diskcache.Disk):  # type: ignore[misc]
    """Strings as keys, bytes as values, and no way to pickles."""

    def put(self, key: Any) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"a key is {type(key).__name__}; allowed: str")
        return super().put(key)

    def get(self, key: Any, raw: Any) -> Any:
        if not raw:
            raise TypeError("a key in the cache is pickled; allowed: str")
        return super().get(key, raw)

    def store(self, value: Any, read: Any, key: Any = diskcache.UNKNOWN) -> Any:
        if not isinstance(value, bytes):
            raise TypeError(f"a value is {type(value).__name__}; allowed: bytes")
        return super().store(value, read, key=key)

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> Any:
        if mode not in _PLAIN_MODES:
            raise TypeError("a value in the cache is pickled; allowed: bytes")
        return super().fetch(mode, filename, value, read)


def _tell(error: Exception) -> None:
    log_event(logging.WARNING, "the cache of results fails", why=f"{type(error).__name__}: {error}")
