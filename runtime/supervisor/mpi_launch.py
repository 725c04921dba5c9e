# SPDX-License-Identifier: Apache-2.0
"""Starts commands under Open MPI's mpirun, with the flags that a rented container needs.

An mpirun goes with the MPI library of its own installation: ranks that load another one each
believe to be alone. So whatever is started gets the library's place in its environment, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from duologue.runtime.errors import ConfigError, EngineUnavailableError

INSTALL_HINT = "pip install 'duologue[mpi]', or apt-get install openmpi-bin"
LIBRARY = "libmpi.so.40"
HPCX_DIR = Path("/opt/hpcx/ompi")
"""Where NVIDIA's images keep their Open MPI."""
VERSION_TIMEOUT_S = 20.0
PROC_DIR = Path("/proc")

_VERSION = re.compile(r"\(Open MPI\) (\S+)")
# What an mpirun leaves in the environment of its ranks; a second one must not inherit it.
_RANK_VARIABLES = ("PMIX_", "PRTE_", "OMPI_COMM_WORLD", "OMPI_UNIVERSE", "OMPI_FILE_LOCATION")


@dataclass(frozen=True, slots=True)
class Mpirun:
    """One installation of Open MPI.

    Attributes:
        path: of its mpirun.
        version: as it tells, e.g. "5.0.11".
        environment: what its ranks need to load the library of the same installation.
    """

    path: Path
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, num_ranks: int, command: Sequence[str]) -> list[str]:
        """The line that runs a command on so many ranks of this machine.

        Args:
            num_ranks: 1 or more.
            command: what every rank runs.

        Raises:
            ConfigError: less than one rank.
        """
        if num_ranks < 1:
            raise ConfigError(f"the number of ranks is {num_ranks}; allowed: 1 or more")
        line = [str(self.path), "-n", str(num_ranks), "--allow-run-as-root", "--bind-to", "none"]
        if num_ranks > num_cores():
            # Else mpirun refuses: it counts a rank per core.
            line.append("--oversubscribe")
        return [*line, *command]

    def rank_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment for `command`: that of the caller, less what an outer mpirun left."""
        return {**outside_of_mpi(environment), **self.environment}


def leader_pid(mpirun_pid: int) -> int | None:
    """Process id of rank 0 among the children of an mpirun, or None.

    To end a service in order, signal this process: an mpirun of Open MPI 5 that is asked to end
    kills its ranks at once, without asking them.

    Args:
        mpirun_pid: its process id.
    """
    for entry in PROC_DIR.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            parent = stat.rpartition(")")[2].split()[1]
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended while we looked, or is not ours to see
            continue
        if int(parent) == mpirun_pid and b"OMPI_COMM_WORLD_RANK=0" in variables:
            return int(entry.name)
    return None


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def outside_of_mpi(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy without the variables by which a process knows its rank.

    >>> outside_of_mpi({"HOME": "/root", "PMIX_RANK": "1", "OMPI_MCA_btl": "tcp,self"})
    {'HOME': '/root', 'OMPI_MCA_btl': 'tcp,self'}
    """
    return {
        name: value for name, value in environment.items() if not name.startswith(_RANK_VARIABLES)
    }


def find_mpirun(environment: Mapping[str, str] | None = None) -> Mpirun | None:
    """The first Open MPI that is installed: this environment's wheel, PATH, NVIDIA's images.

    Args:
        environment: whose PATH is searched; None takes the process's own.
    """
    variables = os.environ if environment is None else environment
    seen: set[Path] = set()
    for path in _candidates(variables):
        if path in seen or not os.access(path, os.X_OK):
            continue
        seen.add(path)
        found = inspect_mpirun(path)
        if found is not None:
            return found
    return None


def require_mpirun(environment: Mapping[str, str] | None = None) -> Mpirun:
    """`find_mpirun`, or an error that says what to install.

    Raises:
        EngineUnavailableError: there is no Open MPI.
    """
    found = find_mpirun(environment)
    if found is None:
        raise EngineUnavailableError(
            f"several ranks need Open MPI's mpirun, and none was found: {INSTALL_HINT} "
            "(Intel MPI and MPICH do not serve: TensorRT-LLM is linked with Open MPI)"
        )
    return found


def inspect_mpirun(path: Path) -> Mpirun | None:
    """What a given mpirun is; None when it is not Open MPI's, or does not answer."""
    try:
        answer = subprocess.run(
            [str(path), "--version"],
            env=outside_of_mpi(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(answer.stdout)
    if version is None:
        return None
    library = _library_of(path)
    # mpi4py's wheels look for any library by themselves; this names the one that fits.
    variables = {} if library is None else {"MPI4PY_LIBMPI": str(library)}
    return Mpirun(path, version[1], variables)


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    yield Path(sys.executable).parent / "mpirun"
    on_path = shutil.which("mpirun", path=environment.get("PATH"))
    if on_path is not None:
        yield Path(on_path)
    yield HPCX_DIR / "bin" / "mpirun"


def _library_of(mpirun: Path) -> Path | None:
    """The MPI library beside an mpirun: <prefix>/lib, or a folder of one machine kind in it."""
    for start in (mpirun, mpirun.resolve()):
        libs = start.parent.parent / "lib"
        for pattern in (LIBRARY, f"*-linux-gnu/{LIBRARY}"):
            for library in sorted(libs.glob(pattern)):
                return library
    return None
