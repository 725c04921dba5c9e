from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from duologue.runtime.supervisor.process import GuardedProcess, Leftovers

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the guard needs Linux"),
    pytest.mark.timeout(180),
]

# A server with a helper, as tritonserver has its stubs. It says when it is ready.
SERVER = """
import pathlib, signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids").write_text(f"{__import__('os').getpid()} {helper.pid}")
pathlib.Path("pids").rename("ready")
time.sleep(600)
"""


def leftovers(root: Path) -> Leftovers:
    for name in ("workspace", "shm", "cwd"):
        (root / name).mkdir(exist_ok=True)
    (root / "shm" / "ours_1").touch()
    (root / "shm" / "other").touch()
    return Leftovers(root / "workspace", root / "shm", "ours_")


def start(root: Path, *arguments: str, grace_s: float = 10) -> GuardedProcess:
    return GuardedProcess(
        [sys.executable, "-c", SERVER, *arguments],
        environment=os.environ,
        cwd=(leftovers(root).workspace.parent / "cwd"),
        log_path=root / "log",
        grace_s=grace_s,
        leftovers=leftovers(root),
    )


def pids(root: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while not (root / "cwd" / "ready").exists():
        assert time.monotonic() < deadline, (root / "log").read_text()
        time.sleep(0.01)
    return [int(pid) for pid in (root / "cwd" / "ready").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(*gone: int) -> None:
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in gone):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.01)


def test_a_stop_ends_the_server_and_its_helpers_and_cleans_up(tmp_path: Path) -> None:
    process = start(tmp_path)
    server, helper = pids(tmp_path)

    assert process.stop() == 7
    assert process.stop() == 7
    wait_until_gone(server, helper)
    assert [path.name for path in (tmp_path / "shm").iterdir()] == ["other"]
    assert (tmp_path / "workspace").exists()


def test_a_server_that_does_not_listen_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    process = start(tmp_path, "stubborn", grace_s=0.3)
    server, helper = pids(tmp_path)

    assert process.stop() == 128 + signal.SIGKILL
    wait_until_gone(server, helper)
    assert not (tmp_path / "shm" / "ours_1").exists()


def test_force_does_not_wait(tmp_path: Path) -> None:
    process = start(tmp_path, "stubborn", grace_s=600)
    server, helper = pids(tmp_path)

    assert process.stop(force=True) == 128 + signal.SIGKILL
    wait_until_gone(server, helper)


def test_the_status_of_a_server_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    process = GuardedProcess(
        [sys.executable, "-c", "import sys; print('reason'); sys.exit(3)"],
        environment=os.environ,
        cwd=tmp_path,
        log_path=tmp_path / "log",
        grace_s=1,
        leftovers=leftovers(tmp_path),
    )

    assert process.wait(60) == 3
    assert process.stop() == 3
    assert (tmp_path / "log").read_text() == "reason\n"


PARENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_guarded_process import start
process = start(Path(sys.argv[2]))
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_us_however_we_die(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command) as parent:
        server, helper = pids(tmp_path)
        parent.send_signal(number)

    wait_until_gone(server, helper)
    deadline = time.monotonic() + 20
    while (tmp_path / "workspace").exists():
        assert time.monotonic() < deadline, "the workspace was left behind"
        time.sleep(0.01)
    assert not (tmp_path / "shm" / "ours_1").exists()


def test_nothing_outlives_the_guard(tmp_path: Path) -> None:
    process = start(tmp_path)
    server, _ = pids(tmp_path)
    stat = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    guard = int(stat[1])

    os.kill(guard, signal.SIGKILL)

    wait_until_gone(server)
    assert process.stop() == -signal.SIGKILL
