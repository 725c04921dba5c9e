"""The mpiruns of this machine, and skips that say why there is none."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.runtime.supervisor.mpi_launch import Mpirun, find_mpirun, inspect_mpirun

PLACES = ("wheel", "system")


def take_mpirun(place: str) -> Mpirun:
    """The mpirun beside the interpreter, or Debian's; skips the test when it is missing."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    system = Path("/usr/bin/mpirun")
    found = inspect_mpirun(system) if place == "system" else find_mpirun()
    if found is None or (place == "wheel" and found.path == system):
        pytest.skip(f"the {place} has no mpirun of Open MPI")
    return found


def run_program(
    mpirun: Mpirun, num_ranks: int, program: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python program on so many ranks, to its end."""
    return subprocess.run(
        mpirun.command(num_ranks, [sys.executable, str(program), *arguments]),
        env={**mpirun.rank_environment(os.environ), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
