# SPDX-License-Identifier: Apache-2.0
"""What the gateway shows to Prometheus; Triton's own numbers stand beside it on the same page.

The first six names are those of the MegaTTS3 platform. Labels are bounded: never an id, a voice
or a key.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from duologue.runtime.gateway.machine import gpu_utilization, memory_used_bytes

WINDOW_S = 60.0
_MAX_REMEMBERED = 100_000
_LATENCY_S = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
_TTFA_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
_GAP_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_RTF = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)


class Metrics:
    """The numbers of one gateway, in a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Announce the metrics; the clock is one that never jumps."""
        self._clock = clock
        # The page is made in a thread, while requests end in the event loop.
        self._lock = threading.Lock()
        self._ended: deque[tuple[float, bool]] = deque(maxlen=_MAX_REMEMBERED)
        self.registry = CollectorRegistry()
        self._latency = self._histogram("synthesis_latency_seconds", "Request to end", _LATENCY_S)
        self.show("throughput", "Requests per second that ended in the last minute", self._rate)
        self.show("gpu_utilization", "Busy share of the GPUs; no number without", gpu_utilization)
        self.show("memory_usage_bytes", "Memory of this process", memory_used_bytes)
        self.show("cache_hit_ratio", "Hits among look-ups; no number before the first", self._hits)
        self.show("error_rate", "Share of the last minute that we failed", self._failures)

        self._requests = Counter(
            "duologue_http_requests",
            "Requests for audio by door and outcome: ok, cancelled, or the code of the error",
            ("door", "outcome"),
            registry=self.registry,
        )
        self.active = Gauge(
            "duologue_http_active_streams", "Dialogues that are spoken", registry=self.registry
        )
        self._ttfa = self._histogram("http_ttfa_seconds", "Request to first audio", _TTFA_S)
        self._gap = self._histogram("http_inter_chunk_seconds", "Wait for a later chunk", _GAP_S)
        self._rtf = self._histogram("http_rtf", "Seconds waited per second of audio", _RTF)
        self._underrun = self._counter("http_underrun_seconds", "Waits longer than playback had")
        self._cancels = self._counter("http_cancels", "Callers that left before the end")
        self._audio = self._counter("http_audio_seconds", "Audio that the model made")
        self._refused = self._labelled("http_rejected", "Refused at the door by code", "reason")
        self._watchdog = self._labelled("http_watchdog", "Streams ended for lateness", "reason")
        self._cache = self._labelled("cache_requests", "Look-ups in the cache", "outcome")
        self._restarts = self._labelled("server_restarts", "Starts after a failure", "reason")
        self._num_hits = 0
        self._num_lookups = 0

    def chunk(self, waited_s: float, audio_s: float, underrun_s: float, *, is_first: bool) -> None:
        """Count a chunk that came from the model."""
        (self._ttfa if is_first else self._gap).observe(waited_s)
        self._audio.inc(audio_s)
        self._underrun.inc(underrun_s)

    def ended(
        self, door: str, outcome: str, took_s: float, rtf: float | None, *, is_our_fault: bool
    ) -> None:
        """Count a request that is over, however it ended."""
        self._requests.labels(door, outcome).inc()
        with self._lock:
            self._ended.append((self._clock(), is_our_fault))
            # Here, too: perhaps nobody ever reads the page.
            self._forget()
        if outcome == "cancelled":
            self._cancels.inc()
        if outcome == "ok":
            self._latency.observe(took_s)
            if rtf is not None:
                self._rtf.observe(rtf)

    def refused(self, reason: str) -> None:
        """Count a request that was not let in, by the code of its error."""
        self._refused.labels(reason).inc()

    def too_late(self, reason: str) -> None:
        """Count a stream that the watchdog ended: "no_audio", "deadline" or "reader"."""
        self._watchdog.labels(reason).inc()

    def looked_up(self, *, is_hit: bool) -> None:
        """Count a question to the cache of results."""
        self._cache.labels("hit" if is_hit else "miss").inc()
        self._num_lookups += 1
        self._num_hits += is_hit

    def restarted(self, reason: str, count: int = 1) -> None:
        """Count starts of the speech server, or of the gateway, after failures of one kind."""
        self._restarts.labels(reason).inc(count)

    def show(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a number that is asked for whenever the page is read.

        Args:
            name: without the prefix "duologue_".
            text: what it is.
            value: gives it; from any thread, and never slow.
        """
        Gauge(f"duologue_{name}", text, registry=self.registry).set_function(value)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _rate(self) -> float:
        return len(self._recent()) / WINDOW_S

    def _failures(self) -> float:
        recent = self._recent()
        return sum(recent) / len(recent) if recent else 0.0

    def _recent(self) -> list[bool]:
        with self._lock:
            self._forget()
            return [failed for _, failed in self._ended]

    def _forget(self) -> None:
        since = self._clock() - WINDOW_S
        while self._ended and self._ended[0][0] < since:
            self._ended.popleft()

    def _hits(self) -> float:
        return self._num_hits / self._num_lookups if self._num_lookups else float("nan")

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"duologue_{name}", text, registry=self.registry)

    def _labelled(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"duologue_{name}", text, (label,), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"duologue_{name}", text, buckets=buckets, registry=self.registry)
