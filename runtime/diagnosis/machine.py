# SPDX-License-Identifier: Apache-2.0
"""The machine: shared memory, ports, disk, and the Triton server that is installed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from duologue.runtime.diagnosis.finding import Finding, fault, ok, warning
from duologue.runtime.supervisor.requirements import MIN_SHM_BYTES, SHM_DIR, why_not_embedded
from duologue.runtime.supervisor.triton_install import IMAGE_VERSION

SECURITY_FLOOR = (26, 6)
"""Oldest release of Triton that may be reached from outside: what was published as
CVE-2025-23310 to 23334 was mended in 25.07, CVE-2026-24207 to 24209 after 26.05 (NVIDIA's
security bulletins of August 2025 and May 2026)."""

EMBEDDED_VERSION = "24.10"
COMFORTABLE_SHM_BYTES = 256 << 20
MAX_DISK_USE = 0.8
MIN_FREE_BYTES = 2 << 30


def check_triton(environment: Mapping[str, str] | None = None) -> Finding:
    """Which tritonserver would run here, against the security floor."""
    values = os.environ if environment is None else environment
    version = values.get(IMAGE_VERSION)
    if version:
        return _judge_container(version)
    reason = why_not_embedded()
    if reason is not None:
        return warning("Triton", reason, "until then `duologue say` speaks in process")
    floor = f"{SECURITY_FLOOR[0]}.{SECURITY_FLOOR[1]:02}"
    return ok(
        "Triton",
        f"embedded, {EMBEDDED_VERSION}: below the security floor {floor}, so it stays on "
        "loopback behind the gateway",
    )


def _judge_container(version: str) -> Finding:
    parts = version.split(".")
    numbers = tuple(int(part) for part in parts[:2] if part.isdecimal())
    floor = f"{SECURITY_FLOOR[0]}.{SECURITY_FLOOR[1]:02}"
    if len(numbers) < 2:
        return warning("Triton", f"{IMAGE_VERSION} is {version!r}", f"use {floor} or newer")
    if numbers < SECURITY_FLOOR:
        return warning(
            "Triton",
            f"{version}, below the security floor {floor}",
            "keep it on loopback, or take a newer image",
        )
    return ok("Triton", version)


def check_shared_memory(directory: Path = SHM_DIR) -> Finding:
    """Room for what Triton's Python models exchange."""
    if not directory.is_dir():
        return warning("shared memory", f"no {directory}", "Triton's Python models need it")
    stats = os.statvfs(directory)
    free = stats.f_bavail * stats.f_frsize
    found = f"{directory}: {free >> 20} MiB free"
    if free < MIN_SHM_BYTES:
        return fault("shared memory", found, "docker run --shm-size=1g")
    if free < COMFORTABLE_SHM_BYTES:
        return warning("shared memory", found, "docker run --shm-size=1g, for many streams")
    return ok("shared memory", found)


def check_ports(ports: Iterable[tuple[str, int]], host: str = "127.0.0.1") -> Finding:
    """Ports that `duologue serve` will ask for.

    Args:
        ports: name and number of each.
        host: where it will listen.
    """
    asked = list(ports)
    taken = [f"{name} {port}" for name, port in asked if not _is_free(host, port)]
    if taken:
        return warning(
            "ports",
            f"taken: {', '.join(taken)}",
            "end what listens there (`duologue status` names servers of ours), or choose others",
        )
    return ok("ports", "free: " + ", ".join(f"{name} {port}" for name, port in asked))


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as door:
        # As servers do: a port whose last connections are still fading away is free.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host, port))
        except OSError:
            return False
    return True


def check_disk(directories: Iterable[Path]) -> list[Finding]:
    """How full the disks are that hold these folders, one line per disk."""
    findings, seen = [], set()
    for directory in directories:
        if not directory.exists():
            continue
        device = directory.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(directory)
        share = 1 - usage.free / usage.total
        found = f"{directory}: {share:.0%} full, {usage.free >> 30} GiB free"
        if usage.free < MIN_FREE_BYTES:
            findings.append(fault("disk", found, "make room: at least 2 GiB are needed"))
        elif share > MAX_DISK_USE:
            findings.append(warning("disk", found, "make room before it fills up"))
        else:
            findings.append(ok("disk", found))
    return findings
