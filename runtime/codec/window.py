# SPDX-License-Identifier: Apache-2.0
"""Streaming windows: when which frames are decoded, and how the pieces become one signal.

A stream climbs a ladder of windows, small ones first for an early start, larger ones later for
quality. Each window has context on both sides that is decoded and cut away:

    frames    0 1 2 3 4 5 6 7 8 9 ...
    window 0  [ hop ] r r
    window 1  l l l l [  hop  ] r r
    window 2          l l l l l [ ...

Where the contexts of two neighbours overlap, their samples are cross-faded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duologue.runtime.audio import crossfade
from duologue.runtime.config import CodecConfig, WindowConfig, WindowStep
from duologue.runtime.core import CodeWindow, FloatArray, IntArray

_FADE_S = 0.02


def default_windows(codec: CodecConfig, max_left: int = 10) -> WindowConfig:
    """A ladder for a codec of 12.5 frames per second: 0.3 s first, at last 2 s at a time.

    Chosen by the curve of `duologue bench context` on the default bundle, hops of 25 frames. The
    right context is where the curve is flat: errors around borders are -8, -29, -31 and -31 dB
    with 0, 1, 2 and 4 frames. The left one is a bargain, since its curve never is: the distance to
    the whole decode is 0.61, 0.51, 0.40 and 0.30 dB with 0, 10, 50 and 100 frames, for which the
    codec decodes 1.1, 1.4, 2.8 and 4.1 frames per frame; borders gain nothing beyond two frames.

    Args:
        codec: the codec that will decode the windows.
        max_left: left context of the last rungs, in frames; more is steadier and costs more.
    """
    left = min(max_left, codec.max_frames - 27)
    steps = (
        WindowStep(hop=4, left=0, right=1),
        WindowStep(hop=6, left=min(4, left), right=2),
        WindowStep(hop=10, left=left, right=2),
        WindowStep(hop=16, left=left, right=2),
        WindowStep(hop=25, left=left, right=2),
    )
    return WindowConfig(steps=steps, crossfade_samples=round(_FADE_S * codec.sample_rate_hz))


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Which frames a window covers; the fields are those of `core.CodeWindow`."""

    index: int
    first_frame: int
    left: int
    hop: int
    right: int
    is_last: bool

    def cut(self, codes: IntArray) -> CodeWindow:
        """Take the window out of a stream's codes [K, T]."""
        start, stop = self.first_frame - self.left, self.first_frame + self.hop + self.right
        assert stop <= codes.shape[1], "a window is due only when its frames exist"
        return CodeWindow(
            codes=codes[:, start:stop],
            index=self.index,
            first_frame=self.first_frame,
            left=self.left,
            hop=self.hop,
            right=self.right,
            is_last=self.is_last,
        )


@dataclass(frozen=True, slots=True)
class WindowLadder:
    """Where the windows of a stream lie; says nothing about time.

    >>> ladder = WindowLadder(WindowConfig((WindowStep(4, 0, 2), WindowStep(8, 6, 2)), 0))
    >>> [ladder.first_frame(index) for index in range(4)]
    [0, 4, 12, 20]
    """

    config: WindowConfig

    def step(self, index: int) -> WindowStep:
        """The rung of window `index`."""
        steps = self.config.steps
        return steps[min(index, len(steps) - 1)]

    def first_frame(self, index: int) -> int:
        """Where the hop of window `index` begins."""
        steps = self.config.steps
        climbed = sum(step.hop for step in steps[:index])
        return climbed + max(0, index - len(steps)) * steps[-1].hop

    def due(self, index: int, num_frames: int, is_complete: bool) -> WindowSpec | None:
        """Window `index`, if its frames exist and no window before it was the last.

        Which windows a stream has depends on its length alone, not on when frames arrived:
        at least one frame behind the hop must exist before a window is known not to be last.

        Args:
            index: place in the stream, from 0.
            num_frames: frames that exist so far.
            is_complete: no frame follows.

        Returns:
            None when frames are missing.
        """
        step, first = self.step(index), self.first_frame(index)
        left, remaining = min(step.left, first), num_frames - first
        if remaining >= step.hop + max(step.right, 1):
            return WindowSpec(index, first, left, step.hop, step.right, is_last=False)
        if is_complete and remaining > 0:
            return WindowSpec(index, first, left, remaining, 0, is_last=True)
        return None


class WindowPlan:
    """How far one stream has come on the ladder.

    Args:
        config: of the ladder.
    """

    def __init__(self, config: WindowConfig) -> None:
        self._ladder = WindowLadder(config)
        self._index = 0
        self._is_finished = False

    def next(self, codes: IntArray, is_complete: bool) -> CodeWindow | None:
        """The next window that is due, or None; call again until None.

        Args:
            codes: [K, T], all frames of the stream so far.
            is_complete: no frame follows.
        """
        if self._is_finished:
            return None
        spec = self._ladder.due(self._index, codes.shape[1], is_complete)
        if spec is None:
            return None
        self._index += 1
        self._is_finished = spec.is_last
        return spec.cut(codes)


class Stitcher:
    """Joins the decoded windows of one stream into exactly its samples.

    The first samples of a window's right context are held back, and blended into the
    beginning of the next window's hop. Nothing waits for that: a hop is handed out at once.

    Args:
        config: the ladder's.
        samples_per_frame: of the codec.
    """

    def __init__(self, config: WindowConfig, samples_per_frame: int) -> None:
        self._fade = config.crossfade_samples
        self._width = samples_per_frame
        self._next_index = 0
        self._tail = np.zeros(0, dtype=np.float32)

    def push(self, window: CodeWindow, samples: FloatArray) -> FloatArray:
        """Take the next window.

        Args:
            window: windows come in order.
            samples: [L * samples_per_frame], all that was decoded from it.

        Returns:
            [hop * samples_per_frame]: the samples of the hop, final.
        """
        assert window.index == self._next_index, "windows are stitched in order"
        self._next_index += 1
        begin = window.left * self._width
        end = begin + window.hop * self._width
        hop = samples[begin:end].copy()
        fade = min(len(self._tail), len(hop))
        hop[:fade] = crossfade(self._tail[:fade], hop[:fade])
        right = min(self._fade, window.right * self._width)
        self._tail = samples[end : end + right].copy()
        return hop
