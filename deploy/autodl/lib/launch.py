# SPDX-License-Identifier: Apache-2.0
"""Becomes mpirun with `duologue serve` as its ranks: launch.py RANKS ENGINE ARGUMENTS...

Runs in the environment that deploy.sh has made. Importing tensorrt_llm may hang in a rented
container, so for that engine the ways of importing it are probed first.
"""

from __future__ import annotations

import os
import sys

from duologue.runtime.errors import DuologueError, EngineUnavailableError
from duologue.runtime.supervisor.mpi_launch import require_mpirun
from duologue.runtime.supervisor.mpi_probe import probe_import


def main(argv: list[str]) -> None:
    """Replace this process; returns only by an error."""
    num_ranks, engine, *arguments = argv
    mpirun = require_mpirun()
    environment = mpirun.rank_environment(os.environ)
    if engine == "trtllm":
        environment.update(_import_environment())
    command = mpirun.command(int(num_ranks), [sys.executable, "-m", "duologue.cli", *arguments])
    print("starting:", " ".join(command), flush=True)
    os.execve(command[0], command, environment)


def _import_environment() -> dict[str, str]:
    probe = probe_import("tensorrt_llm")
    print(probe.describe(), flush=True)
    if probe.way is None:
        raise EngineUnavailableError(probe.describe())
    return dict(probe.way.environment)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DuologueError as error:
        sys.exit(f"fault: {error}")
