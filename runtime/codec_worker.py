# SPDX-License-Identifier: Apache-2.0
"""The thread that turns due windows into samples, so that the decode loop never waits for audio.

Windows of equal length are decoded together, whichever streams they belong to; the windows of
one stream are decoded in order. The stream whose listener runs dry first comes first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

import numpy as np

from duologue.runtime.codec.base import Codec
from duologue.runtime.core import CodeWindow
from duologue.runtime.errors import DuologueError, EngineError
from duologue.runtime.job import Job

_log = logging.getLogger(__name__)


class CodecWorker:
    """Decodes windows in the background.

    Args:
        codec: the decoder.
        max_batch: windows that are decoded at once.
    """

    def __init__(self, codec: Codec, max_batch: int) -> None:
        self._codec = codec
        self._max_batch = max_batch
        self._pending: dict[Job, deque[CodeWindow]] = {}
        self._bell = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="codec-worker", daemon=True)
        self._thread.start()

    def put(self, job: Job, windows: list[CodeWindow]) -> None:
        """Queue windows of one stream, in order."""
        if not windows:
            return
        with self._bell:
            self._pending.setdefault(job, deque()).extend(windows)
            self._bell.notify()

    def close(self) -> None:
        """Stop after the batch in hand; windows that still wait end with `EngineError`."""
        with self._bell:
            self._closing = True
            self._bell.notify()
        self._thread.join()
        for job in self._pending:
            job.stream.fail(EngineError("the engine was stopped"))

    def _work(self) -> None:
        while True:
            with self._bell:
                self._bell.wait_for(lambda: self._closing or self._pending)
                if self._closing:
                    return
                batch = self._take()
            self._decode([(job, window) for job, window in batch if job.stream.check()])

    def _take(self) -> list[tuple[Job, CodeWindow]]:
        """The most urgent stream's window, and the next most urgent of others if as long as it."""
        now_s = time.monotonic()
        ordered = sorted(self._pending, key=lambda job: job.stream.ahead_s(now_s))
        length = self._pending[ordered[0]][0].codes.shape[1]
        alike = [job for job in ordered if self._pending[job][0].codes.shape[1] == length]
        batch = [(job, self._pending[job].popleft()) for job in alike[: self._max_batch]]
        for job, _ in batch:
            if not self._pending[job]:
                del self._pending[job]
        return batch

    def _decode(self, batch: list[tuple[Job, CodeWindow]]) -> None:
        if not batch:
            return
        try:
            samples = self._codec.decode(np.stack([window.codes for _, window in batch]))
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0][0], error)
                return
            # A window that the codec cannot decode must not end the streams beside it.
            for each in batch:
                self._decode([each])
            return
        for (job, window), row in zip(batch, samples, strict=True):
            try:
                job.deliver(window, row)
            except Exception as error:
                self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, DuologueError):
            _log.error("the codec failed", exc_info=error)
            error = EngineError("the codec failed; the server's log says why")
        job.stream.fail(error)
