# SPDX-License-Identifier: Apache-2.0
"""What `dialogue_tts` shows on Triton's metrics port, beside Triton's own numbers.

Labels are bounded: never an id, a voice or a key.
"""

from __future__ import annotations

from typing import Any

from duologue.runtime.serving.triton import PbUtils

TTFA_BUCKETS_S = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0]
CANCEL_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]
_OUTCOMES = "Requests of dialogue_tts by how they ended: stop, length or the type of the error"


class ServingMetrics:
    """The numbers of the streaming model.

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
        # A metric dies with its family, so the families are kept.
        self._families: list[Any] = []
        self._by_outcome: dict[str, Any] = {}
        self._outcomes = self._family("duologue_requests_total", _OUTCOMES, "COUNTER")
        self.active_streams = self._gauge(
            "duologue_active_streams", "Requests between arrival and final response"
        )
        self.running = self._gauge("duologue_running_sequences", "Sequences that have a slot")
        self.waiting = self._gauge("duologue_queue_depth", "Sequences that wait for a slot")
        self.cancellations = self._counter(
            "duologue_cancellations_total", "Callers that cancelled or went away"
        )
        self.audio_seconds = self._counter("duologue_audio_seconds_total", "Audio sent")
        self.first_audio_s = self._histogram(
            "duologue_ttfa_seconds", "From arrival to first audio", TTFA_BUCKETS_S
        )
        self.cancel_to_free_s = self._histogram(
            "duologue_cancel_to_free_seconds", "From noticing a cancel to the end", CANCEL_BUCKETS_S
        )

    def count_outcome(self, outcome: str) -> None:
        """Count one ended request by how it ended."""
        if outcome not in self._by_outcome:
            self._by_outcome[outcome] = self._outcomes.Metric(labels={"outcome": outcome})
        self._by_outcome[outcome].increment(1)

    def _family(self, name: str, description: str, kind: str) -> Any:
        family_class = self._pb_utils.MetricFamily
        family = family_class(name=name, description=description, kind=getattr(family_class, kind))
        self._families.append(family)
        return family

    def _gauge(self, name: str, description: str) -> Any:
        return self._family(name, description, "GAUGE").Metric(labels={})

    def _counter(self, name: str, description: str) -> Any:
        return self._family(name, description, "COUNTER").Metric(labels={})

    def _histogram(self, name: str, description: str, buckets: list[float]) -> Any:
        return self._family(name, description, "HISTOGRAM").Metric(labels={}, buckets=buckets)
