# SPDX-License-Identifier: Apache-2.0
"""The streaming model `dialogue_tts`: a mailbox in front of the synthesizer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from duologue.client import contract
from duologue.runtime.errors import CancelledError, CapacityError, ConfigError, DuologueError
from duologue.runtime.serving.closing import closing, join_all
from duologue.runtime.serving.errors import load_failure
from duologue.runtime.serving.metrics import Load, ServingMetrics
from duologue.runtime.serving.request import read_request
from duologue.runtime.serving.sink import ResponseSink
from duologue.runtime.serving.streams import RunningStreams
from duologue.runtime.serving.tensors import RequestTensors, chunk_tensors
from duologue.runtime.serving.triton import ModelSettings, PbUtils, Request
from duologue.runtime.serving.triton_codec import TritonCodec
from duologue.runtime.serving.watcher import CancellationWatcher
from duologue.runtime.stream import SpeechStream
from duologue.runtime.synthesizer import Synthesizer

# Each request has a thread until it is answered; beyond this many it is refused at once.
MAX_REQUESTS = 512


def load_dialogue_model(args: Mapping[str, str], pb_utils: PbUtils) -> DialogueModel:
    """Load the bundle that the model's config names.

    Args:
        args: as Triton hands them to `initialize`.
        pb_utils: Triton's module.

    Raises:
        pb_utils.TritonModelException: the bundle cannot be served; the type and text of our
            error are in the message.
    """
    try:
        settings = ModelSettings.from_args(args)
        if not settings.is_decoupled:
            raise ConfigError(
                f"{contract.STREAMING_MODEL} is not decoupled; its config.pbtxt needs "
                "model_transaction_policy { decoupled: true }"
            )
        synthesizer = Synthesizer.load(
            settings.bundle,
            engine=settings.engine,
            max_slots=settings.max_slots,
            codec=TritonCodec.of_settings(settings, pb_utils),
        )
    except DuologueError as error:
        raise load_failure(error, pb_utils) from error
    pb_utils.Logger.log_info(announcement(synthesizer))
    return DialogueModel(synthesizer, pb_utils)


def announcement(synthesizer: Synthesizer) -> str:
    """One line for the log that says what is served; the supervisor reads it there."""
    spec = synthesizer.backbone_spec
    return (
        f"{contract.ANNOUNCEMENT} engine={spec.engine} precision={spec.dtype} "
        f"slots={spec.max_slots} kv_bytes={spec.kv_bytes}"
    )


class DialogueModel:
    """Answers each request from a thread of its own; all speak through one synthesizer."""

    def __init__(
        self, synthesizer: Synthesizer, pb_utils: PbUtils, name: str = contract.STREAMING_MODEL
    ) -> None:
        """Open the mailbox.

        Args:
            synthesizer: makes the audio; closed by `finalize`.
            pb_utils: Triton's module.
            name: under which Triton serves it, for the log.
        """
        self._name = name
        self._synthesizer = synthesizer
        self._pb_utils = pb_utils
        self._streams = RunningStreams()
        self._watcher = CancellationWatcher()
        self._metrics = ServingMetrics(pb_utils, self._load)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._is_closing = False

    def execute(self, requests: Sequence[Request]) -> None:
        """Take requests in; the answers go out through their response senders."""
        for request in requests:
            sink = ResponseSink(request.get_response_sender(), self._pb_utils)
            try:
                tensors = RequestTensors(request)
                if contract.SCRIPT not in tensors and contract.ACK_STREAM_ID in tensors:
                    self._streams.acknowledge(tensors)
                    sink.finish()
                else:
                    self._begin(tensors, sink)
            except Exception as error:  # the door: nothing may leave here
                self._metrics.count_outcome(_outcome(error))
                sink.fail(error)

    def finalize(self) -> None:
        """Cancel what runs, wait for the last responses, and let the engine go."""
        with self._lock:
            self._is_closing = True
            threads = list(self._threads)
        state = f"{len(threads)} request threads and {len(self._streams)} streams are open"
        with closing(self._name, state, self._pb_utils):
            self._streams.cancel_all()
            join_all(threads)
            self._watcher.close()
            self._metrics.close()
            self._synthesizer.close()

    def _begin(self, tensors: RequestTensors, sink: ResponseSink) -> None:
        with self._lock:
            if self._is_closing:
                raise CapacityError("the server is shutting down")
            if len(self._threads) >= MAX_REQUESTS:
                raise CapacityError(f"{len(self._threads)} requests are open already; try later")
            thread = threading.Thread(
                target=self._serve,
                args=(tensors, sink, time.monotonic()),
                name="stream",
                daemon=True,
            )
            self._threads.add(thread)
        self._metrics.active_streams.increment(1)
        try:
            thread.start()
        except BaseException:
            # The machine has no thread left: nobody else would take it off the list.
            self._metrics.active_streams.increment(-1)
            with self._lock:
                self._threads.discard(thread)
            raise

    def _serve(self, tensors: RequestTensors, sink: ResponseSink, arrived_at_s: float) -> None:
        outcome = "EngineError"
        try:
            outcome = self._answer(tensors, sink, arrived_at_s)
            sink.finish()
        except Exception as error:  # the door: whatever it is, the caller hears of it
            outcome = _outcome(error)
            if isinstance(error, CancelledError) and self._is_closing:
                error = CapacityError("the server is shutting down")
            sink.fail(error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
            self._metrics.active_streams.increment(-1)
            self._metrics.count_outcome(outcome)

    def _answer(self, tensors: RequestTensors, sink: ResponseSink, arrived_at_s: float) -> str:
        """Submit one request and send its chunks; gives the reason why it finished."""
        request = read_request(tensors, self._synthesizer.bundle)
        stream = self._synthesizer.submit(request)
        with self._streams.running(stream), self._watch(stream, sink):
            if self._is_closing:
                stream.cancel()
            return self._send_chunks(stream, sink, arrived_at_s)

    @contextmanager
    def _watch(self, stream: SpeechStream, sink: ResponseSink) -> Iterator[None]:
        """Cancel the stream when its caller goes away, and count that."""
        with self._watcher.watching(sink.is_cancelled, stream.cancel) as watch:
            try:
                yield
            finally:
                if watch.cancelled_at_s is not None:
                    self._metrics.cancellations.increment(1)
                    waited_s = time.monotonic() - watch.cancelled_at_s
                    self._metrics.cancel_to_free_s.observe(waited_s)

    def _send_chunks(self, stream: SpeechStream, sink: ResponseSink, arrived_at_s: float) -> str:
        reason = ""
        for chunk in stream:
            sink.send(chunk_tensors(self._pb_utils, chunk, stream.stream_id, stream.seed))
            if chunk.index == 0:
                self._metrics.first_audio_s.observe(time.monotonic() - arrived_at_s)
            self._metrics.audio_seconds.increment(len(chunk.samples) / chunk.sample_rate_hz)
            if chunk.finish_reason is not None:
                reason = chunk.finish_reason.value
        return reason

    def _load(self) -> Load:
        stats = self._synthesizer.stats
        prefixes = stats.prefixes
        return Load(
            stats.num_running,
            stats.num_waiting,
            prefix_hits=prefixes.hits,
            prefix_misses=prefixes.misses,
            prefix_evictions=prefixes.evictions,
            prefix_bytes=prefixes.num_bytes,
        )


def _outcome(error: Exception) -> str:
    return type(error).__name__ if isinstance(error, DuologueError) else "EngineError"
