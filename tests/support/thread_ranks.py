"""Ranks that are threads of one process, with a barrier in place of MPI."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
from random_lms import WEIGHTS, random_ids, teacher_force

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.numpy_body import NumpyBody
from duologue.runtime.backbone.ranks import World, sum_in_order
from duologue.runtime.backbone.ranks_body import BodyBackbone
from duologue.runtime.backbone.ranks_follow import follow
from duologue.runtime.backbone.ranks_lead import Group, LeadingBody
from duologue.runtime.backbone.ranks_link import Link
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineError

SLOTS = 4
ROWS = 60
WAIT_S = 30.0


class ThreadRanks:
    """Ranks that are threads of this process, with a barrier in place of MPI."""

    def __init__(self, world: World, barrier: threading.Barrier, parts: list[Any]) -> None:
        self.world, self._barrier, self._parts = world, barrier, parts

    def all_reduce(self, values: FloatArray) -> FloatArray:
        self._parts[self.world.rank] = values.copy()
        try:
            self._barrier.wait(WAIT_S)
            total = sum_in_order(np.stack(self._parts))
            self._barrier.wait(WAIT_S)
        except threading.BrokenBarrierError as error:
            raise EngineError("a rank has died") from error
        return total


class Crew:
    """A leading backbone in this thread, and its followers in threads of their own."""

    def __init__(self, lm: LmConfig, directory: Path, size: int) -> None:
        self.barrier = threading.Barrier(size)
        parts: list[Any] = [None] * size
        self.ends: dict[int, Link] = {}
        self.links: dict[int, Link] = {}
        self.statuses: list[int] = []
        self.has_ended = threading.Event()
        self.losses: list[str] = []
        self.num_closed = 0

        def body(rank: int) -> NumpyBody:
            ranks = ThreadRanks(World(rank, size), self.barrier, parts)
            return NumpyBody(lm, directory / WEIGHTS, max_slots=SLOTS, max_rows=ROWS, ranks=ranks)

        self.bodies = [body(rank) for rank in range(size)]
        self.threads = []
        for rank in range(1, size):
            near, far = socket.socketpair()
            self.links[rank], self.ends[rank] = Link(near), Link(far)
            arguments = (self.bodies[rank], self.ends[rank], rank)
            self.threads.append(threading.Thread(target=self._follow, args=arguments, daemon=True))
            self.threads[-1].start()
        self.leading = LeadingBody(
            self.bodies[0], Group(self.links, self._on_loss, self._on_close), end_process=self._end
        )
        self.backbone = BodyBackbone(self.leading)

    def _follow(self, body: NumpyBody, link: Link, rank: int) -> None:
        try:
            follow(body, link, rank, end_process=self._end)
        except EngineError:
            return

    def _on_loss(self, reason: str) -> None:
        self.losses.append(reason)
        self.barrier.abort()

    def _on_close(self) -> None:
        self.num_closed += 1

    def _end(self, status: int) -> None:
        self.statuses.append(status)
        self.has_ended.set()
        self.barrier.abort()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        for link in (*self.ends.values(), *self.links.values()):
            link.close()


def alone(built: tuple[LmConfig, Path]) -> BodyBackbone:
    lm, directory = built
    return BodyBackbone(NumpyBody(lm, directory / WEIGHTS, max_slots=SLOTS, max_rows=ROWS))


def all_logits(backbone: Backbone, lm: LmConfig) -> FloatArray:
    """A prompt in pieces, a saved prefix, a decode step of both, and a slot that is used again."""
    ids = random_ids(lm, 30)
    first = teacher_force(backbone, 1, ids, 20, [13])
    backbone.load_prefix(3, backbone.save_prefix(1, 17))
    piece = backbone.prefill(3, ids[17:20], 17)
    both = backbone.decode([3, 1], ids[20:22])
    backbone.release(1)
    again = teacher_force(backbone, 1, ids[5:], 10)
    assert piece is not None
    return np.concatenate([first, piece.values, both.values, again])
