# SPDX-License-Identifier: Apache-2.0
"""A request on its way through the rooms: passes, frames, windows, samples, stream."""

from __future__ import annotations

import numpy as np

from duologue.runtime.codec.window import Stitcher, WindowPlan
from duologue.runtime.config import Bundle
from duologue.runtime.core import CodeWindow, FloatArray, IntArray, PcmChunk, TurnTime
from duologue.runtime.lm.sequence import Sequence
from duologue.runtime.passes import Passes
from duologue.runtime.stream import SpeechStream

# 62 kB as 16 bits: with all that goes beside it, a message stays below 64 KiB, which is what
# buffers on the way are made for.
MAX_CHUNK_SAMPLES = 31_000
_FIRST_CAPACITY = 256


class Job:
    """What the engine keeps per request.

    Args:
        bundle: rates and windows.
        passes: what the language model is to write.
        stream: where chunks go.
        codes_only: no window is wanted; the stream ends with one empty chunk.

    Attributes:
        sequence: the pass at hand.
        stream: where chunks go.

    Raises:
        PromptTooLongError: the first pass does not fit into the context.
    """

    def __init__(
        self, bundle: Bundle, passes: Passes, stream: SpeechStream, *, codes_only: bool = False
    ) -> None:
        self.stream = stream
        self.sequence: Sequence = passes.begin()
        self._passes = passes
        self._plan = WindowPlan(bundle.windows)
        self._stitcher = Stitcher(bundle.windows, bundle.codec.samples_per_frame)
        self._samples_per_frame = bundle.codec.samples_per_frame
        self._frame_rate_hz = bundle.codec.frame_rate_hz
        self._codes_only = codes_only
        self._buffer = np.empty((bundle.lm.num_channels, _FIRST_CAPACITY), dtype=np.int64)
        self._num_frames = 0
        self._num_chunks = 0
        self._is_complete = False

    @property
    def wants_audio(self) -> bool:
        """A listener may be waiting for it."""
        return not self._codes_only

    @property
    def frames(self) -> IntArray:
        """All frames so far, [K, T]."""
        return self._buffer[:, : self._num_frames]

    def take_frames(self) -> None:
        """Collect the frames that became whole."""
        fresh = self.sequence.take_frames()
        stop = self._num_frames + fresh.shape[1]
        while stop > self._buffer.shape[1]:
            # Windows that wait for the codec keep their view of the old buffer.
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)], axis=1)
        self._buffer[:, self._num_frames : stop] = fresh
        self._num_frames = stop

    def go_on(self) -> Sequence | None:
        """The pass after the one that has finished, or None when all is said.

        Raises:
            DuologueError: the next pass cannot be laid out.
        """
        following = self._passes.next(self.sequence, self.frames)
        if following is None:
            self._is_complete = True
        else:
            self.sequence = following
        return following

    def take_windows(self) -> list[CodeWindow]:
        """The windows that are due by the frames so far."""
        windows: list[CodeWindow] = []
        if self._codes_only:
            return windows
        while window := self._plan.next(self.frames, is_complete=self._is_complete):
            windows.append(window)
            self.stream.plan(window.hop * self._samples_per_frame)
        return windows

    @property
    def ends_without_audio(self) -> bool:
        """All is said and no window will end the stream: no frame, or no audio is wanted."""
        return self._is_complete and (self._codes_only or self._num_frames == 0)

    def finish_without_audio(self) -> None:
        """End such a stream with one empty chunk."""
        self._put(np.empty(0, dtype=np.float32), first_frame=0, is_last=True)

    def deliver(self, window: CodeWindow, samples: FloatArray) -> None:
        """Join one decoded window [L * samples_per_frame] to the stream."""
        final = self._stitcher.push(window, samples)
        self._put(final, window.first_frame, window.is_last)

    def _put(self, samples: FloatArray, first_frame: int, is_last: bool) -> None:
        """Hand out samples, in chunks of about the same size where one would be too large."""
        width = self._samples_per_frame
        num_frames = -(-len(samples) // width)
        num_chunks = -(-num_frames // max(1, MAX_CHUNK_SAMPLES // width))
        step = -(-num_frames // num_chunks) if num_chunks else 1
        for frame in range(0, num_frames or 1, step):
            piece = samples[frame * width : (frame + step) * width]
            is_end = is_last and frame + step >= num_frames
            self._put_chunk(piece, first_frame + frame, is_end)

    def _put_chunk(self, samples: FloatArray, first_frame: int, is_last: bool) -> None:
        script, passes = self.stream.script, self._passes
        turn = passes.turn_at(first_frame)
        chunk = PcmChunk(
            samples=samples,
            sample_rate_hz=self.stream.sample_rate_hz,
            index=self._num_chunks,
            first_sample=self.stream.delivered_samples,
            turn=turn,
            speaker=script.turns[turn].speaker,
            turn_timing=passes.timing,
            is_last=is_last,
            finish_reason=passes.finish_reason if is_last else None,
            turn_times=self._turn_times() if is_last else (),
        )
        self._num_chunks += 1
        self.stream.put(chunk, self.frames)

    def _turn_times(self) -> tuple[TurnTime, ...]:
        turns, rate_hz = self.stream.script.turns, self._frame_rate_hz
        return tuple(
            TurnTime(turn.speaker, start / rate_hz, stop / rate_hz)
            for turn, (start, stop) in zip(turns, self._passes.spans(self._num_frames), strict=True)
        )
