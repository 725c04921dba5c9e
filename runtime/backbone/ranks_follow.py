# SPDX-License-Identifier: Apache-2.0
"""Every rank but 0: does what rank 0 says until it says close, or dies."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

from duologue.runtime.backbone.base import PrefixHandle
from duologue.runtime.backbone.ranks_body import Body
from duologue.runtime.backbone.ranks_lead import LOST_EXIT_STATUS
from duologue.runtime.backbone.ranks_link import Link
from duologue.runtime.backbone.ranks_plan import Call, Op, decode_call

_log = logging.getLogger(__name__)


def follow(
    body: Body, link: Link, rank: int, *, end_process: Callable[[int], None] = os._exit
) -> None:
    """Run the calls of rank 0 on this rank's share.

    A thread of its own reads the link: should rank 0 die while this rank waits for it within a
    step, nobody else could notice.

    Args:
        body: this rank's share.
        link: to rank 0.
        rank: of this process.
        end_process: what is done when rank 0 has died; tests replace it.
    """
    calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()

    def read() -> None:
        while True:
            message = link.receive()
            if message is None:
                _log.error("rank %d ends: rank 0 has gone", rank)
                # First of all: a loop that ends by itself would leave with status 0.
                end_process(LOST_EXIT_STATUS)
                calls.put(None)
                return
            call = decode_call(message)
            calls.put(call)
            if call.op == Op.CLOSE:
                return

    threading.Thread(target=read, name="rank-0", daemon=True).start()
    saved: dict[int, PrefixHandle] = {}
    try:
        while (call := calls.get()) is not None and call.op != Op.CLOSE:
            _run(call, body, saved)
    finally:
        body.close()
        link.close()


def _run(call: Call, body: Body, saved: dict[int, PrefixHandle]) -> None:
    if call.op == Op.STEP:
        body.step(call.pieces)
    elif call.op == Op.SAVE:
        slot, num_rows, number = call.numbers
        saved[number] = body.save(slot, num_rows)
    elif call.op == Op.LOAD:
        slot, number = call.numbers
        body.load(slot, saved[number])
    elif call.op == Op.FREE:
        body.free(*call.numbers)
    elif call.op == Op.DROP:
        saved.pop(*call.numbers)
