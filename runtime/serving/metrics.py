# SPDX-License-Identifier: Apache-2.0
"""What `dialogue_tts` shows on Triton's metrics port, beside Triton's own numbers.

Labels are bounded: never an id, a voice or a key.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from duologue.runtime.serving.triton import PbUtils

TTFA_BUCKETS_S = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0]
CANCEL_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]


class Metric:
    """A number of Triton's that is written by the thread of its `ServingMetrics`."""

    def __init__(self, metric: Any, writer: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        self._metric = metric
        self._writer = writer

    def increment(self, by: float) -> None:
        """Add to a counter or a gauge."""
        self._writer.put(lambda: self._metric.increment(by))

    def set(self, value: float) -> None:
        """Set a gauge."""
        self._writer.put(lambda: self._metric.set(value))

    def observe(self, value: float) -> None:
        """Add a value to a histogram."""
        self._writer.put(lambda: self._metric.observe(value))


class ServingMetrics:
    """The numbers of the streaming model. For use from any thread.

    One thread of its own does all writing: each write waits for the server process, and Triton
    2.51 dies by segmentation fault when several threads write at a time.

    Attributes:
        active_streams: gauge of requests between their arrival and their final response.
        running: gauge of sequences that have a slot.
        waiting: gauge of sequences that wait for a slot.
        cancellations: counter of callers that cancelled or went away.
        audio_seconds: counter of seconds of audio sent.
        first_audio_s: histogram from a request's arrival to its first audio.
        cancel_to_free_s: histogram from noticing a cancel to the end of the stream.
    """

    def __init__(self, pb_utils: PbUtils) -> None:
        self._pb_utils = pb_utils
        self._writer: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A metric dies with its family, so the families are kept.
        self._families: list[Any] = []
        self._by_outcome: dict[str, Any] = {}
        self._outcomes = self._family(
            "duologue_requests_total",
            "Ended requests by outcome: stop, length or the type of the error",
            "COUNTER",
        )
        self.active_streams = self._metric(
            "duologue_active_streams", "Requests between arrival and final response", "GAUGE"
        )
        self.running = self._metric(
            "duologue_running_sequences", "Sequences that have a slot", "GAUGE"
        )
        self.waiting = self._metric("duologue_queue_depth", "Sequences without a slot", "GAUGE")
        self.cancellations = self._metric(
            "duologue_cancellations_total", "Callers that cancelled or went away", "COUNTER"
        )
        self.audio_seconds = self._metric("duologue_audio_seconds_total", "Audio sent", "COUNTER")
        self.first_audio_s = self._metric(
            "duologue_ttfa_seconds", "From arrival to first audio", "HISTOGRAM", TTFA_BUCKETS_S
        )
        self.cancel_to_free_s = self._metric(
            "duologue_cancel_to_free_seconds",
            "From noticing a cancel to the end of the stream",
            "HISTOGRAM",
            CANCEL_BUCKETS_S,
        )
        self._thread = threading.Thread(target=self._write, name="metrics", daemon=True)
        self._thread.start()

    def count_outcome(self, outcome: str) -> None:
        """Count one ended request by how it ended."""
        self._writer.put(lambda: self._count_outcome(outcome))

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._writer.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (write := self._writer.get()) is not None:
            write()

    def _count_outcome(self, outcome: str) -> None:
        if outcome not in self._by_outcome:
            self._by_outcome[outcome] = self._outcomes.Metric(labels={"outcome": outcome})
        self._by_outcome[outcome].increment(1)

    def _family(self, name: str, description: str, kind: str) -> Any:
        family_class = self._pb_utils.MetricFamily
        family = family_class(name=name, description=description, kind=getattr(family_class, kind))
        self._families.append(family)
        return family

    def _metric(
        self, name: str, description: str, kind: str, buckets: list[float] | None = None
    ) -> Metric:
        family = self._family(name, description, kind)
        if buckets is None:
            return Metric(family.Metric(labels={}), self._writer)
        return Metric(family.Metric(labels={}, buckets=buckets), self._writer)
