from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import pytest
from raw_door import pcm_of

from duologue.client import contract
from duologue.model_repository import repository_path
from duologue.runtime.supervisor.command import server_environment
from duologue.runtime.supervisor.layout import prepare_workspace
from duologue.runtime.supervisor.probe import port_is_open, speak_two_frames
from duologue.runtime.supervisor.process import GuardedProcess, Leftovers
from duologue.runtime.supervisor.triton_install import find_triton

README = (repository_path() / "README.md").read_text(encoding="utf-8")
STREAMING, WHOLE, COPY = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CURL, SERVE = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def here(text: str, door: Any) -> str:
    """An example with this server's ports."""
    return text.replace("localhost:8001", door.url).replace(
        "localhost:8000", door.http.removeprefix("http://")
    )


def run(code: str, cwd: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_streaming_example_writes_the_audio(door: Any, tmp_path: Path) -> None:
    run(here(STREAMING, door), tmp_path)

    with wave.open(str(tmp_path / "talk.wav")) as wav:
        assert wav.getframerate() == 24_000
        data = wav.readframes(wav.getnframes())
    expected = pcm_of(door.url, "[S1]Coffee?[S2]Please.", (contract.SEED, [7]))
    assert data == expected.tobytes()


def test_the_whole_example_tells_a_duration(door: Any, tmp_path: Path) -> None:
    said = run(here(WHOLE, door), tmp_path)

    assert float(said.removesuffix(" seconds\n")) > 0


def test_the_curl_example_gives_events(door: Any) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["bash", "-c", here(CURL, door)], capture_output=True, text=True, timeout=60, check=True
    )

    events = [json.loads(e.removeprefix("data: ")) for e in done.stdout.split("\n\n") if e]
    assert [event["CHUNK_IDX"] for event in events] == list(range(len(events)))
    assert events[-1]["IS_LAST"] is True


def test_a_server_started_by_hand_loads_the_copied_models(
    needs_triton: None, tmp_path: Path
) -> None:
    run(COPY, tmp_path)
    wheel = find_triton()
    assert wheel is not None
    for name in ("workspace", "repository"):
        (tmp_path / name).mkdir()
    workspace = prepare_workspace(tmp_path / "workspace", wheel, tmp_path / "repository", {})
    command = SERVE.replace("/path/to/models", str(tmp_path / "models")).split()
    command[0] = str(wheel.binary)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command += [
        f"--backend-directory={workspace.backends}",
        f"--backend-config=python,shm-region-prefix-name=byhand_{port}_",
        *(f"--grpc-port={port}", "--allow-http=false", "--allow-metrics=false"),
    ]
    process = GuardedProcess(
        command,
        environment=server_environment(wheel, os.environ),
        cwd=workspace.cwd,
        log_path=workspace.log,
        grace_s=20,
        leftovers=Leftovers(workspace.root, Path("/dev/shm"), f"byhand_{port}_"),
    )
    try:
        while not port_is_open("127.0.0.1", port):
            assert process.wait(0.05) is None, workspace.log.read_text()
        assert speak_two_frames(f"127.0.0.1:{port}", 30) > 0
    finally:
        status = process.stop()
    assert status == 0
