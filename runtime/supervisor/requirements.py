# SPDX-License-Identifier: Apache-2.0
"""Says whether the embedded server can run here, and what to install when it cannot."""

from __future__ import annotations

import ctypes.util
import os
import platform
import sys
from pathlib import Path

from duologue.runtime.supervisor.triton_install import find_triton, libpython_dir

# The wheel is tagged manylinux_2_35_x86_64; its stubs up to 3.12 fit the packages we build on.
MIN_GLIBC = (2, 35)
MACHINES = ("x86_64", "AMD64")
PYTHONS = ((3, 10), (3, 11), (3, 12))
# One region of 1 MiB per model to begin with, which grows under load (10 MB were seen).
MIN_SHM_BYTES = 48 << 20
SHM_DIR = Path("/dev/shm")
INSTALL_HINT = "pip install 'duologue[cpu]'"


def why_not_embedded() -> str | None:
    """Name the first thing that keeps the embedded tritonserver from running here.

    Returns:
        One sentence with the reason and what to install or change, or None when all fits.
    """
    checks = (_wrong_system, _wrong_python, _old_glibc, _no_wheel, _no_libpython, _small_shm)
    for check in checks:
        reason = check()
        if reason is not None:
            return reason
    return None


def _wrong_system() -> str | None:
    system, machine = platform.system(), platform.machine()
    if system != "Linux":
        return (
            f"the embedded Triton server exists for Linux only, this is {system or 'unknown'}: "
            "use the container, or duologue's engine in process"
        )
    if machine not in MACHINES:
        return f"the embedded Triton server exists for x86_64 only, this machine is {machine}"
    return None


def _wrong_python() -> str | None:
    here = (sys.version_info.major, sys.version_info.minor)
    if here in PYTHONS:
        return None
    return (
        f"the embedded Triton server runs with Python 3.10 to 3.12, this is {here[0]}.{here[1]}: "
        "install python3.12 and make a new environment with it"
    )


def _old_glibc() -> str | None:
    name, version = platform.libc_ver()
    needed = ".".join(str(part) for part in MIN_GLIBC)
    if name != "glibc":
        return f"the embedded Triton server needs glibc {needed} or newer, this system has none"
    got = tuple(int(part) for part in version.split(".")[:2])
    if got < MIN_GLIBC:
        return (
            f"the embedded Triton server needs glibc {needed} or newer, this system has {version}: "
            "use Ubuntu 22.04, Debian 12 or newer, or the container"
        )
    return None


def _no_wheel() -> str | None:
    wheel = find_triton()
    if wheel is None:
        return f"the package nvidia-pytriton is not installed: {INSTALL_HINT}"
    missing = [path for path in (wheel.binary, *wheel.python_backend_files) if not path.is_file()]
    if missing:
        return f"the package nvidia-pytriton lacks {missing[0].name}: reinstall with {INSTALL_HINT}"
    return None


def _no_libpython() -> str | None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    library = f"libpython{version}.so.1.0"
    if (libpython_dir() / library).exists():
        return None
    if ctypes.util.find_library(f"python{version}") is not None:
        return None
    return (
        f"the embedded Triton server needs {library}, which is neither in {libpython_dir()} nor "
        f"in the system's library folders: install libpython{version} (apt), or a Python that was "
        "built with --enable-shared"
    )


def _small_shm() -> str | None:
    if not SHM_DIR.is_dir():
        return f"{SHM_DIR} does not exist; Triton's Python models talk through it"
    stats = os.statvfs(SHM_DIR)
    free = stats.f_bavail * stats.f_frsize
    if free < MIN_SHM_BYTES:
        return (
            f"{SHM_DIR} has {free >> 20} MiB free; at least {MIN_SHM_BYTES >> 20} MiB are needed "
            "(docker run --shm-size=1g)"
        )
    return None
