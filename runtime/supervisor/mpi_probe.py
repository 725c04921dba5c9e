# SPDX-License-Identifier: Apache-2.0
"""Finds out how a package that initialises MPI can be imported here, if at all.

`import tensorrt_llm` calls MPI_Init, which hangs in some containers. What helps differs from
host to host, so the ways are tried in order, each for a limited time:

    direct      as it is
    loopback    with OMPI_MCA_btl_tcp_if_include=lo: MPI keeps to the loopback device
    mpirun      as the only rank of an mpirun

As a command, for scripts: `python -m duologue.runtime.supervisor.mpi_probe tensorrt_llm`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from duologue.runtime.supervisor.mpi_launch import (
    INSTALL_HINT,
    Mpirun,
    find_mpirun,
    outside_of_mpi,
)

LOOPBACK = {"OMPI_MCA_btl_tcp_if_include": "lo"}
DEFAULT_TIMEOUT_S = 60.0
KILL_AFTER_S = 5.0
"""What mpirun gets to end its ranks."""
_IMPORT = "import importlib, sys; importlib.import_module(sys.argv[1])"
Outcome = Literal["works", "fails", "hangs", "missing"]


@dataclass(frozen=True, slots=True)
class LaunchWay:
    """How a command is started.

    Attributes:
        name: "direct", "loopback" or "mpirun".
        prefix: what stands in front of the command.
        environment: variables to set for it.
    """

    name: str
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one way.

    Attributes:
        way: that was tried.
        outcome: "works", "fails", "hangs" (ended when its time was over), or "missing" (the
            package, or the mpirun, is not installed).
        detail: the last line that was said, or what to install.
        seconds: that it took.
    """

    way: LaunchWay
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ImportProbe:
    """How a package can be imported on this machine.

    Attributes:
        module: its import name.
        attempts: in the order in which they were made; the last one may have worked.
    """

    module: str
    attempts: tuple[Attempt, ...]

    @property
    def way(self) -> LaunchWay | None:
        """The first way that works, or None."""
        works = (attempt.way for attempt in self.attempts if attempt.outcome == "works")
        return next(works, None)

    def describe(self) -> str:
        """One sentence for people."""
        tried = "; ".join(
            f"{attempt.way.name} {attempt.outcome}"
            + (f" ({attempt.detail})" if attempt.detail else "")
            for attempt in self.attempts
        )
        if self.way is None:
            return f"{self.module} cannot be imported here: {tried}"
        return f"{self.module} can be imported by the way '{self.way.name}': {tried}"


Try = Callable[[LaunchWay, str, float], Attempt]


def probe_import(
    module: str,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    mpirun: Mpirun | None = None,
    attempt: Try | None = None,
) -> ImportProbe:
    """Try to import a package: direct, over the loopback device, under mpirun.

    Args:
        module: its import name.
        timeout_s: limit of each attempt.
        mpirun: to use; None looks for one when it is needed.
        attempt: makes one attempt; None starts a process.
    """
    trial = try_import if attempt is None else attempt
    attempts: list[Attempt] = []
    for way in (LaunchWay("direct"), LaunchWay("loopback", (), LOOPBACK)):
        attempts.append(trial(way, module, timeout_s))
        if attempts[-1].outcome in ("works", "missing"):
            return ImportProbe(module, tuple(attempts))
    launcher = mpirun or find_mpirun()
    if launcher is None:
        last = Attempt(LaunchWay("mpirun"), "missing", f"no mpirun: {INSTALL_HINT}")
    else:
        last = trial(mpirun_way(launcher), module, timeout_s)
    return ImportProbe(module, (*attempts, last))


def mpirun_way(mpirun: Mpirun) -> LaunchWay:
    """As the only rank of an mpirun."""
    return LaunchWay("mpirun", tuple(mpirun.command(1, [])), dict(mpirun.environment))


def try_import(way: LaunchWay, module: str, timeout_s: float) -> Attempt:
    """Import a package in a process of its own, which is killed when its time is over.

    Args:
        way: how to start it.
        module: its import name.
        timeout_s: limit.
    """
    began_s = time.monotonic()
    process = subprocess.Popen(
        [*way.prefix, sys.executable, "-c", _IMPORT, module],
        env={**outside_of_mpi(os.environ), **way.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return Attempt(way, "hangs", f"ended after {timeout_s:g} s", time.monotonic() - began_s)
    seconds = time.monotonic() - began_s
    if process.returncode == 0:
        return Attempt(way, "works", "", seconds)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    detail = lines[-1] if lines else f"exit status {process.returncode}"
    is_missing = any(line.startswith("ModuleNotFoundError:") for line in lines)
    return Attempt(way, "missing" if is_missing else "fails", detail, seconds)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask first: an mpirun that is killed leaves its ranks behind."""
    process.terminate()
    try:
        process.communicate(timeout=KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def main(argv: list[str]) -> int:
    """Print what `probe_import` found as JSON.

    Returns:
        0 when the package can be imported, else 1.
    """
    parser = argparse.ArgumentParser(description="How a package that uses MPI can be imported.")
    parser.add_argument("module")
    parser.add_argument("--timeout-s", type=float, default=DEFAULT_TIMEOUT_S)
    arguments = parser.parse_args(argv)
    probe = probe_import(arguments.module, timeout_s=arguments.timeout_s)
    way = None if probe.way is None else asdict(probe.way)
    facts = {"way": way, "says": probe.describe(), "attempts": [asdict(a) for a in probe.attempts]}
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0 if way is not None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
