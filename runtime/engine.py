# SPDX-License-Identifier: Apache-2.0
"""The engine: one thread in which all sequences take their steps together."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.device import DecodesOnDevice
from duologue.runtime.codec_worker import CodecWorker
from duologue.runtime.device_blocks import DeviceBlocks, StepIds, choose_on_host
from duologue.runtime.errors import DuologueError, EngineError
from duologue.runtime.job import Job
from duologue.runtime.lm.scheduler import PrefillPiece, Scheduler, StepBatch
from duologue.runtime.lm.sequence import Sequence
from duologue.runtime.prefix_cache import PrefixCache, PrefixStats

_log = logging.getLogger(__name__)

_SLOW_STEP_S = 0.02
"""A step of all sequences that takes longer, a quarter of a usual frame, is worth cutting down."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine is doing at this moment."""

    num_running: int
    num_waiting: int
    num_steps: int
    prefixes: PrefixStats = field(default_factory=PrefixStats)


class Engine:
    """Runs the steps of all sequences and hands due windows to the codec worker.

    Args:
        backbone: the language model; used by this thread only.
        codec_worker: where windows go.
        max_waiting: requests that may wait for a slot.
        max_prefill_rows: rows of a prompt that one step reads.
        prefix_bytes: memory for beginnings of prompts that come again; 0: none are kept.
    """

    def __init__(
        self,
        backbone: Backbone,
        codec_worker: CodecWorker,
        *,
        max_waiting: int,
        max_prefill_rows: int,
        prefix_bytes: int = 0,
    ) -> None:
        self._backbone = backbone
        self._codec_worker = codec_worker
        self._scheduler = Scheduler(backbone.spec.max_slots, max_waiting, max_prefill_rows)
        self._prefixes = PrefixCache(backbone, max_prefill_rows, prefix_bytes)
        self._blocks = DeviceBlocks(backbone) if isinstance(backbone, DecodesOnDevice) else None
        self._jobs: dict[Sequence, Job] = {}
        self._full_step_s = 0.0
        self._bell = threading.Condition()
        self._rung = False
        self._closing = False
        self._num_steps = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Take a request on.

        Raises:
            CapacityError: the queue is full.
            EngineError: the engine has been stopped.
        """
        with self._bell:
            if self._closing:
                raise EngineError("the engine was stopped")
            self._scheduler.add(job.sequence)
            self._jobs[job.sequence] = job
            job.stream.ring = self._ring
        self._ring()

    @property
    def stats(self) -> EngineStats:
        """Counts of the moment."""
        with self._bell:
            running, waiting = len(self._scheduler.running), len(self._scheduler.waiting)
        return EngineStats(running, waiting, self._num_steps, self._prefixes.stats)

    def close(self) -> None:
        """Stop after the step in hand; requests that still run end with `EngineError`."""
        with self._bell:
            self._closing = True
        self._ring()
        self._thread.join()
        self._fail_all(EngineError("the engine was stopped"))

    def step(self) -> bool:
        """Run one step for everybody who can run; False if nobody can."""
        self._drop_ended()
        batch = self._schedule()
        if batch.is_empty and not (self._blocks and self._blocks.is_flying):
            return False
        started_s = time.monotonic()
        num_steps = self._decode(batch)
        if batch.is_full:
            self._full_step_s = (time.monotonic() - started_s) / num_steps
        if batch.prefill is not None:
            self._prefill(batch.prefill)
        self._num_steps += 1
        return True

    def _run(self) -> None:
        while not self._closing:
            try:
                has_run = self.step()
            except DuologueError as error:
                self._fail_all(error)
            except Exception:
                _log.exception("the engine failed in step %d", self._num_steps)
                self._fail_all(EngineError("the engine failed; the server's log says why"))
            else:
                if not has_run:
                    self._wait()

    def _ring(self) -> None:
        with self._bell:
            self._rung = True
            self._bell.notify()

    def _wait(self) -> None:
        with self._bell:
            self._bell.wait_for(lambda: self._rung or self._closing, self._patience_s())
            self._rung = False

    def _patience_s(self) -> float | None:
        """How long the engine may sleep if nobody rings."""
        ends_s = [job.stream.deadline_at_s for job in self._jobs.values()]
        deadlines_s = [end_s for end_s in ends_s if end_s is not None]
        return max(0.0, min(deadlines_s) - time.monotonic()) if deadlines_s else None

    def _drop_ended(self) -> None:
        with self._bell:
            jobs = list(self._jobs.values())
        for job in jobs:
            if not job.stream.check():
                self._leave(job)

    def _schedule(self) -> StepBatch:
        with self._bell:
            jobs, now_s = self._jobs.items(), time.monotonic()
            paused = {sequence for sequence, job in jobs if job.stream.is_full}
            heard = [(sequence, job.stream) for sequence, job in jobs if job.wants_audio]
            ahead_s = {seq: stream.ahead_s(now_s, planned=True) for seq, stream in heard}
            is_slow = self._full_step_s > _SLOW_STEP_S
            return self._scheduler.schedule(paused, ahead_s, may_rest=is_slow)

    def _prefill(self, piece: PrefillPiece) -> None:
        sequence = piece.sequence
        if piece.start == 0:
            sequence.num_prefilled = self._prefixes.restore(sequence.slot, sequence.prompt_rows)
            piece = self._scheduler.piece(sequence)
        rows = sequence.prompt_rows[piece.start : piece.stop]
        logits = self._backbone.prefill(sequence.slot, rows, piece.start, is_last=piece.is_last)
        sequence.num_prefilled = piece.stop
        if logits is not None:
            ids = choose_on_host([sequence], logits)
            # What is kept is read by others: never rows that end as no number.
            if ids.is_sound.all():
                self._prefixes.keep(sequence.slot)
            self._take(ids)

    def _decode(self, batch: StepBatch) -> int:
        """Take rows for a batch; returns how many each took, at most."""
        sequences, steps = batch.decode, list[StepIds]()
        if self._blocks is not None:
            seated, sequences = self._blocks.split(sequences)
            steps = self._blocks.advance(seated, is_brief=batch.prefill is not None)
            for step in steps:
                self._take(step)
        if sequences:
            input_ids = np.stack([sequence.new_rows[-1] for sequence in sequences])
            logits = self._backbone.decode([sequence.slot for sequence in sequences], input_ids)
            self._take(choose_on_host(sequences, logits))
        return max(1, len(steps))

    def _take(self, step: StepIds) -> None:
        """Take what was chosen, but for sequences that ended since."""
        for sequence, ids, is_sound in step.rows():
            job = self._jobs.get(sequence)
            if job is not None and is_sound:
                sequence.append(ids)
                self._hand_on(job)
            elif job is not None:
                # Nobody else's rows come from its own: it fails alone.
                job.stream.fail(EngineError("the model's scores are not numbers"))
                self._leave(job)

    def _hand_on(self, job: Job) -> None:
        try:
            self._pass_on(job)
        except Exception:
            # The job may have left its slot already: nobody else would end its stream.
            _log.exception("a request could not go on")
            job.stream.fail(EngineError("the engine failed; the server's log says why"))
            self._leave(job)

    def _pass_on(self, job: Job) -> None:
        job.take_frames()
        if job.sequence.is_finished:
            self._end_pass(job)
        self._codec_worker.put(job, job.take_windows())
        if job.ends_without_audio:
            job.finish_without_audio()

    def _end_pass(self, job: Job) -> None:
        """Free the slot, and line up the job's next pass if there is one."""
        self._leave(job)
        try:
            following = job.go_on()
        except DuologueError as error:
            job.stream.fail(error)
            return
        if following is not None:
            with self._bell:
                self._scheduler.resume(following)
                self._jobs[following] = job

    def _leave(self, job: Job) -> None:
        with self._bell:
            slot = self._scheduler.finish(job.sequence)
            self._jobs.pop(job.sequence, None)
        if slot is not None:
            try:
                self._backbone.release(slot)
            except Exception:
                # The engine's thread must outlive whatever a backbone does.
                _log.exception("slot %d could not be released", slot)

    def _fail_all(self, error: DuologueError) -> None:
        with self._bell:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.stream.fail(error)
            self._leave(job)
        if self._blocks is not None:
            self._blocks.forget()
