"""A window that is large on the wire goes out in several chunks, which join to the very same."""

from __future__ import annotations

import dataclasses

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.runtime import job as job_module
from duologue.runtime.core import CodeWindow, PcmChunk, Script, Turn
from duologue.runtime.job import MAX_CHUNK_SAMPLES, Job
from duologue.runtime.passes import OnePass
from duologue.runtime.stream import SpeechStream

SCRIPT = Script((Turn(1, "one two three"), Turn(2, "four five six")))
WIDTH = fakes.BUNDLE.codec.samples_per_frame
MAX_MESSAGE_BYTES = 64 * 2**10
# For the other tensors of a message, which have a few hundred bytes.
ROOM_BYTES = 2**10


def job_of(num_frames: int, width: int = WIDTH) -> Job:
    stream = SpeechStream(
        script=SCRIPT, seed=0, sample_rate_hz=100, max_ahead_s=None, max_backlog_samples=10**9
    )
    passes = OnePass(SCRIPT, lambda order: None, num_frames, expected_frames=num_frames)
    codec = dataclasses.replace(fakes.BUNDLE.codec, samples_per_frame=width)
    return Job(dataclasses.replace(fakes.BUNDLE, codec=codec), passes, stream)


def window(index: int, first_frame: int, hop: int, *, is_last: bool = False) -> CodeWindow:
    codes = np.zeros((fakes.NUM_CHANNELS, hop), np.int64)
    return CodeWindow(codes, index, first_frame, 0, hop, 0, is_last)


def chunks_of(job: Job, hops: list[int], width: int = WIDTH) -> tuple[list[PcmChunk], np.ndarray]:
    """What goes out for windows of so many frames, and what it is to sound like."""
    samples = np.arange(sum(hops) * width, dtype=np.float32) / 1e6
    first = 0
    for index, hop in enumerate(hops):
        decoded = samples[first * width : (first + hop) * width]
        job.deliver(window(index, first, hop, is_last=index == len(hops) - 1), decoded)
        first += hop
    return list(job.stream), samples


def test_no_chunk_of_the_default_windows_is_larger_than_a_message_may_be() -> None:
    # Windows of 2 s at 24 kHz, 1920 samples per frame.
    chunks, samples = chunks_of(job_of(75, 1920), [4, 6, 10, 16, 25, 27], 1920)
    sizes = [2 * len(chunk.samples) for chunk in chunks]
    assert max(sizes) + ROOM_BYTES <= MAX_MESSAGE_BYTES
    # The listener waits for the first ones, which stay whole.
    assert sizes == [2 * 1920 * hop for hop in (4, 6, 10, 16, 13, 12, 14, 13)]
    np.testing.assert_array_equal(np.concatenate([c.samples for c in chunks]), samples)


@given(
    hops=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    limit=st.integers(1, 20 * WIDTH),
)
def test_chunks_join_to_the_windows_and_are_numbered_on(hops: list[int], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "MAX_CHUNK_SAMPLES", limit)
        job = job_of(sum(hops))
        chunks, samples = chunks_of(job, hops)

    assert all(len(chunk.samples) <= max(limit, WIDTH) for chunk in chunks)
    np.testing.assert_array_equal(np.concatenate([c.samples for c in chunks]), samples)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    starts = np.cumsum([0, *(len(chunk.samples) for chunk in chunks)])
    assert [chunk.first_sample for chunk in chunks] == starts[:-1].tolist()
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    ends = [chunk for chunk in chunks if chunk.finish_reason is not None or chunk.turn_times]
    assert ends == chunks[-1:]


def test_each_chunk_of_a_window_tells_the_turn_in_which_it_begins() -> None:
    frames = 2 * (MAX_CHUNK_SAMPLES // 1920)
    job = job_of(frames, 1920)
    chunks, _ = chunks_of(job, [frames], 1920)
    assert [(chunk.turn, chunk.speaker) for chunk in chunks] == [(0, 1), (1, 2)]


def test_a_stream_without_audio_ends_with_one_empty_chunk() -> None:
    job = job_of(4)
    job.finish_without_audio()
    (chunk,) = list(job.stream)
    assert (len(chunk.samples), chunk.is_last, chunk.index) == (0, True, 0)
