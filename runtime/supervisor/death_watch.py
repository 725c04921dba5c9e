# SPDX-License-Identifier: Apache-2.0
"""Waits for the end of processes, ours or not: the kernel tells at once, nobody has to ask."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from types import TracebackType


class DeathWatch:
    """Some processes, and a bell that other threads may ring. A context manager."""

    def __init__(self, process_ids: Iterable[int]) -> None:
        """Watch processes; one that has ended already is noticed by the first wait."""
        self._poll = select.poll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.POLLIN)
        self._handles: list[int] = []
        self._has_missed_one = False
        for process_id in process_ids:
            try:
                handle = os.pidfd_open(process_id)
            except ProcessLookupError:
                self._has_missed_one = True
                continue
            self._handles.append(handle)
            self._poll.register(handle, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Wait until a process ends or the bell rings.

        Returns:
            Whether something did; False when so many seconds have passed.
        """
        if self._has_missed_one:
            return True
        events = self._poll.poll(timeout_s * 1000)
        if any(handle == self._bell for handle, _ in events):
            os.eventfd_read(self._bell)
        return bool(events)

    def ring(self) -> None:
        """End a wait; from any thread."""
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Give the handles back."""
        for handle in (*self._handles, self._bell):
            os.close(handle)

    def __enter__(self) -> DeathWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()
