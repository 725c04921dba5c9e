# SPDX-License-Identifier: Apache-2.0
"""Processor and memory use of this process and of a server while a load runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import psutil

from duologue.benchmarks.machine import query_gpus

_PERIOD_S = 0.25
_PERCENT = 100.0
_MIB = 2**20


class ResourceSampler:
    """Watches processes for the length of a `with` block; `figures` tells what it saw.

    Args:
        server_pid: the server's first process, whose children count with it; None takes the
            children of this process, among which a server of our own is.
    """

    def __init__(self, server_pid: int | None = None) -> None:
        self._own = psutil.Process()
        self._root = self._own if server_pid is None else psutil.Process(server_pid)
        self._counts_root = server_pid is not None
        self._cpu_s = [0.0, 0.0]
        self._peak_bytes = [0, 0]
        self._gpu_mib: list[float] = []
        self._gpu_percent: list[float] = []
        self._started_s = self._stopped_s = 0.0
        self._has_gpu = bool(query_gpus())
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bench-resources", daemon=True)

    def figures(self) -> dict[str, Any]:
        """CPU in percent of one core, peak memory in MiB; None where nothing was seen."""
        wall_s = max(self._stopped_s - self._started_s, 1e-9)
        has_server = self._peak_bytes[1] > 0
        own, server = (_PERCENT * seconds / wall_s for seconds in self._cpu_s)
        return {
            "client_cpu_percent": own,
            "client_rss_mib": self._peak_bytes[0] / _MIB,
            "server_cpu_percent": server if has_server else None,
            "server_rss_mib": self._peak_bytes[1] / _MIB if has_server else None,
            "gpu_memory_mib": max(self._gpu_mib, default=None),
            "gpu_percent": max(self._gpu_percent, default=None),
        }

    def __enter__(self) -> ResourceSampler:
        self._started_s = time.monotonic()
        self._before = [self._cpu_time_s([self._own]), self._cpu_time_s(self._servers())]
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        self._stopped_s = time.monotonic()
        after = [self._cpu_time_s([self._own]), self._cpu_time_s(self._servers())]
        self._cpu_s = [max(0.0, a - b) for a, b in zip(after, self._before, strict=True)]

    def _watch(self) -> None:
        while True:
            sizes = [self._rss_bytes([self._own]), self._rss_bytes(self._servers())]
            self._peak_bytes = [max(a, b) for a, b in zip(sizes, self._peak_bytes, strict=True)]
            if self._has_gpu:
                gpus = query_gpus()
                self._gpu_mib.append(sum(float(gpu["memory.used"]) for gpu in gpus))
                self._gpu_percent.append(sum(float(gpu["utilization.gpu"]) for gpu in gpus))
            if self._end.wait(_PERIOD_S):
                return

    def _servers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            children = self._root.children(recursive=True)
            return [self._root, *children] if self._counts_root else children
        return []

    @staticmethod
    def _cpu_time_s(processes: list[psutil.Process]) -> float:
        times = list(_each(processes, "cpu_times"))
        return float(sum(one.user + one.system for one in times))

    @staticmethod
    def _rss_bytes(processes: list[psutil.Process]) -> int:
        return int(sum(one.rss for one in _each(processes, "memory_info")))


def _each(processes: list[psutil.Process], method: str) -> Iterator[Any]:
    """One answer per process that is still there."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            yield getattr(process, method)()
