# SPDX-License-Identifier: Apache-2.0
"""Finds out whether a server still makes audio: by its numbers while it is busy, else by asking.

A busy server may keep a probe waiting for longer than any patience, and is not to be ended for it.
"""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections.abc import Callable

from duologue.runtime.errors import DuologueError

AUDIO_METRIC = "duologue_audio_seconds_total "
_TIMEOUT_S = 2.0
_MAX_BYTES = 10_000_000


def read_audio_seconds(metrics_url: str | None) -> float | None:
    """Seconds of audio that a server has sent, or None when its metrics do not say."""
    if metrics_url is None:
        return None
    # Without a proxy: it is this machine's own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(metrics_url, timeout=_TIMEOUT_S) as answer:
            text = answer.read(_MAX_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException):  # the second: it ended in mid-answer
        return None
    values = [line for line in text.splitlines() if line.startswith(AUDIO_METRIC)]
    return float(values[0].split()[1]) if values else None


class Pulse:
    """One look at a server after the other, each in a thread of its own."""

    def __init__(self, speak: Callable[[], object], count: Callable[[], float | None]) -> None:
        """Take note of how to ask; nothing is asked yet.

        Args:
            speak: a tiny real request; raises a `DuologueError` when it fails.
            count: seconds of audio sent so far, or None.
        """
        self._speak = speak
        self._count = count
        self._seen = count()
        self._thread: threading.Thread | None = None
        self.trouble: str | None = None
        """What the last look found wrong, or None."""

    def look(self, done: Callable[[], None]) -> None:
        """Begin to look, unless the look before is not over yet.

        Args:
            done: called from the thread when there is trouble.
        """
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._look, args=(done,), name="pulse", daemon=True
            )
            self._thread.start()

    def _look(self, done: Callable[[], None]) -> None:
        if self._has_moved():
            return
        try:
            self._speak()
        except DuologueError as error:
            if not self._has_moved():
                self.trouble = str(error)
                done()

    def _has_moved(self) -> bool:
        """Whether audio was sent since the last time."""
        before, self._seen = self._seen, self._count()
        return None not in (before, self._seen) and before != self._seen
