# SPDX-License-Identifier: Apache-2.0
"""An event loop in a thread of its own, for those who do not live in one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from duologue.client.errors import CancelledError

_T = TypeVar("_T")

_CLEAN_UP_S = 0.1


class LoopThread:
    """Runs coroutines for other threads. Ends when it is closed, dropped, or the process ends."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_live, args=(self._loop,), name=name, daemon=True)
        thread.start()
        self._end = weakref.finalize(self, _end, self._loop, thread)

    @property
    def is_closed(self) -> bool:
        """Nothing can run here any more."""
        return not self._end.alive

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end and give what it gives.

        Raises:
            CancelledError: the thread ends or has ended; whatever else the coroutine raises.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise CancelledError("the client is closed") from None
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise CancelledError("the client was closed") from None
        except BaseException:  # an interrupt of the waiting thread ends the work, too
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs and end the thread. Idempotent."""
        self._end()


def _live(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_cancel_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        # A second cancel would interrupt those that a first one lets clean up.
        _, tasks = await asyncio.wait(tasks, timeout=_CLEAN_UP_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    # What drops the last reference may be the thread itself.
    if thread is not threading.current_thread():
        thread.join()
