from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from duologue.runtime.supervisor.state import (
    ServerState,
    host_name,
    process_started,
    read_states,
    remove_state,
    state_dir,
    write_state,
)


def our_state() -> ServerState:
    started = process_started(os.getpid())
    assert started is not None
    return ServerState(os.getpid(), started, "1.2.3", "2026-01-01T00:00:00+00:00")


def test_a_written_state_is_read_back_until_it_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    state = replace(our_state(), phase="ready", facts={"grpc_url": "127.0.0.1:1"})
    write_state(state, folder)
    assert read_states(folder) == [state]
    assert folder.stat().st_mode & 0o777 == 0o700
    remove_state(state, folder)
    remove_state(state, folder)
    assert list(folder.iterdir()) == []


def test_a_dead_server_is_recognised_and_its_file_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        pass
    write_state(replace(our_state(), pid=process.pid), tmp_path)
    assert read_states(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_another_process_with_the_same_id_is_not_taken_for_the_server(tmp_path: Path) -> None:
    ours = our_state()
    write_state(replace(ours, pid_started=ours.pid_started - 1), tmp_path)
    assert read_states(tmp_path) == []


def test_files_that_are_none_are_removed_and_newer_fields_passed_over(tmp_path: Path) -> None:
    (tmp_path / "serve-1.json").write_text("{")
    (tmp_path / "serve-2.json").write_text("[]")
    write_state(our_state(), tmp_path)
    (path,) = tmp_path.glob(f"serve-*-{os.getpid()}.json")
    path.write_text(path.read_text().replace("{", '{"mood": "good", ', 1))
    assert read_states(tmp_path) == [our_state()]
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> ServerState:
    """A server of another machine, whose process id is that of a process here that has ended."""
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "gpu-2.lan")
        with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
            pass
        return replace(our_state(), pid=process.pid, host=host_name())


def test_what_another_machine_wrote_is_shown_and_left_alone(
    elsewhere: ServerState, tmp_path: Path
) -> None:
    write_state(elsewhere, tmp_path)
    write_state(replace(our_state(), started_at="2026-02-01"), tmp_path)
    there, here = read_states(tmp_path)
    assert (there.host, there.is_here, there.is_alive) == ("gpu-2.lan", False, False)
    assert (here.is_here, here.is_alive) == (True, True)
    broken = tmp_path / "serve-gpu-2.lan-7.json"
    broken.write_text("{")
    assert read_states(tmp_path) == [there, here]
    assert broken.exists()


def test_equal_process_ids_of_two_machines_have_files_of_their_own(
    elsewhere: ServerState, tmp_path: Path
) -> None:
    there = replace(elsewhere, pid=os.getpid(), pid_started=1)
    write_state(our_state(), tmp_path)
    write_state(there, tmp_path)
    assert len(read_states(tmp_path)) == 2
    remove_state(our_state(), tmp_path)
    assert read_states(tmp_path) == [there]


def test_a_file_of_a_version_that_named_no_machine_is_ours(tmp_path: Path) -> None:
    values = {name: value for name, value in asdict(our_state()).items() if name != "host"}
    (tmp_path / "serve-1.json").write_text(json.dumps(values))
    (state,) = read_states(tmp_path)
    assert state.is_here
    (tmp_path / "serve-1.json").write_text(json.dumps({**values, "pid_started": 0}))
    assert read_states(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("gpu-1.lan", "gpu-1.lan"), ("a/b", "a_b"), ("", "localhost")]
)
def test_the_name_of_a_machine_can_stand_in_the_name_of_a_file(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert host_name() == expected


def test_the_folder_follows_the_environment() -> None:
    assert state_dir({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/duologue")
    assert state_dir({"XDG_STATE_HOME": "/s"}) == Path("/s/duologue")
    assert state_dir({}) == Path.home() / ".local" / "state" / "duologue"
