# SPDX-License-Identifier: Apache-2.0
"""Waiting with a limit, in a way that never loses a cancellation.

Up to Python 3.11, `asyncio.wait_for` returns the result when that comes in the same turn of the
event loop as the cancellation, and nobody hears of the latter: a stream went on for a caller who
had left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def within(awaited: Awaitable[_T], timeout_s: float) -> _T:
    """Wait for something; what it is waited for no longer is cancelled.

    Raises:
        asyncio.TimeoutError: it did not come in so many seconds.
        asyncio.CancelledError: the task that waits was cancelled.
    """
    task = asyncio.ensure_future(awaited)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if task.done():
            return task.result()
        raise asyncio.TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
