from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.runtime.supervisor import detached_log
from duologue.runtime.supervisor.detached_log import (
    log_path,
    own_log,
    remove_old_logs,
    shorten,
    shorten_own_log,
)


def write(path: Path, age_s: int, text: str = "line\n") -> Path:
    path.write_text(text)
    os.utime(path, (1_000_000 - age_s, 1_000_000 - age_s))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_newest_logs_stay_and_those_that_are_written(tmp_path: Path) -> None:
    logs = [write(log_path(pid, tmp_path), age_s=pid) for pid in range(1, 9)]
    write(Path(f"{logs[5]}.1"), age_s=0)
    write(Path(f"{logs[0]}.1"), age_s=0)

    remove_old_logs(tmp_path, running={8}, kept=2)

    assert names(tmp_path) == {*(logs[i].name for i in (0, 1, 7)), f"{logs[0].name}.1"}


def test_logs_of_other_machines_and_other_files_are_left_alone(tmp_path: Path) -> None:
    ours = write(log_path(1, tmp_path), 1)
    older = write(tmp_path / "serve-77.log", 2)
    theirs = write(log_path(1, tmp_path, "other.lan"), 3)
    state = write(tmp_path / "serve-other.lan-1.json", 4)
    draft = write(tmp_path / "serve-of-other.lan-1.log", 5)

    remove_old_logs(tmp_path, running=set(), kept=0)

    assert names(tmp_path) == {theirs.name, state.name, draft.name}
    assert not ours.exists()
    assert not older.exists(), "of a version that named no machine"


def test_a_log_that_is_too_long_is_put_aside_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as writer:
        for number in range(3):
            writer.write(b"%d" % number * 100)
            shorten(path, max_bytes=100)
        writer.write(b"end")
        shorten(path, max_bytes=100)

    assert path.read_bytes() == b"end"
    assert (tmp_path / "log.1").read_bytes() == b"2" * 100


def test_a_log_without_room_for_a_second_one_is_cut_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(detached_log.shutil, "copyfile", fail)
    path = write(tmp_path / "log", 0, "x" * 100)
    shorten(path, max_bytes=100)
    assert path.read_bytes() == b""


SERVER = """
import sys
from pathlib import Path
from duologue.runtime.supervisor import detached_log
sys.stdout.write(sys.stdin.readline())
sys.stdout.flush()
detached_log.shorten(detached_log.own_log(Path(sys.argv[1])), 10)
detached_log.shorten_own_log(Path(sys.argv[1]))
print("still here")
"""


def test_a_process_knows_its_own_log_under_its_new_name(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    with draft.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=log,
            text=True,
        )
    path = draft.rename(log_path(child.pid, tmp_path))
    child.communicate("a line that is too long\n", timeout=60)
    assert child.returncode == 0
    assert path.read_text() == "still here\n"
    assert Path(f"{path}.1").read_text() == "a line that is too long\n"


def test_who_prints_elsewhere_has_no_log_to_shorten(tmp_path: Path) -> None:
    path = write(log_path(os.getpid(), tmp_path), 0)
    assert own_log(tmp_path) is None
    shorten_own_log(tmp_path)
    assert path.read_text() == "line\n"
    assert own_log(tmp_path / "nowhere") is None
