# SPDX-License-Identifier: Apache-2.0
"""Steps recorded once per height of batch, and replayed.

A batch of B takes the lowest recorded height that holds it; the places left over rest. On a GPU
the recording is a CUDA graph; elsewhere "replaying" runs the step as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from duologue.runtime.backbone.torch_ends import StepBuffers

Work = Callable[[], None]
Record = Callable[[Work], Work]
"""Turns a step into its recording; calling that takes the step."""
Take = Callable[[StepBuffers, bool], None]
"""Takes one step; the second argument tells whether histories count."""

_NUM_TRIALS = 2


def batch_heights(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the largest batch itself.

    >>> batch_heights(12)
    (1, 2, 4, 8, 12)
    """
    powers = [1 << power for power in range(max_batch.bit_length()) if 1 << power < max_batch]
    return (*powers, max_batch)


class StepGraphs:
    """The recordings.

    Args:
        heights: of batches, rising.
        make_buffers: makes the buffers of a height.
        take: takes one step on them.
        record: how a step is recorded.
    """

    def __init__(
        self,
        heights: Sequence[int],
        make_buffers: Callable[[int], StepBuffers],
        take: Take,
        record: Record,
    ) -> None:
        self._buffers = {height: make_buffers(height) for height in heights}
        self._take, self._record = take, record
        self._recordings: dict[tuple[int, bool], Work] = {}

    def warm_up(self) -> None:
        """Record every height now, so that no request waits for it.

        The tallest first: what it needs of memory holds the lower ones, too.
        """
        for height in sorted(self._buffers, reverse=True):
            for has_history in (False, True):
                self._recording(height, has_history)

    def buffers(self, batch: int) -> StepBuffers:
        """Those of the lowest height that holds a batch."""
        return self._buffers[self._height(batch)]

    def replay(self, batch: int, num_steps: int, *, has_history: bool) -> None:
        """Take so many steps on the buffers of a batch."""
        recording = self._recording(self._height(batch), has_history)
        for _ in range(num_steps):
            recording()

    def _height(self, batch: int) -> int:
        return min(height for height in self._buffers if height >= batch)

    def _recording(self, height: int, has_history: bool) -> Work:
        key = height, has_history
        if key not in self._recordings:
            buffers = self._buffers[height]
            self._recordings[key] = self._record(lambda: self._take(buffers, has_history))
        return self._recordings[key]


def run_as_it_is(work: Work) -> Work:
    """No recording: every replay runs the step's operations one by one."""
    return work


class CudaRecorder:
    """Records CUDA graphs that share one pool of memory, for they never run at the same time.

    Args:
        stream: on which they are recorded, and later replayed.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Record a step whose batch rests, so that trying it changes nothing."""
        with torch.cuda.stream(self._stream):
            # Kernels are compiled and workspaces made before anything is recorded.
            for _ in range(_NUM_TRIALS):
                work()
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            work()
        return graph.replay
