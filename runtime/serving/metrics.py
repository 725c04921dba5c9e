# SPDX-License-Identifier: Apache-2.0
"""What `dialogue_tts` shows on Triton's metrics port, beside Triton's own numbers.

Labels are bounded: never an id, a voice or a key.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from duologue.runtime.serving.triton import PbUtils

_log = logging.getLogger(__name__)

TTFA_BUCKETS_S = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0]
CANCEL_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]
LOAD_PERIOD_S = 0.1

_OUTCOMES = "Ended requests by outcome: stop, length or the type of the error"
_ACTIVE = "Requests between arrival and final response"
_CANCELLED = "Callers that cancelled or went away"
_CANCEL_TO_FREE = "From noticing a cancel to the end of the stream"
_PREFIX_HITS = "Prompts whose beginning was taken from the prefix cache"
_PREFIX_MISSES = "Prompts of which the prefix cache held nothing"
_PREFIX_EVICTIONS = "Beginnings of prompts that had to make room for others"
_PREFIX_BYTES = "Memory of the beginnings of prompts that are kept"


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine does at this moment, and what its prefix cache has done.

    Attributes:
        num_running: sequences that have a slot.
        num_waiting: sequences that wait for one.
        prefix_hits, prefix_misses: prompts that were looked up, since the start.
        prefix_evictions: beginnings that had to make room for others, since the start.
        prefix_bytes: memory of those that are kept.
    """

    num_running: int = 0
    num_waiting: int = 0
    prefix_hits: int = 0
    prefix_misses: int = 0
    prefix_evictions: int = 0
    prefix_bytes: int = 0

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self.num_running and not self.num_waiting


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
        cancellations: counter of callers that cancelled or went away.
        audio_seconds: counter of seconds of audio sent.
        first_audio_s: histogram from a request's arrival to its first audio.
        cancel_to_free_s: histogram from noticing a cancel to the end of the stream.
    """

    def __init__(self, pb_utils: PbUtils, load: Callable[[], Load]) -> None:
        """Announce the metrics.

        Args:
            pb_utils: Triton's module.
            load: gives the numbers of the moment.
        """
        self._pb_utils = pb_utils
        self._load = load
        self._shown_load = Load()
        self._writer: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A metric dies with its family, so the families are kept.
        self._families: list[Any] = []
        self._by_outcome: dict[str, Any] = {}
        self._outcomes = self._family("duologue_requests_total", _OUTCOMES, "COUNTER")
        self._gauges = {
            "num_running": self._own("duologue_running_sequences", "Sequences that have a slot"),
            "num_waiting": self._own("duologue_queue_depth", "Sequences that wait for a slot"),
            "prefix_bytes": self._own("duologue_prefix_cache_bytes", _PREFIX_BYTES),
        }
        self._counters = {
            "prefix_hits": self._own("duologue_prefix_cache_hits_total", _PREFIX_HITS, "COUNTER"),
            "prefix_misses": self._own(
                "duologue_prefix_cache_misses_total", _PREFIX_MISSES, "COUNTER"
            ),
            "prefix_evictions": self._own(
                "duologue_prefix_cache_evictions_total", _PREFIX_EVICTIONS, "COUNTER"
            ),
        }
        self.active_streams = self._metric("duologue_active_streams", _ACTIVE, "GAUGE")
        self.cancellations = self._metric("duologue_cancellations_total", _CANCELLED, "COUNTER")
        self.audio_seconds = self._metric("duologue_audio_seconds_total", "Audio sent", "COUNTER")
        self.first_audio_s = self._metric(
            "duologue_ttfa_seconds", "From arrival to first audio", "HISTOGRAM", TTFA_BUCKETS_S
        )
        self.cancel_to_free_s = self._metric(
            "duologue_cancel_to_free_seconds", _CANCEL_TO_FREE, "HISTOGRAM", CANCEL_BUCKETS_S
        )
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def count_outcome(self, outcome: str) -> None:
        """Count one ended request by how it ended."""
        self._writer.put(lambda: self._count_outcome(outcome))

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._writer.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            # Slots are freed a step after the last response: look again until all are.
            patience_s = None if self._shown_load.is_idle else LOAD_PERIOD_S
            try:
                write = self._writer.get(timeout=patience_s)
            except queue.Empty:
                self._show_load()
                continue
            if write is None:
                return
            try:
                write()
                self._show_load()
            except Exception:
                # Without this thread all numbers would stand still, and the queue would grow.
                _log.exception("a metric could not be written")

    def _show_load(self) -> None:
        before, load = self._shown_load, self._load()
        self._shown_load = load
        for name, gauge in self._gauges.items():
            if getattr(load, name) != getattr(before, name):
                gauge.set(getattr(load, name))
        for name, counter in self._counters.items():
            if getattr(load, name) > getattr(before, name):
                counter.increment(getattr(load, name) - getattr(before, name))

    def _count_outcome(self, outcome: str) -> None:
        if outcome not in self._by_outcome:
            self._by_outcome[outcome] = self._outcomes.Metric(labels={"outcome": outcome})
        self._by_outcome[outcome].increment(1)

    def _family(self, name: str, description: str, kind: str) -> Any:
        family_class = self._pb_utils.MetricFamily
        family = family_class(name=name, description=description, kind=getattr(family_class, kind))
        self._families.append(family)
        return family

    def _own(self, name: str, description: str, kind: str = "GAUGE") -> Any:
        """A number that only the writing thread touches."""
        return self._family(name, description, kind).Metric(labels={})

    def _metric(
        self, name: str, description: str, kind: str, buckets: list[float] | None = None
    ) -> Metric:
        family = self._family(name, description, kind)
        if buckets is None:
            return Metric(family.Metric(labels={}), self._writer)
        return Metric(family.Metric(labels={}, buckets=buckets), self._writer)
