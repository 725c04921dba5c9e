# SPDX-License-Identifier: Apache-2.0
"""One running request as its caller sees it: chunks come out, a cancel goes in."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator

from duologue.runtime.core import IntArray, PcmChunk, Script
from duologue.runtime.errors import (
    CancelledError,
    DeadlineError,
    DuologueError,
    RequestError,
)


class SpeechStream:
    """Iterate to get `PcmChunk`s; ends after the last one, or raises a `DuologueError`.

    One thread consumes; `cancel` and `acknowledge` may be called from any thread.

    Attributes:
        stream_id: made here, so that no caller can guess or collide with it.
        script: what is spoken, after normalisation.
        seed: the seed in use.
        sample_rate_hz: of the chunks.
        deadline_at_s: moment on the monotonic clock at which the stream fails, or None.
    """

    def __init__(
        self,
        *,
        script: Script,
        seed: int,
        sample_rate_hz: int,
        max_ahead_s: float | None,
        max_backlog_samples: int,
        deadline_at_s: float | None = None,
    ) -> None:
        self.stream_id = secrets.token_urlsafe(12)
        self.script = script
        self.seed = seed
        self.sample_rate_hz = sample_rate_hz
        self._max_ahead_samples = None if max_ahead_s is None else int(max_ahead_s * sample_rate_hz)
        self._max_backlog_samples = max_backlog_samples
        self.deadline_at_s = deadline_at_s
        self._outlet: queue.SimpleQueue[PcmChunk | DuologueError] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ended = False
        self._exhausted = False
        self._codes: IntArray | None = None
        self._planned_samples = 0
        self._delivered_samples = 0
        self._acknowledged_samples = 0
        self._taken_samples = 0
        self._since_s = time.monotonic()
        self.ring: Callable[[], None] = lambda: None
        """Wakes the engine; set by it when it takes the request on."""

    # What the caller does.

    def __iter__(self) -> Iterator[PcmChunk]:
        return self

    def __next__(self) -> PcmChunk:
        if self._exhausted:
            raise StopIteration
        item = self._outlet.get()
        if isinstance(item, DuologueError):
            self._exhausted = True
            raise item
        self._exhausted = item.is_last
        self._taken_samples += len(item.samples)
        self.ring()
        return item

    def cancel(self) -> None:
        """End the stream with `CancelledError`; its slot is freed within one step."""
        self.fail(CancelledError("the request was cancelled"))

    def acknowledge(self, num_samples: int) -> None:
        """Say how many samples the caller has taken so far, for `max_ahead_s`."""
        with self._lock:
            self._acknowledged_samples = max(self._acknowledged_samples, num_samples)
        self.ring()

    @property
    def codes(self) -> IntArray:
        """All codes [K, T] of the speech, once its last chunk has been taken."""
        if self._codes is None:
            raise RequestError("codes are asked for while the speech is still being made")
        return self._codes

    # What the producer does.

    @property
    def is_ended(self) -> bool:
        """The last chunk or an error is out; nothing more is accepted."""
        return self._ended

    @property
    def is_full(self) -> bool:
        """The producer must wait: the caller is too far behind.

        What counts is audio whose decoding is settled. So no more than one window exceeds the
        limit, and what is settled will reach the caller and let the producer go on.
        """
        with self._lock:
            if self._max_ahead_samples is None:
                return self._planned_samples - self._taken_samples >= self._max_backlog_samples
            return self._planned_samples - self._acknowledged_samples >= self._max_ahead_samples

    def ahead_s(self, now_s: float, *, planned: bool = False) -> float:
        """Seconds of audio that a listener still has who plays from the first chunk on.

        Before the first chunk is out: minus the seconds that the listener waits for it.

        Args:
            now_s: on the monotonic clock.
            planned: count audio too whose windows are on their way to the codec.
        """
        with self._lock:
            num_samples = self._planned_samples if planned else self._delivered_samples
            return num_samples / self.sample_rate_hz - (now_s - self._since_s)

    @property
    def delivered_samples(self) -> int:
        """Samples handed out so far."""
        return self._delivered_samples

    def check(self) -> bool:
        """End the stream if its deadline passed; whether it is still wanted."""
        if self.deadline_at_s is not None and time.monotonic() >= self.deadline_at_s:
            self.fail(DeadlineError("the request's deadline passed before its audio was complete"))
        return not self._ended

    def plan(self, num_samples: int) -> None:
        """Note that so many more samples will be handed out."""
        with self._lock:
            self._planned_samples += num_samples

    def put(self, chunk: PcmChunk, codes: IntArray) -> None:
        """Hand out a chunk, and all codes so far; ignored once the stream has ended."""
        with self._lock:
            if self._ended:
                return
            if self._delivered_samples == 0:
                self._since_s = time.monotonic()
            self._ended = chunk.is_last
            self._codes = codes if chunk.is_last else None
            self._delivered_samples += len(chunk.samples)
            self._planned_samples = max(self._planned_samples, self._delivered_samples)
            self._outlet.put(chunk)

    def fail(self, error: DuologueError) -> None:
        """End the stream with an error; ignored once it has ended."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._outlet.put(error)
        self.ring()
