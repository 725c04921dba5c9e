# SPDX-License-Identifier: Apache-2.0
"""Threads for what waits for a disk.

The event loop serves all streams, and its own few threads encode them. A disk that hangs may hold
neither; here it holds threads that nothing else needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from duologue.client.patience import within
from duologue.runtime.gateway.faults import StorageError

# Longer than a database waits for another process's lock.
TIMEOUT_S = 20.0
NUM_THREADS = 4

_T = TypeVar("_T")


class DiskThreads:
    """Does work elsewhere, and does not wait for it without end.

    Args:
        name: of the threads.
        num_threads: that may wait for the disk at the same time; further work waits for them.
    """

    def __init__(self, name: str, num_threads: int = NUM_THREADS) -> None:
        self._pool = ThreadPoolExecutor(num_threads, name)

    async def run(self, work: Callable[[], _T], timeout_s: float | None = None) -> _T:
        """The result of work that may take its time.

        Work that has begun goes on, even when nobody waits for it any more.

        Args:
            work: to be done in a thread.
            timeout_s: the longest wait; None takes the usual one.

        Raises:
            StorageError: it was not done in time.
        """
        patience_s = TIMEOUT_S if timeout_s is None else timeout_s
        try:
            return await within(
                asyncio.get_running_loop().run_in_executor(self._pool, work), patience_s
            )
        except asyncio.TimeoutError:
            raise StorageError(f"the disk did not answer in {patience_s:g} s") from None

    def close(self) -> None:
        """Begin nothing new; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
