# SPDX-License-Identifier: Apache-2.0
"""One thread that notices callers who cancelled or went away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_log = logging.getLogger(__name__)

# Asking costs about 60 us of waiting for the server process, hence not in the engine's loop.
POLL_S = 0.02


@dataclass(slots=True, eq=False)
class Watch:
    """One watched request.

    Attributes:
        is_cancelled: asks whether the caller is gone.
        cancel: called once when it is.
        cancelled_at_s: monotonic time of that call; None before.
    """

    is_cancelled: Callable[[], bool]
    cancel: Callable[[], None]
    cancelled_at_s: float | None = None


class CancellationWatcher:
    """Asks every watched request in turn, every 20 ms; sleeps while there is none."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watches: set[Watch] = set()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="cancellation", daemon=True)
        self._thread.start()

    @contextmanager
    def watching(
        self, is_cancelled: Callable[[], bool], cancel: Callable[[], None]
    ) -> Iterator[Watch]:
        """Watch a request for as long as the block runs."""
        watch = Watch(is_cancelled, cancel)
        with self._condition:
            self._watches.add(watch)
            self._condition.notify()
        try:
            yield watch
        finally:
            with self._condition:
                self._watches.discard(watch)

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._watches and not self._is_closed:
                    self._condition.wait()
                if self._is_closed:
                    return
                watches = [watch for watch in self._watches if watch.cancelled_at_s is None]
            for watch in watches:
                if _is_cancelled(watch):
                    watch.cancelled_at_s = time.monotonic()
                    watch.cancel()
            with self._condition:
                self._condition.wait_for(lambda: self._is_closed, timeout=POLL_S)


def _is_cancelled(watch: Watch) -> bool:
    try:
        return watch.is_cancelled()
    except Exception:
        # Who cannot be asked cannot be answered either; the others are to be asked on.
        _log.exception("a caller could not be asked and counts as gone")
        return True
