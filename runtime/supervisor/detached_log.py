# SPDX-License-Identifier: Apache-2.0
"""What servers in the background print: a file each, none too long, and not too many.

The folder is often in memory ($XDG_RUNTIME_DIR), and may be shared with other machines. So a
server keeps its own file short, a new one removes the oldest of this machine that nobody writes
any more, and those of other machines are left alone. The file of a server of several ranks is
their parent's, which keeps it short for all of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from duologue.runtime.supervisor.state import host_name
from duologue.runtime.supervisor.stubs import PROC_DIR

KEPT_LOGS = 5
MAX_LOG_BYTES = 10_000_000
_STDOUT_FD = 1
_BEFORE = ".1"


def log_path(pid: int, directory: Path, host: str | None = None) -> Path:
    """Where a server writes when it runs in the background.

    Args:
        pid: of its process.
        directory: of the states.
        host: its machine; None is this one.
    """
    return directory / f"serve-{host or host_name()}-{pid}.log"


def remove_old_logs(directory: Path, running: set[int], kept: int = KEPT_LOGS) -> None:
    """Keep the newest logs of servers of this machine that have ended, and those of running ones.

    Args:
        directory: of the states.
        running: process ids of servers that run here.
        kept: how many of the others stay.
    """
    # Without a machine's name: of a version that wrote none.
    named = re.compile(rf"serve-(?:{re.escape(host_name())}-)?(\d+)\.log")
    ended = []
    for path in directory.glob("serve-*.log"):
        match = named.fullmatch(path.name)
        if match is None or int(match[1]) in running or _is_written(path, int(match[1])):
            continue
        with contextlib.suppress(OSError):
            ended.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(ended, reverse=True)[kept:]:
        for each in (path, _before(path)):
            with contextlib.suppress(OSError):
                each.unlink(missing_ok=True)


def _is_written(path: Path, pid: int) -> bool:
    """Whether a process still prints into a file: the parent of ranks, of which no state tells."""
    try:
        return os.path.samestat(path.stat(), (PROC_DIR / str(pid) / "fd" / str(_STDOUT_FD)).stat())
    except OSError:
        return False


def own_log(directory: Path) -> Path | None:
    """The file that this process prints into, if it is one of ours; else None.

    Args:
        directory: of the states.
    """
    path = log_path(os.getpid(), directory)
    try:
        return path if os.path.samestat(path.stat(), os.fstat(_STDOUT_FD)) else None
    except OSError:
        return None


def shorten(path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
    """Put what a file holds aside when that is too much, over what was put aside before.

    Whoever writes it goes on at its new end: it was opened for appending. A line that comes in
    the very moment can be lost.

    Args:
        path: of the file.
        max_bytes: from which on.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size >= max_bytes:
            try:
                shutil.copyfile(path, _before(path))
            finally:
                # Also where there is no room for a second one.
                os.truncate(path, 0)


def shorten_own_log(directory: Path) -> None:
    """Shorten what this process prints into, if it is one of ours and too long.

    Args:
        directory: of the states.
    """
    path = own_log(directory)
    if path is not None:
        shorten(path)


def _before(path: Path) -> Path:
    return path.with_name(path.name + _BEFORE)
