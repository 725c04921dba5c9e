# SPDX-License-Identifier: Apache-2.0
"""Open MPI, what stands in its way, and whether TensorRT-LLM can be imported."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
from collections.abc import Mapping

from duologue.runtime.diagnosis.finding import Finding, fault, ok, warning
from duologue.runtime.supervisor.mpi_launch import INSTALL_HINT, LIBRARY, Mpirun, find_mpirun
from duologue.runtime.supervisor.mpi_probe import ImportProbe, probe_import

INTEL_ROOT = "I_MPI_ROOT"
TENSORRT_LLM = "tensorrt_llm"


def check_mpi(
    mpirun: Mpirun | None = None, environment: Mapping[str, str] | None = None
) -> Finding:
    """Open MPI's mpirun and library; needed for several ranks only.

    Args:
        mpirun: the one to judge; None looks for it.
        environment: whose variables count; None takes the process's own.
    """
    values = os.environ if environment is None else environment
    found = mpirun or find_mpirun(values)
    if found is None:
        return warning("MPI", "no mpirun of Open MPI; one rank works without", INSTALL_HINT)
    first = shutil.which("mpirun", path=values.get("PATH"))
    text = f"Open MPI {found.version} ({found.path})"
    if values.get(INTEL_ROOT):
        return warning(
            "MPI",
            f"{text}, but {INTEL_ROOT} is set: Intel's libmpi may be loaded instead",
            f"unset {INTEL_ROOT}, and take Intel's folders out of LD_LIBRARY_PATH",
        )
    library = found.environment.get("MPI4PY_LIBMPI") or ctypes.util.find_library("mpi")
    if library is None:
        return warning("MPI", f"{text} without {LIBRARY}", INSTALL_HINT)
    if first is not None and os.path.realpath(first) != os.path.realpath(found.path):
        return ok("MPI", f"{text}; another mpirun, {first}, stands first on PATH and is not taken")
    return ok("MPI", text)


def check_orted() -> Finding:
    """The daemon that Open MPI 4 starts for its ranks."""
    daemons = [name for name in ("orted", "prted") if shutil.which(name)]
    if daemons:
        return ok("MPI daemon", ", ".join(daemons))
    return ok("MPI daemon", "none on PATH; mpirun finds the one beside it")


def check_tensorrt_llm(timeout_s: float, probe: ImportProbe | None = None) -> Finding:
    """Whether TensorRT-LLM can be imported, and how.

    Args:
        timeout_s: limit of each way that is tried.
        probe: what was found already; None tries now.
    """
    if probe is None:
        if importlib.util.find_spec(TENSORRT_LLM) is None:
            return ok("TensorRT-LLM", "not installed; the engines torch and onnx need none")
        probe = probe_import(TENSORRT_LLM, timeout_s=timeout_s)
    if probe.way is None:
        return fault(
            "TensorRT-LLM",
            probe.describe(),
            "take --engine torch, or run in NVIDIA's TensorRT-LLM image",
        )
    return ok("TensorRT-LLM", probe.describe())
