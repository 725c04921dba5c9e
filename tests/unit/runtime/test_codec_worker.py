"""In which order windows are decoded, and with whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import cast

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.runtime.codec_worker import CodecWorker
from duologue.runtime.core import CodeWindow, FloatArray, IntArray, Script, Turn
from duologue.runtime.errors import EngineError
from duologue.runtime.job import Job
from duologue.runtime.stream import SpeechStream


class GatedCodec(fakes.FakeCodec):
    """Waits in front of the first batch, and notes the first code of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def decode(self, codes: IntArray) -> FloatArray:
        self.entered.set()
        self.gate.wait()
        self.batches.append(codes[:, 0, 0].tolist())
        return fakes.spell_out(codes)


class PickyCodec(GatedCodec):
    """Cannot decode windows of one number."""

    def decode(self, codes: IntArray) -> FloatArray:
        samples = super().decode(codes)
        if 7 in codes:
            raise RuntimeError("a window that it cannot decode")
        return samples


class FakeJob:
    """A stream whose listener still has so many seconds of audio."""

    def __init__(self, ahead_s: float) -> None:
        self.stream = SpeechStream(
            script=Script((Turn(1, "a"),)),
            seed=0,
            sample_rate_hz=100,
            max_ahead_s=None,
            max_backlog_samples=10**9,
        )
        self.stream.ahead_s = lambda now_s, planned=False: ahead_s  # type: ignore[method-assign]
        self.delivered = threading.Semaphore(0)

    def deliver(self, window: CodeWindow, samples: FloatArray) -> None:
        self.delivered.release()


def _window(number: int, length: int) -> CodeWindow:
    codes = np.full((fakes.NUM_CHANNELS, length), number)
    return CodeWindow(codes, 0, 0, left=0, hop=length, right=0, is_last=False)


def _decode_all(streams: Sequence[tuple[float, list[int]]], max_batch: int) -> list[list[int]]:
    """Numbers of the streams, batch by batch, once all their windows have been queued."""
    codec = GatedCodec()
    worker = CodecWorker(codec, max_batch)
    jobs = [FakeJob(ahead_s) for ahead_s, _ in streams]
    blocker = FakeJob(0.0)
    worker.put(cast(Job, blocker), [_window(99, 1)])
    codec.entered.wait()
    for number, (job, (_, lengths)) in enumerate(zip(jobs, streams, strict=True)):
        worker.put(cast(Job, job), [_window(number, length) for length in lengths])
    codec.gate.set()
    for job, (_, lengths) in zip(jobs, streams, strict=True):
        for _ in lengths:
            assert job.delivered.acquire(timeout=60)
    worker.close()
    return codec.batches[1:]


def test_the_listener_who_runs_dry_first_comes_first() -> None:
    streams = [(3.0, [5]), (0.1, [6]), (-0.4, [7]), (1.0, [8])]
    assert _decode_all(streams, max_batch=4) == [[2], [1], [3], [0]]


def test_equally_long_windows_share_a_batch_the_most_urgent_first() -> None:
    streams = [(3.0, [5]), (0.1, [6]), (-0.4, [5]), (1.0, [5])]
    assert _decode_all(streams, max_batch=2) == [[2, 3], [1], [0]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.lists(st.integers(4, 6), min_size=1, max_size=3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 4),
)
def test_every_window_is_decoded_once_and_each_batch_begins_with_the_most_urgent(
    streams: list[tuple[float, list[int]]], max_batch: int
) -> None:
    left: dict[int, list[int]] = {n: list(lengths) for n, (_, lengths) in enumerate(streams)}
    for batch in _decode_all(streams, max_batch):
        waiting = [number for number, lengths in left.items() if lengths]
        assert streams[batch[0]][0] == min(streams[number][0] for number in waiting)
        assert 0 < len(batch) <= max_batch
        assert len({left[number].pop(0) for number in batch}) == 1
    assert not any(left.values())


def test_what_a_listener_still_has_is_what_came_less_what_was_played() -> None:
    stream = SpeechStream(
        script=Script((Turn(1, "a"),)),
        seed=0,
        sample_rate_hz=100,
        max_ahead_s=None,
        max_backlog_samples=10**9,
    )
    begun_s = time.monotonic()
    assert stream.ahead_s(begun_s + 2.0) <= -2.0 + 0.5, "who waits is more urgent by the second"
    stream.plan(300)
    assert stream.ahead_s(begun_s, planned=True) - stream.ahead_s(begun_s) == 3.0


def test_a_window_that_cannot_be_decoded_ends_its_own_stream_alone() -> None:
    codec = PickyCodec()
    worker = CodecWorker(codec, max_batch=8)
    jobs = {number: FakeJob(0.0) for number in (99, 6, 7, 8)}
    worker.put(cast(Job, jobs[99]), [_window(99, 1)])
    codec.entered.wait()
    for number in (6, 7, 8):
        worker.put(cast(Job, jobs[number]), [_window(number, 5)])
    codec.gate.set()
    with pytest.raises(EngineError, match="the codec failed"):
        list(jobs[7].stream)
    worker.close()
    assert codec.batches == [[99], [6, 7, 8], [6], [7], [8]]
    assert jobs[6].delivered.acquire(timeout=0)
    assert jobs[8].delivered.acquire(timeout=0)
    assert not jobs[6].stream.is_ended
