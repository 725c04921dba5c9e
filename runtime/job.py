# SPDX-License-Identifier: Apache-2.0
"""A request on its way through the rooms: sequence, frames, windows, samples, stream."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from duologue.runtime.codec.window import Stitcher, WindowPlan
from duologue.runtime.core import (
    CodeWindow,
    FloatArray,
    IntArray,
    PcmChunk,
    TurnTime,
    TurnTiming,
)
from duologue.runtime.lm.sequence import Sequence
from duologue.runtime.stream import SpeechStream
from duologue.runtime.text.timing import estimate_turn_spans


@dataclass(slots=True, eq=False)
class Job:
    """What the engine keeps per request.

    Attributes:
        sequence: what the language model writes.
        plan: which windows are due.
        stitcher: joins decoded windows.
        stream: where chunks go.
        expected_frames: length of the speech as the text suggests it.
        frame_rate_hz: of the codec.
        codes_only: no window is wanted; the stream ends with one empty chunk.
        frames: [K, T], all frames so far.
    """

    sequence: Sequence
    plan: WindowPlan
    stitcher: Stitcher
    stream: SpeechStream
    expected_frames: int
    frame_rate_hz: float
    codes_only: bool = False
    frames: IntArray = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    _num_chunks: int = 0

    def take_windows(self) -> list[CodeWindow]:
        """Collect the frames that became whole and give the windows that are due by them."""
        fresh = self.sequence.take_frames()
        if self.frames.size == 0:
            self.frames = fresh
        elif fresh.size:
            self.frames = np.concatenate([self.frames, fresh], axis=1)
        windows: list[CodeWindow] = []
        if self.codes_only:
            return windows
        while window := self.plan.next(self.frames, is_complete=self.sequence.is_finished):
            windows.append(window)
        return windows

    @property
    def ends_without_audio(self) -> bool:
        """No window will end the stream: there is no frame, or no audio is wanted."""
        return self.codes_only or self.frames.size == 0

    def finish_without_audio(self) -> None:
        """End such a stream with one empty chunk."""
        chunk = self._chunk(np.empty(0, dtype=np.float32), first_frame=0, is_last=True)
        self.stream.put(chunk, self.frames)

    def deliver(self, window: CodeWindow, samples: FloatArray) -> None:
        """Join one decoded window [L * samples_per_frame] to the stream."""
        final = self.stitcher.push(window, samples)
        self.stream.put(self._chunk(final, window.first_frame, window.is_last), self.frames)

    def _chunk(self, samples: FloatArray, first_frame: int, is_last: bool) -> PcmChunk:
        script = self.stream.script
        spans = estimate_turn_spans(script, self.expected_frames)
        turn = next((i for i, (_, stop) in enumerate(spans) if first_frame < stop), len(spans) - 1)
        chunk = PcmChunk(
            samples=samples,
            sample_rate_hz=self.stream.sample_rate_hz,
            index=self._num_chunks,
            first_sample=self.stream.delivered_samples,
            turn=turn,
            speaker=script.turns[turn].speaker,
            turn_timing=TurnTiming.ESTIMATED,
            is_last=is_last,
            finish_reason=self.sequence.finish_reason if is_last else None,
            turn_times=self._turn_times() if is_last else (),
        )
        self._num_chunks += 1
        return chunk

    def _turn_times(self) -> tuple[TurnTime, ...]:
        script = self.stream.script
        spans = estimate_turn_spans(script, self.frames.shape[1])
        return tuple(
            TurnTime(turn.speaker, start / self.frame_rate_hz, stop / self.frame_rate_hz)
            for turn, (start, stop) in zip(script.turns, spans, strict=True)
        )
