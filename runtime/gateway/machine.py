# SPDX-License-Identifier: Apache-2.0
"""What the machine says about its memory and its GPUs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_MIB = 2**20
_QUERY = "--query-gpu=memory.total,memory.used,utilization.gpu"
_QUERY_TIMEOUT_S = 5.0
# How long an answer of nvidia-smi serves; it takes a good part of a second.
_FRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the GPUs together, or of the machine where there is none."""

    total: int
    used: int

    def as_texts(self) -> dict[str, str]:
        """As the MegaTTS3 platform shows it.

        >>> Memory(8 * 2**30, 2255 * 2**20).as_texts()
        {'total': '8GB', 'used': '2.2GB', 'free': '5.8GB'}
        """
        sizes = {"total": self.total, "used": self.used, "free": self.total - self.used}
        return {name: f"{round(size / 2**30, 1):g}GB" for name, size in sizes.items()}


def read_memory() -> tuple[Memory, bool]:
    """Memory in use, and whether it is that of a GPU."""
    gpus = _gpus()
    if gpus:
        return Memory(sum(g[0] for g in gpus) * _MIB, sum(g[1] for g in gpus) * _MIB), True
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    total, free = kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    return Memory(total, total - free), False


def gpu_utilization() -> float:
    """Busy share of all GPUs together, 0 to 1; not a number where there is none."""
    gpus = _gpus()
    return sum(gpu[2] for gpu in gpus) / len(gpus) / 100 if gpus else float("nan")


def memory_used_bytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _gpus() -> tuple[tuple[int, int, int], ...]:
    """Per GPU: MiB in all, MiB in use, percent busy."""
    return _ask_gpus(int(time.monotonic() / _FRESH_S))


@functools.lru_cache(maxsize=1)
def _ask_gpus(period: int) -> tuple[tuple[int, int, int], ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, _QUERY, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=True
        )
        rows = [line.split(",") for line in answer.stdout.splitlines() if line.strip()]
        return tuple((int(row[0]), int(row[1]), int(row[2])) for row in rows)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ()
