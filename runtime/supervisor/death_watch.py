# SPDX-License-Identifier: Apache-2.0
"""Waits for the end of processes, ours or not: the kernel tells at once, nobody has to ask.

Kernels before 5.3 cannot, and containers of older Docker may not: there we look twice a second.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from types import TracebackType

from duologue.runtime.supervisor.stubs import is_running

LOOK_EVERY_S = 0.5


class DeathWatch:
    """Some processes, and a bell that other threads may ring. A context manager."""

    def __init__(self, process_ids: Iterable[int]) -> None:
        """Watch processes; one that has ended already is noticed by the first wait."""
        self._poll = select.poll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.POLLIN)
        self._handles: list[int] = []
        self._looked_after: list[int] = []
        self._has_missed_one = False
        for process_id in process_ids:
            try:
                handle = os.pidfd_open(process_id)
            except ProcessLookupError:
                self._has_missed_one = True
                continue
            except OSError:  # the kernel has no such call, or it is forbidden
                self._looked_after.append(process_id)
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
        wait = self._look if self._looked_after else self._poll_for
        events = wait(timeout_s)
        if any(handle == self._bell for handle, _ in events):
            os.eventfd_read(self._bell)
        return bool(events)

    def _poll_for(self, timeout_s: float) -> list[tuple[int, int]]:
        return self._poll.poll(max(0.0, timeout_s) * 1000)

    def _look(self, timeout_s: float) -> list[tuple[int, int]]:
        """What `poll` gives, and also whenever a process that is looked after has ended."""
        give_up_at_s = time.monotonic() + timeout_s
        while True:
            left_s = give_up_at_s - time.monotonic()
            events = self._poll_for(min(LOOK_EVERY_S, left_s))
            gone = [pid for pid in self._looked_after if not is_running(pid)]
            if events or gone or left_s <= 0:
                return [*events, *((-1, select.POLLIN) for _ in gone)]

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
