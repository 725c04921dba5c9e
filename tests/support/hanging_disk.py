"""A disk that hangs, for tests: whoever reads from it waits until it is mended."""

from __future__ import annotations

import threading


class HangingDisk:
    """Reads that wait until they are let go.

    Attributes:
        is_broken: reads wait from now on.
        num_waiting: reads that have come upon the broken disk so far.
        has_given_up: nobody let one of them go: whoever should have done that had to wait, too.
    """

    def __init__(self) -> None:
        self.is_broken = False
        self.has_given_up = False
        self.num_waiting = 0
        self._gate = threading.Event()

    def wait(self) -> None:
        """What a read calls before it reads."""
        if self.is_broken:
            self.num_waiting += 1
            self.has_given_up = not self._gate.wait(10) or self.has_given_up

    def mend(self) -> None:
        """Let all go that wait, and all that come."""
        self.is_broken = False
        self._gate.set()
