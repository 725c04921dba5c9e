# SPDX-License-Identifier: Apache-2.0
"""`duologue serve --tensor-parallel N`: the ranks, their start by mpirun, and their common end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import IO, Annotated

import typer

TensorParallelOption = Annotated[
    int | None,
    typer.Option(
        "--tensor-parallel",
        min=1,
        metavar="N",
        help="Split the model over N GPUs, one rank of an mpirun each (trtllm; numpy on a CPU). "
        "Started by hand, mpirun is called; under an mpirun, its ranks are taken.",
    ),
]
LOOK_EVERY_S = 10.0
"""Between two looks at how long the log has become."""
_KEPT_LINES = 40
_BY_SIGNAL = re.compile(r"process rank (\d+) with PID \d+ on node \S+ exited on signal (\d+)")
_BY_STATUS = re.compile(r"Process name: \[.*?,\s*(\d+)\]\s*Exit code: (\d+)")


def take_rank(num_ranks: int | None, engine: str) -> int:
    """Find this process's part in a tensor-parallel service, and play it unless it is to serve.

    Started by hand with several ranks, it starts mpirun and waits for it. As rank 1 or more, it
    follows rank 0 until the end.

    Args:
        num_ranks: as asked for; None takes what mpirun started, else one.
        engine: its kind.

    Returns:
        How many ranks this process serves with, itself included: 1, or more as rank 0; 0 when it
        has played its part and is to end.

    Raises:
        ConfigError: the number is not that of mpirun, or the engine cannot be split.
        EngineUnavailableError: there is no mpirun.
        EngineError: a rank has died, and all have ended.
    """
    from duologue.runtime.backbone.ranks import SIZE_VARIABLE, mpi_world
    from duologue.runtime.backbone.ranks_engines import check_splits, follow_leader
    from duologue.runtime.errors import ConfigError

    world = mpi_world()
    wanted = world.size if num_ranks is None else num_ranks
    check_splits(engine, wanted)
    if SIZE_VARIABLE in os.environ:
        if wanted != world.size:
            raise ConfigError(
                f"--tensor-parallel is {wanted}, but mpirun started {world.size} ranks; "
                "allowed: the same number"
            )
        if not world.is_leader:
            follow_leader(world)
            return 0
        return world.size
    if wanted > 1:
        run_ranks(wanted, [sys.executable, "-m", "duologue.cli", *sys.argv[1:]])
        return 0
    return 1


def run_ranks(num_ranks: int, command: list[str]) -> None:
    """Run a command on so many ranks under mpirun until they end.

    SIGTERM and SIGINT go to rank 0, which finishes what runs and ends the others; a second one
    ends all at once.

    Args:
        num_ranks: 2 or more.
        command: what each rank runs; rank 0 says itself what is wrong when it fails.

    Raises:
        EngineUnavailableError: there is no mpirun.
        EngineError: a rank other than 0 ended by itself.
        typer.Exit: rank 0 failed, with its status.
    """
    from duologue.runtime.supervisor.mpi_launch import require_mpirun

    mpirun = require_mpirun()
    process = subprocess.Popen(
        mpirun.command(num_ranks, command),
        env=mpirun.rank_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # Ctrl-C reaches us alone; mpirun would kill its ranks.
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    assert process.stderr is not None
    last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=_relay, args=(process.stderr, last_lines), daemon=True)
    reader.start()
    try:
        with _short_log(), _passing_signals(process) as asked:
            status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        reader.join()
    # Streams that outlast the grace time are cut off, and then rank 1 finds rank 0 gone.
    if status != 0 and not asked.is_set():
        _report(num_ranks, status, " ".join(" ".join(last_lines).split()))


def _relay(lines: IO[str], last_lines: deque[str]) -> None:
    for line in lines:
        last_lines.append(line)
        # Whoever read our errors may be gone; ranks whose lines nobody takes would stand still.
        with contextlib.suppress(OSError):
            sys.stderr.write(line)


@contextlib.contextmanager
def _short_log() -> Iterator[None]:
    """Keep the log of a server in the background short: it is this process's, not a rank's."""
    from duologue.runtime.supervisor.detached_log import shorten_own_log
    from duologue.runtime.supervisor.state import state_dir

    has_ended, directory = threading.Event(), state_dir()

    def tend() -> None:
        while not has_ended.wait(LOOK_EVERY_S):
            shorten_own_log(directory)

    tending = threading.Thread(target=tend, daemon=True)
    tending.start()
    try:
        yield
    finally:
        has_ended.set()
        tending.join()


@contextlib.contextmanager
def _passing_signals(process: subprocess.Popen[str]) -> Iterator[threading.Event]:
    """Pass on SIGTERM and SIGINT: the first to rank 0, further ones to mpirun.

    Yields:
        Set when the first has come.
    """
    from duologue.runtime.supervisor.mpi_launch import leader_pid

    asked = threading.Event()

    def pass_on(*_: object) -> None:
        leader = None if asked.is_set() else leader_pid(process.pid)
        asked.set()
        if leader is None:
            process.terminate()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, pass_on) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _report(num_ranks: int, status: int, said: str) -> None:
    from duologue.runtime.errors import EngineError

    by_signal, by_status = _BY_SIGNAL.search(said), _BY_STATUS.search(said)
    found = by_signal or by_status
    if found is not None and found[1] != "0":
        how = f"by signal {found[2]}" if by_signal is not None else f"with status {found[2]}"
        raise EngineError(
            f"rank {found[1]} ended {how}; the model was split over {num_ranks} ranks, so all of "
            "them have ended"
        )
    raise typer.Exit(status)


def _end_with_parent() -> None:
    """Have mpirun asked to end when this process dies without a word."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
