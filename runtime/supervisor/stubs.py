# SPDX-License-Identifier: Apache-2.0
"""The processes in which Triton runs our models, one each, called stubs."""

from __future__ import annotations

from pathlib import Path

from duologue.runtime.supervisor.triton_install import STUB_NAME

PROC_DIR = Path("/proc")


def find_stubs(shm_prefix: str) -> dict[int, str]:
    """The stubs of one server.

    Args:
        shm_prefix: begins the names of the server's shared memory regions.

    Returns:
        Process id -> name of the model.
    """
    stubs: dict[int, str] = {}
    for entry in PROC_DIR.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended while we looked, or is not ours to see
            continue
        is_stub = Path(arguments[0]).name == STUB_NAME
        if is_stub and any(argument.startswith(shm_prefix) for argument in arguments):
            # The first argument is <repository>/<model>/<version>/model.py.
            stubs[int(entry.name)] = Path(arguments[1]).parents[1].name
    return stubs


def is_running(process_id: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        stat = (PROC_DIR / str(process_id) / "stat").read_text(encoding="utf-8")
    except OSError:
        return False
    # The name before it is in brackets and may hold anything.
    return stat.rpartition(")")[2].split()[0] != "Z"
