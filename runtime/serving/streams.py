# SPDX-License-Identifier: Apache-2.0
"""The streams that run at present, and the acknowledgements that reach them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from duologue.client import contract
from duologue.runtime.errors import RequestError
from duologue.runtime.serving.tensors import RequestTensors
from duologue.runtime.stream import SpeechStream

# An acknowledgement may cross the end of its stream on the way; so many ended ids are known.
MAX_ENDED_IDS = 1024


class RunningStreams:
    """Streams by the ids that the synthesizer gave them. For use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, SpeechStream] = {}
        self._ended_ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """How many run."""
        with self._lock:
            return len(self._streams)

    @contextmanager
    def running(self, stream: SpeechStream) -> Iterator[None]:
        """Know a stream for as long as the block runs, which ends it however it is left."""
        with self._lock:
            self._streams[stream.stream_id] = stream
        try:
            yield
        finally:
            stream.cancel()
            with self._lock:
                self._streams.pop(stream.stream_id, None)
                self._ended_ids[stream.stream_id] = None
                if len(self._ended_ids) > MAX_ENDED_IDS:
                    self._ended_ids.popitem(last=False)

    def cancel_all(self) -> None:
        """Cancel whatever runs."""
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.cancel()

    def acknowledge(self, tensors: RequestTensors) -> None:
        """Pass an acknowledgement on to its stream; one for a stream just ended is dropped.

        Raises:
            RequestError: id or number are missing or malformed, or no stream has the id.
        """
        stream_id = tensors.text(contract.ACK_STREAM_ID)
        num_samples = tensors.whole(contract.ACK_SAMPLES, 0)
        if stream_id is None or num_samples is None:
            raise RequestError("an acknowledgement needs ACK_STREAM_ID and ACK_SAMPLES")
        with self._lock:
            stream = self._streams.get(stream_id)
            has_ended = stream_id in self._ended_ids
        if stream is not None:
            stream.acknowledge(num_samples)
        elif not has_ended:
            raise RequestError(
                f"ACK_STREAM_ID is {stream_id[:80]!r}; allowed: the STREAM_ID of a running stream"
            )
