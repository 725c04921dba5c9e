"""A disk that hangs stops the requests that need it, and no other stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hanging_disk import HangingDisk
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient
from sounds import noise, wav
from websockets.sync.client import connect

from duologue.models import noise_bundle_path
from duologue.runtime.gateway import disk_threads, results_client
from duologue.runtime.gateway.disk_threads import DiskThreads
from duologue.runtime.gateway.faults import StorageError
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.results_client import ResultsClient
from duologue.runtime.gateway.served_bundle import read_served_bundle
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import VoiceDetails
from duologue.runtime.voices import ReferenceAudio

# More than the event loop has threads of its own on any machine of ours.
NUM_WAITING = 40


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    hanging = HangingDisk()
    get = VoiceStore.get

    def slow_get(store: VoiceStore, name: str) -> Any:
        hanging.wait()
        return get(store, name)

    monkeypatch.setattr(VoiceStore, "get", slow_get)
    yield hanging
    hanging.mend()


@pytest.fixture
def door(tmp_path: Path, disk: HangingDisk) -> Iterator[Gateway]:
    flags = {
        "api": {"port": 0, "monitoring": {"metrics_port": 0}},
        "storage": {"voice_samples_dir": tmp_path / "voices"},
    }
    settings = load_settings(flags=flags, environment={})
    client = ScriptedClient()
    bundle_dir = noise_bundle_path()
    with VoiceStore(tmp_path / "voices") as store:
        store.add("Ann", ReferenceAudio(noise(), 24_000, ""), VoiceDetails())
    with GatewayServer(settings, client=client, bundle_dir=bundle_dir, grace_s=1) as server:
        yield Gateway(server, client)
        disk.mend()


def speech(door: Gateway, voice: str) -> Callable[[], int]:
    return lambda: door.speak("Hi.", voice=voice).status


def dialogue(door: Gateway, voice: str) -> Callable[[], int]:
    return lambda: door.talk(input="[S1]Hi.", voices={"1": voice}).status


def platform(door: Gateway, voice: str) -> Callable[[], int]:
    body = {"text": "Hi.", "voice_id": voice}
    return lambda: door.call("/api/v1/tts/synthesize", body).status


def autodl(door: Gateway, voice: str) -> Callable[[], int]:
    return lambda: door.call("/tts_to_audio", {"text": "Hi.", "speaker_wav": voice}).status


def adding(door: Gateway, voice: str) -> Callable[[], int]:
    def add() -> int:
        url, files = door.url + "/v1/audio/voices", {"audio_sample": ("a.wav", wav(), "audio/wav")}
        return httpx.post(url, data={"name": voice}, files=files, timeout=60).status_code

    return add


@pytest.mark.parametrize(
    ("ask", "answer"),
    [(speech, 200), (dialogue, 200), (platform, 200), (autodl, 200), (adding, 409)],
)
def test_one_request_waits_for_the_disk_and_the_others_go_on(
    door: Gateway, disk: HangingDisk, ask: Callable[..., Callable[[], int]], answer: int
) -> None:
    disk.is_broken = True
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(ask(door, "Ann"))
        wait_for(lambda: disk.num_waiting > 0)
        assert door.speak("Hi.").status == 200
        assert not disk.has_given_up
        disk.mend()
        assert waiting.result() == answer


def test_a_session_waits_for_the_disk_and_the_others_go_on(
    door: Gateway, disk: HangingDisk
) -> None:
    disk.is_broken = True
    url = door.url.replace("http", "ws") + "/v1/audio/dialogue/stream"
    with connect(url) as socket:
        socket.send('{"type": "session.config", "voices": {"1": "Ann"}}')
        socket.send('{"type": "input.text", "text": "[S1]Hi."}')
        socket.send('{"type": "input.flush"}')
        wait_for(lambda: disk.num_waiting > 0)
        assert door.speak("Hi.").status == 200
        assert not disk.has_given_up
        disk.mend()
        assert '"audio.start"' in str(socket.recv(timeout=20))


def test_however_many_wait_for_the_disk_the_others_go_on(door: Gateway, disk: HangingDisk) -> None:
    disk.is_broken = True
    with ThreadPoolExecutor(NUM_WAITING) as pool:
        waiting = [pool.submit(speech(door, "Ann")) for _ in range(NUM_WAITING)]
        wait_for(lambda: disk.num_waiting > 0)
        for _ in range(3):
            assert door.speak("Hi.").status == 200
        assert not disk.has_given_up
        disk.mend()
        assert [future.result() for future in waiting] == [200] * NUM_WAITING


def test_a_request_that_waits_for_the_disk_for_too_long_is_told_so(
    door: Gateway, disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_threads, "TIMEOUT_S", 0.2)
    disk.is_broken = True
    answer = door.speak("Hi.", voice="Ann")
    assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
    assert "retry-after" in answer.headers


def test_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    threads, gate, begun = DiskThreads("test", 1), threading.Event(), []

    async def run() -> None:
        first = asyncio.ensure_future(threads.run(lambda: gate.wait(20)))
        await asyncio.sleep(0)  # it has a thread now
        with pytest.raises(StorageError, match="did not answer in 0"):
            await threads.run(lambda: begun.append(1), timeout_s=0.05)
        gate.set()
        assert await first
        assert await threads.run(lambda: "done") == "done"

    asyncio.run(run())
    threads.close()
    assert begun == []


class HangingResults:
    """A cache whose disk answers no more."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def get(self, key: str) -> bytes | None:
        self.gate.wait(20)
        return None

    def put(self, key: str, data: bytes) -> None:
        self.gate.wait(20)

    def close(self) -> None:
        pass


def test_results_that_cannot_be_read_or_kept_in_time_cost_no_stream_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results_client, "PATIENCE_S", 0.1)
    results, inner = HangingResults(), ScriptedClient()
    client = ResultsClient(inner, results, read_served_bundle(noise_bundle_path()), Metrics())

    async def run() -> list[np.ndarray]:
        taken = []
        async with client.stream("[S1]Hi.", seed=1) as stream:
            while len(taken) < 3:
                taken.append((await stream.__anext__()).samples)
        return taken

    assert len(asyncio.run(run())) == 3
    assert not results.gate.is_set()
    results.gate.set()
