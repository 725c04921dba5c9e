# SPDX-License-Identifier: Apache-2.0
"""The keys that open the door, as their file has them at the time of each visit."""

from __future__ import annotations

from duologue.client.errors import AccessError
from duologue.runtime import errors
from duologue.runtime.gateway.disk_threads import DiskThreads
from duologue.runtime.gateway.faults import KeyFileError, StorageError
from duologue.runtime.keys import Key, KeyRing


class WatchedKeys:
    """Looks at the key file for every visitor, where a slow disk stops no stream.

    Args:
        ring: the keys, and where their file is.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        # One after the other: a look that is begun later never brings older keys.
        self._disk = DiskThreads("keys", num_threads=1)

    @property
    def is_empty(self) -> bool:
        """No key is asked for."""
        return self._ring.is_empty

    async def find(self, header: str | None) -> Key | None:
        """Who is calling; None when no key is asked for.

        Args:
            header: "Bearer KEY", or the key alone.

        Raises:
            AccessError: no key, or one that is unknown.
            KeyFileError: the disk does not tell in time whether the key still counts.
        """
        if self._ring.has_file:
            try:
                await self._disk.run(self._ring.refresh)
            except StorageError as error:
                raise KeyFileError(str(error)) from None
        try:
            return self._ring.find(header)
        except errors.AccessError as error:
            raise AccessError(str(error)) from None

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._disk.close()
