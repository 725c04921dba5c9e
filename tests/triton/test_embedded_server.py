from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from raw_door import RawStream, pcm_of, values

from duologue.client import contract
from duologue.models import noise_bundle_path
from duologue.runtime.codec.registry import sees_gpu
from duologue.runtime.config import Bundle
from duologue.runtime.errors import ConfigError, DuologueError, EngineUnavailableError
from duologue.runtime.supervisor.embedded import EmbeddedServer

pytestmark = pytest.mark.usefixtures("needs_triton")


def regions_of(process_id: int) -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith(f"duologue_{process_id}_")]


def servers_of(process_id: int) -> list[int]:
    """Processes whose command line names shared memory regions of a parent."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"duologue_{process_id}_".encode() in command:
            found.append(int(entry.name))
    return found


def until_nothing_is_left_of(process_id: int) -> None:
    deadline = time.monotonic() + 30
    while regions_of(process_id) or servers_of(process_id):
        assert time.monotonic() < deadline, (regions_of(process_id), servers_of(process_id))
        time.sleep(0.05)


def test_a_server_starts_answers_and_leaves_nothing(door: Any) -> None:
    others = set(regions_of(os.getpid()))
    server = EmbeddedServer("noise", max_slots=2, codec_engine="torch", codec_device="cpu")

    with server:
        assert set(regions_of(os.getpid())) > others
        assert server.http_url is None
        assert server.metrics_url is None
        assert server.wait(0) is None
        facts = server.describe()
        built = Bundle.load(noise_bundle_path()).engines["onnx"]
        assert (facts["engine"], facts["slots"]) == ("onnx", 2)
        assert (facts["codec_engine"], facts["codec_device"]) == ("torch", "cpu")
        assert facts["precision"] == built["dtype"]
        assert facts["kv_bytes"] > 0

    assert server.wait(0) == server.exit_status == 0
    assert set(regions_of(os.getpid())) == others
    server.stop()


def test_a_running_stream_is_finished_before_the_server_stops() -> None:
    script = (contract.SCRIPT, ["[S1]Let me finish.[S2]Of course. " + "Go on, then. " * 30])
    with EmbeddedServer("noise") as server:
        stream = RawStream(server.grpc_url, script, (contract.MAX_FRAMES, [600]))
        stream.next()
        with ThreadPoolExecutor(1) as pool:
            heard = pool.submit(listen, stream)
            server.stop()
            assert bool(heard.result()[-1]["IS_LAST"][0])

    assert server.exit_status == 0


def listen(stream: RawStream) -> list[dict[str, Any]]:
    """All chunks of a stream, whose connection is closed at its end."""
    chunks = [values(result) for result in stream]
    stream.close()
    return chunks[:-1]


def test_a_bundle_that_does_not_exist_is_named_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="no-such-bundle"):
        EmbeddedServer("no-such-bundle")


@pytest.mark.skipif(sees_gpu(), reason="there is a GPU")
def test_a_gpu_for_the_codec_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(EngineUnavailableError, match="no torch here sees a GPU"):
        EmbeddedServer("noise", codec_device="cuda").start()


def broken_bundle(root: Path) -> Path:
    """The default bundle with a tokenizer that is none: only loading shows it."""
    for path in noise_bundle_path().iterdir():
        (root / path.name).symlink_to(path)
    (root / "tokenizer.json").unlink()
    (root / "tokenizer.json").write_text("{}")
    return root


@pytest.mark.parametrize(
    ("engine", "kind"), [("auto", ConfigError), ("warp", ConfigError), ("trtllm", None)]
)
def test_a_model_that_does_not_load_tells_why_at_once(
    tmp_path: Path, engine: str, kind: type[DuologueError] | None
) -> None:
    bundle = broken_bundle(tmp_path) if engine == "auto" else noise_bundle_path()
    start = time.monotonic()

    with pytest.raises(kind or EngineUnavailableError) as caught:
        EmbeddedServer(bundle, engine=engine).start()

    assert "Traceback" not in str(caught.value)
    assert engine in str(caught.value) or "tokenizer" in str(caught.value)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("door_name", ["grpc_port", "http_port", "metrics_port"])
def test_a_port_that_is_taken_is_named(door_name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"{door_name} {port} .*in use"):
            EmbeddedServer("noise", **{door_name: port}).start()


def test_a_stop_is_not_held_up_for_ever_by_an_open_stream() -> None:
    server = EmbeddedServer("noise", exit_timeout_s=2)
    server.start()
    stream = RawStream(
        server.grpc_url, (contract.SCRIPT, ["[S1]Still here."]), (contract.MAX_AHEAD_S, [0.1])
    )
    stream.next()
    start = time.monotonic()

    server.stop()

    assert time.monotonic() - start < 20
    assert server.exit_status is not None
    host, port = server.grpc_url.split(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
    stream.close()


PARENT = """
import time
from duologue.runtime.supervisor.embedded import EmbeddedServer
with EmbeddedServer("noise"):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_we_die(number: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert regions_of(parent.pid)
        assert servers_of(parent.pid)
        parent.send_signal(number)

    until_nothing_is_left_of(parent.pid)


def why_unhealthy(server: EmbeddedServer) -> str | None:
    failure = server.failure()
    return None if failure is None else failure.text


def test_a_dead_model_is_noticed_and_a_new_start_heals_it() -> None:
    server = EmbeddedServer("noise")
    assert why_unhealthy(server) == "the server does not run"
    with server:
        assert why_unhealthy(server) is None
        stubs = {model: pid for pid, model in server.stubs.items()}
        assert set(stubs) == {
            "dialogue_tts",
            "codec_encoder",
            "codec_decoder",
            "dialogue_decoder",
            "script_frontend",
        }
        wanted = [(contract.SEED, [6]), (contract.MAX_FRAMES, [40])]
        before = pcm_of(server.grpc_url, "[S1]And now?", *wanted)
        os.kill(stubs["codec_decoder"], signal.SIGKILL)
        deadline = time.monotonic() + 5
        while why_unhealthy(server) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert why_unhealthy(server) == "the process of the model codec_decoder has died"

        after = pcm_of(server.grpc_url, "[S1]And now?", *wanted)
        assert after.tolist() == before.tolist()
        start = time.monotonic()
        server.stop(force=True)
        assert time.monotonic() - start < 5
        server.start()
        assert why_unhealthy(server) is None
    assert server.exit_status == 0
