from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from duologue.runtime.supervisor.state import (
    ServerState,
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
    remove_state(state.pid, folder)
    remove_state(state.pid, folder)
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
    path = tmp_path / f"serve-{os.getpid()}.json"
    path.write_text(path.read_text().replace("{", '{"mood": "good", ', 1))
    assert read_states(tmp_path) == [our_state()]
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_follows_the_environment() -> None:
    assert state_dir({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/duologue")
    assert state_dir({"XDG_STATE_HOME": "/s"}) == Path("/s/duologue")
    assert state_dir({}) == Path.home() / ".local" / "state" / "duologue"
