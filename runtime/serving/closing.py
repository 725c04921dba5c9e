# SPDX-License-Identifier: Apache-2.0
"""The end of a model: told in the log, and over in time however it goes."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from duologue.runtime.serving.triton import PbUtils

# Triton waits 10 s in all before it gives up and leaves with status 1.
CLOSE_TIMEOUT_S = 5.0
THREADS_TIMEOUT_S = 2.0
TEARDOWN_TIMEOUT_S = 3.0
_STDERR_FD = 2


@contextmanager
def closing(
    model: str, state: str, pb_utils: PbUtils, within_s: float = CLOSE_TIMEOUT_S
) -> Iterator[None]:
    """Tell in the server's log that a model ends, and that it has ended.

    A block that does not end in time ends the process, with the stacks of all its threads in the
    server's log: Triton waits for this process and for nothing else, so the server still stops in
    order. The timer is the C library's: it needs neither Python's lock nor Triton's queue.

    A model without the first line in the log was never told to end: Triton tells it when the last
    of its requests is gone, so one of them was kept.

    Args:
        model: the model's name.
        state: what is still open.
        pb_utils: Triton's module.
        within_s: seconds until the process ends itself.
    """
    begun_at_s = time.monotonic()
    faulthandler.dump_traceback_later(within_s, exit=True, file=_STDERR_FD)
    try:
        pb_utils.Logger.log_info(f"{model} ends: {state}")
        yield
        took_s = time.monotonic() - begun_at_s
        pb_utils.Logger.log_info(f"{model} has ended after {took_s:.3f} s")
    finally:
        faulthandler.cancel_dump_traceback_later()


def bound_teardown(within_s: float = TEARDOWN_TIMEOUT_S) -> None:
    """Have this process end in time once its model has; if late, its stacks are in the log.

    Triton waits for the process. Taking an interpreter with torch down has taken 4 s on a busy
    machine, and undoes nothing that the end of the process would not undo.

    Args:
        within_s: seconds until the process ends itself.
    """
    faulthandler.dump_traceback_later(within_s, exit=True, file=_STDERR_FD)


def join_all(threads: Iterable[threading.Thread], within_s: float = THREADS_TIMEOUT_S) -> int:
    """Wait for threads, for so long in all; gives the number of those that still run."""
    deadline_s = time.monotonic() + within_s
    num_left = 0
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
        num_left += thread.is_alive()
    return num_left
