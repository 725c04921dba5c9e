# SPDX-License-Identifier: Apache-2.0
"""Times in which the model is away: whoever waits for it is told at once, not by a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from duologue.runtime.gateway.faults import AwayError

_T = TypeVar("_T")


class Outage:
    """Begun and ended by who watches the model; all in one event loop.

    Attributes:
        reason: why the model is away, or None while it is there.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._waits: set[asyncio.Future[None]] = set()

    def begin(self, reason: str) -> None:
        """Say that the model is away; everything in `wait_for` ends now."""
        self.reason = reason
        for wait in self._waits:
            if not wait.done():
                wait.set_result(None)

    def end(self) -> None:
        """Say that the model is back."""
        self.reason = None

    def check(self) -> None:
        """Refuse what needs the model while it is away.

        Raises:
            AwayError: it is.
        """
        if self.reason is not None:
            raise AwayError(self.reason)

    async def wait_for(self, awaited: Awaitable[_T], timeout_s: float) -> _T:
        """Wait for something of the model's.

        Raises:
            AwayError: the model is away, or goes away meanwhile.
            asyncio.TimeoutError: it did not come in so many seconds.
        """
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(awaited)
        self._waits.add(gone)
        try:
            if self.reason is None:
                both: set[asyncio.Future[Any]] = {task, gone}
                await asyncio.wait(both, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            self.check()
            raise asyncio.TimeoutError
        finally:
            self._waits.discard(gone)
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
