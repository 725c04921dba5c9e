# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for servers, clients and the synthesizer, handed to the verbs as `Doors`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from duologue.client.types import AudioChunk, TurnTime
from duologue.runtime.core import FinishReason, PcmChunk, TurnTiming
from duologue.runtime.core import TurnTime as RuntimeTurnTime

RATE_HZ = 1_000
# Beyond what Linux gives out: a process that has ended, so that no wait lasts.
NO_PROCESS = 2**22 + 1


def chunk(index, *, is_last=False, size=500):
    """Half a second of the chunk's index."""
    return AudioChunk(
        samples=np.full(size, index, np.int16),
        sample_rate_hz=RATE_HZ,
        index=index,
        first_sample=index * size,
        turn=index,
        speaker=1 + index % 2,
        turn_timing="exact",
        stream_id="s-1",
        seed=7,
        is_last=is_last,
        finish_reason="stop" if is_last else None,
        turn_times=(TurnTime(1, 0.0, 0.5),) if is_last else (),
    )


def pcm_chunk(index, *, is_last=False, size=500):
    """The same as the synthesizer gives it."""
    return PcmChunk(
        samples=np.full(size, index / 32768, np.float32),
        sample_rate_hz=RATE_HZ,
        index=index,
        first_sample=index * size,
        turn=index,
        speaker=1 + index % 2,
        turn_timing=TurnTiming.EXACT,
        is_last=is_last,
        finish_reason=FinishReason.STOP if is_last else None,
        turn_times=(RuntimeTurnTime(1, 0.0, 0.5),) if is_last else (),
    )


THREE_CHUNKS = (chunk(0), chunk(1), chunk(2, is_last=True))
THREE_PCM_CHUNKS = (pcm_chunk(0), pcm_chunk(1), pcm_chunk(2, is_last=True))


class FakeStream:
    """Plays items back; an exception among them is raised.

    Attributes:
        is_closed: `close` or `cancel` was called.
    """

    stream_id = "s-1"
    seed = 7

    def __init__(self, items):
        self._items = items
        self.is_closed = False

    def __iter__(self):
        for item in self._items:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self):
        self.is_closed = True

    cancel = close


class FakeSpeaker:
    """Client and synthesizer in one: remembers what it was asked."""

    def __init__(self, items):
        self.streams = []
        self.asked = []
        self.is_closed = False
        self._items = items

    def stream(self, script, **options):
        self.asked.append((script, options))
        self.streams.append(FakeStream(self._items))
        return self.streams[-1]

    def submit(self, request):
        return self.stream(request.script, request=request)

    def close(self):
        self.is_closed = True


class FakeServer(contextlib.AbstractContextManager):
    """A server whose `failure` plays a list back: None, a `Failure`, or something to call."""

    grpc_url = "127.0.0.1:4711"
    metrics_url = "http://127.0.0.1:9090/metrics"
    http_url = None

    def __init__(self, failures=(), start_error=None):
        self.is_running = False
        self.starts = 0
        self.options = {}
        self._failures = iter(failures)
        self._start_error = start_error

    @property
    def was_running(self):
        return self.starts > 0

    def describe_as(self, bundle_dir, options):
        self.bundle_dir = bundle_dir
        self.options = options
        return self

    def describe(self):
        return {
            **{"engine": "onnx", "precision": "int8", "slots": 4, "kv_bytes": 3 * 2**20},
            **{"codec_engine": "torch", "codec_device": "cuda"},
        }

    def start(self):
        if self._start_error is not None:
            raise self._start_error
        self.is_running = True
        self.starts += 1

    def stop(self, *, force=False, within_s=None):
        self.is_running = False

    def process_ids(self):
        return [NO_PROCESS]

    def failure(self):
        what = next(self._failures, None)
        return what() if callable(what) else what

    def audio_seconds(self):
        return None

    def speak(self, timeout_s):
        raise AssertionError("nobody has time to ask")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class FakeGateway:
    """An HTTP door that remembers its settings, and what it was told."""

    url = "http://127.0.0.1:9000"
    metrics_url = "http://127.0.0.1:9091/metrics"
    grpc_url = None
    pid = None

    def __init__(self):
        self.is_running = False
        self.starts = 0
        self.exit_status = None
        self.told = []

    @property
    def was_running(self):
        return self.starts > 0

    def describe(self, settings, server, grace_s):
        self.settings = settings
        self.server = server
        return self

    def start(self):
        # It opens before the server, to say that the model is being loaded.
        assert self.starts or not self.server.is_running
        self.is_running = True
        self.exit_status = None
        self.starts += 1

    def stop(self, *, force=False):
        self.is_running = False

    def model_away(self, reason):
        self.told.append(("away", reason))

    def model_back(self):
        self.told.append(("back",))

    def count_restart(self, reason):
        self.told.append(("restart", reason))


def write_bundle(directory: Path, *, trained: bool) -> Path:
    """The description of a bundle without its engines."""
    from duologue.runtime.config import (
        Bundle,
        CodecConfig,
        LimitsConfig,
        LmConfig,
        PromptConfig,
        TokenIds,
        WindowConfig,
        WindowStep,
    )
    from duologue.runtime.core import ChannelSampling

    codec = CodecConfig(
        kind="none",
        input_rate_hz=RATE_HZ,
        sample_rate_hz=RATE_HZ,
        samples_per_frame=100,
        input_samples_per_frame=100,
        num_codebooks=1,
        codebook_size=8,
        max_frames=10,
    )
    bundle = Bundle(
        name="fake",
        lm=LmConfig((16,), (0,), 4, 4, 1, 1, 1, 4),
        tokens=TokenIds(8, 16, 1, 0, 0, (0,)),
        prompt=PromptConfig("", "{system}{text}", ("1", "2")),
        sampling=(ChannelSampling(),),
        codec=codec,
        windows=WindowConfig((WindowStep(5, 2, 0),), 0),
        limits=LimitsConfig(max_rows=100),
        trained=trained,
    )
    (directory / "bundle.json").write_text(bundle.to_json())
    return directory
