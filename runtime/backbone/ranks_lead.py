# SPDX-License-Identifier: Apache-2.0
"""Rank 0: does what it is asked, and tells the other ranks to do the same."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from duologue.runtime.backbone.base import BackboneSpec, PrefixHandle
from duologue.runtime.backbone.ranks_body import Body, Hidden, Piece
from duologue.runtime.backbone.ranks_link import Link
from duologue.runtime.backbone.ranks_plan import Call, Op, encode_call, step_call
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineError, parse_error

LOST_EXIT_STATUS = 70
EXIT_AFTER_S = 5.0
"""How long a call may still take after a rank has died, before this process ends itself."""
_READY = b"ready"

_log = logging.getLogger(__name__)


class _SharedPrefix:
    """A prefix of which every rank keeps its own share, under one number."""

    def __init__(self, number: int, own: PrefixHandle) -> None:
        self.number = number
        self.own = own

    @property
    def num_rows(self) -> int:
        return self.own.num_rows

    @property
    def num_bytes(self) -> int:
        return self.own.num_bytes


@dataclass(frozen=True, slots=True)
class Group:
    """How the leader speaks with the other ranks.

    Attributes:
        links: rank -> its link.
        on_loss: told why, once, when a rank dies.
        on_close: called last, when all ranks have ended in order.
    """

    links: Mapping[int, Link]
    on_loss: Callable[[str], None]
    on_close: Callable[[], None]


class LeadingBody:
    """A `ranks_body.Body` on rank 0, of which each rank holds a share.

    Args:
        body: rank 0's own share.
        group: the other ranks, which have loaded theirs.
        end_process: what is done when a rank died and a call does not come back; tests replace it.
    """

    def __init__(
        self, body: Body, group: Group, *, end_process: Callable[[int], None] = os._exit
    ) -> None:
        self._body = body
        self._group = group
        self._end_process = end_process
        self._lost: str | None = None
        self._is_closing = False
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._num_saved = 0
        # Filled by whichever thread lets a handle go; told with the next call.
        self._dropped: deque[int] = deque()
        self._watchers = [
            threading.Thread(target=self._watch, args=entry, name=f"rank-{entry[0]}", daemon=True)
            for entry in group.links.items()
        ]
        for watcher in self._watchers:
            watcher.start()

    @property
    def spec(self) -> BackboneSpec:
        """What this engine is; of rank 0's share."""
        return self._body.spec

    def step(self, pieces: Sequence[Piece]) -> Hidden:
        """Read pieces on all ranks.

        Raises:
            EngineError: a rank has died.
        """
        with self._call(step_call(pieces)):
            return self._body.step(pieces)

    def logits(self, hidden: Hidden) -> FloatArray:
        """Logits, by rank 0 alone."""
        return self._body.logits(hidden)

    def to_numpy(self, hidden: Hidden) -> FloatArray:
        """Hidden states, by rank 0 alone."""
        return self._body.to_numpy(hidden)

    def save(self, slot: int, num_rows: int) -> PrefixHandle:
        """Copy a prefix; each rank keeps its share until the handle is let go.

        Raises:
            EngineError: a rank has died.
        """
        number = self._num_saved
        self._num_saved += 1
        with self._call(Call(Op.SAVE, (slot, num_rows, number))):
            handle = _SharedPrefix(number, self._body.save(slot, num_rows))
        weakref.finalize(handle, self._dropped.append, number)
        return handle

    def load(self, slot: int, handle: PrefixHandle) -> None:
        """Put a saved prefix into an empty slot on all ranks.

        Raises:
            EngineError: a rank has died, or the handle is another engine's.
        """
        if not isinstance(handle, _SharedPrefix):
            raise EngineError(f"slot {slot} takes a prefix of these ranks; got another engine's")
        with self._call(Call(Op.LOAD, (slot, handle.number))):
            self._body.load(slot, handle.own)

    def free(self, slot: int) -> None:
        """Forget what a slot holds on all ranks.

        Raises:
            EngineError: a rank has died.
        """
        with self._call(Call(Op.FREE, (slot,))):
            self._body.free(slot)

    def close(self) -> None:
        """End all ranks."""
        self._is_closing = True
        if self._lost is None:
            try:
                self._tell(Call(Op.CLOSE))
            except EngineError:
                _log.warning("a rank ended before it was told to")
        self._body.close()
        # What was sent still arrives.
        for link in self._group.links.values():
            link.close()
        for watcher in self._watchers:
            watcher.join()
        self._group.on_close()

    @contextmanager
    def _call(self, call: Call) -> Iterator[None]:
        """Tell the others, then do the same here."""
        self._is_idle.clear()
        try:
            while self._dropped:
                self._tell(Call(Op.DROP, (self._dropped.popleft(),)))
            self._tell(call)
            yield
        except BaseException as error:
            # The others are in the midst of the call and would wait: they must not go on.
            known = isinstance(error, EngineError)
            self._lose(str(error) if known else f"rank 0 failed: {error!r}")
            raise
        finally:
            self._is_idle.set()

    def _tell(self, call: Call) -> None:
        if self._lost is not None:
            raise EngineError(self._lost)
        message = encode_call(call)
        for rank, link in self._group.links.items():
            try:
                link.send(message)
            except OSError as error:
                raise EngineError(_has_died(rank)) from error

    def _watch(self, rank: int, link: Link) -> None:
        """Wait for what a rank never sends: its end."""
        while link.receive() is not None:
            continue
        if self._is_closing or self._lost is not None:
            return
        _log.error(_has_died(rank))
        self._lose(_has_died(rank))
        if not self._is_idle.wait(EXIT_AFTER_S):
            _log.error("a step does not come back from the other ranks; this process ends")
            self._end_process(LOST_EXIT_STATUS)

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
            self._group.on_loss(reason)
            for link in self._group.links.values():
                link.close()


def _has_died(rank: int) -> str:
    return f"rank {rank} has died: the model is split over the ranks and cannot go on without it"


def await_ready(links: Mapping[int, Link]) -> None:
    """Wait until every rank has loaded its share.

    Raises:
        DuologueError: the error of a rank that could not.
        EngineError: a rank has died.
    """
    for rank, link in links.items():
        answer = link.receive()
        if answer is None:
            raise EngineError(_has_died(rank))
        if answer != _READY:
            raise parse_error(answer.decode())


def report_ready(link: Link) -> None:
    """Tell rank 0 that this rank's share is loaded."""
    link.send(_READY)
