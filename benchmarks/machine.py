# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on: without it, a figure says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "duologue",
    "numpy",
    "onnxruntime",
    "torch",
    "transformers",
    "tensorrt_llm",
    "tritonclient",
    "nvidia-pytriton",
)
_CPU_INFO = Path("/proc/cpuinfo")
_GPU_QUERY = ("name", "driver_version", "memory.total", "memory.used", "utilization.gpu")
_NVIDIA_SMI_TIMEOUT_S = 5.0


def describe_machine() -> dict[str, Any]:
    """Hardware, versions, and how busy the machine was with other work.

    `load_1m` above a few tenths at the start means that the figures are disturbed.
    """
    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "gpus": [gpu["name"] for gpu in query_gpus()],
        "driver": next((gpu["driver_version"] for gpu in query_gpus()), None),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "load_1m": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def query_gpus() -> list[dict[str, str]]:
    """One entry per NVIDIA GPU, by the names of `nvidia-smi --query-gpu`; none without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_GPU_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_NVIDIA_SMI_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(done.stdout)


def parse_gpus(output: str) -> list[dict[str, str]]:
    r"""Read the lines of `nvidia-smi`.

    >>> parse_gpus("NVIDIA T4, 550.1, 15360, 812, 7\n")[0]["memory.used"]
    '812'
    """
    rows = [[part.strip() for part in line.split(",")] for line in output.splitlines() if line]
    return [dict(zip(_GPU_QUERY, row, strict=True)) for row in rows if len(row) == len(_GPU_QUERY)]


def _cpu_name() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
