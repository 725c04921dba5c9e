# SPDX-License-Identifier: Apache-2.0
"""A small process between us and tritonserver, so that nothing is left behind.

It is run as a file by a bare interpreter (standard library only) and does three things: it
passes SIGTERM on to the server and kills the server's whole process group when the grace time
is over, or at once on SIGINT; it does the former when our end of its standard input closes,
which happens however we die; and it removes the server's shared memory afterwards. If the guard
itself is killed, the kernel kills the server.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
# Blocked and waited for: a handler could miss one that comes just before a blocking call.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def _become_server() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _terminate(server: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the server to leave; kill its group when it stays."""
    server.terminate()
    threading.Timer(grace_s, _kill_group, (server.pid,)).start()


def _kill_group(leader_pid: int) -> None:
    try:
        os.killpg(leader_pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _watch_parent(
    server: subprocess.Popen[bytes], grace_s: float, parent_gone: threading.Event
) -> None:
    sys.stdin.buffer.read()
    parent_gone.set()
    _terminate(server, grace_s)


def _wait(server: subprocess.Popen[bytes], grace_s: float) -> int:
    """Do as the signals say until the server has ended; gives its exit status."""
    while True:
        number = signal.sigwait(SIGNALS)
        status = server.poll()
        if status is not None:
            return status
        if number == signal.SIGTERM:
            _terminate(server, grace_s)
        elif number == signal.SIGINT:
            _kill_group(server.pid)


def remove_regions(prefix: str, shm_dir: Path) -> None:
    """Unlink the shared memory regions whose names begin with the prefix."""
    for region in shm_dir.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def main(argv: list[str]) -> int:
    """Run `argv[4:]` and watch over it.

    Args:
        argv: grace time in seconds, workspace, folder of shared memory, prefix of the
            regions, then the server's command line.

    Returns:
        The server's exit status; 128 + n when it ended by signal n.
    """
    grace_s, workspace, shm_dir, prefix = float(argv[0]), Path(argv[1]), Path(argv[2]), argv[3]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    server = subprocess.Popen(
        argv[4:],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_become_server,
    )
    parent_gone = threading.Event()
    watch = (server, grace_s, parent_gone)
    threading.Thread(target=_watch_parent, args=watch, name="parent-watch", daemon=True).start()
    status = _wait(server, grace_s)
    _kill_group(server.pid)
    remove_regions(prefix, shm_dir)
    if parent_gone.is_set():
        shutil.rmtree(workspace, ignore_errors=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    # Not sys.exit: the timer of the grace time and the reader of standard input may still run.
    os._exit(main(sys.argv[1:]))
