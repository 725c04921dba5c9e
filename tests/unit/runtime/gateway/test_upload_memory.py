"""Uploads that wait lie on the disk, are bounded in number, and are refused unread beyond it."""

from __future__ import annotations

import asyncio
import errno
import http.client
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_gateway import Answer, Gateway, wait_for
from scripted_client import ScriptedClient
from sounds import wav

from duologue.models import noise_bundle_path
from duologue.runtime.gateway import bodies
from duologue.runtime.gateway.machine import memory_used_bytes
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.gateway.voices_desk import VoiceDesk

MB = 1_000_000
FILE_MB = 20
NUM_PLACES = 8
PATHS = ("/v1/audio/voices", "/api/v1/voices/upload", "/api/v1/tts/synthesize_file")
BOUNDARY = "gap"
KIND = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    servers: list[GatewayServer] = []

    def opened(**api: Any) -> Gateway:
        flags = {
            "api": {"port": 0, "monitoring": {"metrics_port": 0}, **api},
            "storage": {
                "voice_samples_dir": tmp_path / "voices",
                "max_uploads": NUM_PLACES,
                # All callers here have one address.
                "max_uploads_per_caller": NUM_PLACES + 1,
            },
        }
        settings = load_settings(flags=flags, environment={})
        client = ScriptedClient()
        bundle_dir = noise_bundle_path()
        servers.append(GatewayServer(settings, client=client, bundle_dir=bundle_dir, grace_s=1))
        servers[-1].start()
        return Gateway(servers[-1], client)

    yield opened
    for server in servers:
        server.stop()


@pytest.fixture
def door(start: Callable[..., Gateway]) -> Gateway:
    return start()


class Queue:
    """Uploads in front of the decoders, which begin only when they are told so."""

    def __init__(self) -> None:
        self.num_waiting = 0
        self._gate = threading.Event()

    async def wait(self) -> None:
        self.num_waiting += 1
        while not self._gate.is_set():
            await asyncio.sleep(0.01)

    def begin(self) -> None:
        self._gate.set()


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    queue = Queue()
    decode = VoiceDesk._decode

    async def waiting(*args: Any) -> Any:
        await queue.wait()
        return await decode(*args)

    monkeypatch.setattr(VoiceDesk, "_decode", waiting)
    yield queue
    queue.begin()


def form(name: str) -> bytes:
    """A form up to the content of its file."""
    file = "voice_file" if name.startswith("file") else "audio_sample"
    fields = {"name": name, "voice_id": name, "text": "Hi."}
    lines = []
    for field, value in fields.items():
        lines += [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{field}"', "", value]
    disposition = f'Content-Disposition: form-data; name="{file}"; filename="a.wav"'
    return "\r\n".join([*lines, f"--{BOUNDARY}", disposition, "", ""]).encode()


@contextmanager
def connected(door: Gateway) -> Iterator[http.client.HTTPConnection]:
    host, port = door.url.removeprefix("http://").split(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=60)) as connection:
        yield connection


def begin(connection: http.client.HTTPConnection, path: str, length: int) -> None:
    connection.putrequest("POST", path)
    connection.putheader(*KIND)
    connection.putheader("Content-Length", str(length))
    # As urllib does: the server closes it behind its answer.
    connection.putheader("Connection", "close")
    connection.endheaders()


def answer_of(connection: http.client.HTTPConnection) -> Answer:
    with connection.getresponse() as answer:
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read())


def send(door: Gateway, num_bytes: int, path: str = PATHS[0], name: str = "Ann") -> Answer:
    """Upload so many bytes in pieces; they are never in this process's memory together."""
    first, end = form(name), f"\r\n--{BOUNDARY}--\r\n".encode()
    piece = bytes(min(num_bytes, 100_000))
    with connected(door) as connection:
        begin(connection, path, len(first) + num_bytes + len(end))
        # What is refused is answered before all of it was sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(first)
            for _ in range(num_bytes // len(piece)):
                connection.send(piece)
            connection.send(end)
        return answer_of(connection)


def send_in_chunks(door: Gateway, num_bytes: int) -> Answer:
    """The same without saying how much it will be."""
    with connected(door) as connection:
        pieces = [form("Ann"), *[bytes(100_000)] * (num_bytes // 100_000)]
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", PATHS[0], iter(pieces), dict([KIND]))
        return answer_of(connection)


def add(door: Gateway, data: bytes) -> httpx.Response:
    files = {"audio_sample": ("a.wav", data, "audio/wav")}
    url = door.url + PATHS[0]
    return httpx.post(url, data={"name": "Ann", "replace": "true"}, files=files, timeout=60)


def test_uploads_that_wait_for_a_decoder_are_not_in_memory(door: Gateway, decoders: Queue) -> None:
    before = memory_used_bytes()
    with ThreadPoolExecutor(NUM_PLACES) as pool:
        waiting = [pool.submit(send, door, FILE_MB * MB, name=f"v{i}") for i in range(NUM_PLACES)]
        wait_for(lambda: decoders.num_waiting == NUM_PLACES, 60)
        grown_mb = (memory_used_bytes() - before) / MB
        decoders.begin()
        assert [future.result().status for future in waiting] == [400] * NUM_PLACES
    assert grown_mb < NUM_PLACES * FILE_MB / 3, f"{grown_mb:.0f} MB"


def test_one_upload_too_many_is_refused_before_it_is_read(door: Gateway, decoders: Queue) -> None:
    with ThreadPoolExecutor(NUM_PLACES) as pool:
        waiting = [pool.submit(add, door, wav()) for _ in range(NUM_PLACES)]
        wait_for(lambda: door.server.house.uploads.num_taken == NUM_PLACES)
        for path in PATHS:
            refused = send(door, FILE_MB * MB, path, "file")
            assert (refused.status, refused.error["code"]) == (503, "server_full"), path
            assert int(refused.headers["retry-after"]) >= 1
        uri = "data:audio/wav;base64,UklGRg=="
        answer = door.speak("Hi.", ref_audio=uri)
        assert (answer.status, answer.error["code"]) == (503, "server_full")
        assert door.speak("Hi.").status == 200
        assert b"duologue_http_uploads 8.0" in door.server.house.metrics.page()
        decoders.begin()
        assert {future.result().status_code for future in waiting} == {201}
    wait_for(lambda: door.server.house.uploads.num_taken == 0)
    assert add(door, wav()).status_code == 201


def test_a_stream_in_the_voice_of_a_file_leaves_its_place_before_it_speaks(door: Gateway) -> None:
    files = {"voice_file": ("a.wav", wav(), "audio/wav")}
    url = door.url + PATHS[2]
    with ThreadPoolExecutor(1) as pool:
        speaking = pool.submit(httpx.post, url, data={"text": "hold"}, files=files, timeout=60)
        wait_for(lambda: bool(door.client.streams), 30)
        wait_for(lambda: door.server.house.uploads.num_taken == 0)
        door.server.stop()
        assert speaking.result().status_code == 503


@pytest.mark.parametrize("upload", [send, send_in_chunks])
def test_a_file_beyond_the_limit_is_refused_while_it_comes(
    start: Callable[..., Gateway], upload: Callable[[Gateway, int], Answer]
) -> None:
    door = start(max_request_size=3 * MB)
    answer = upload(door, 5 * MB)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    wait_for(lambda: door.server.house.uploads.num_taken == 0)
    assert b'rejected_total{reason="body_too_large"} 1.0' in door.server.house.metrics.page()


def test_a_file_that_does_not_come_in_time_is_given_up(
    door: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.2)
    with connected(door) as connection:
        begin(connection, PATHS[0], MB)
        connection.send(form("Ann"))
        answer = answer_of(connection)
    assert (answer.status, "0.2 s" in answer.error["message"]) == (413, True)
    wait_for(lambda: door.server.house.uploads.num_taken == 0)


def test_a_caller_who_leaves_in_the_middle_leaves_its_place(door: Gateway) -> None:
    with connected(door) as connection:
        begin(connection, PATHS[0], MB)
        connection.send(form("Ann"))
        wait_for(lambda: door.server.house.uploads.num_taken == 1)
    wait_for(lambda: door.server.house.uploads.num_taken == 0)


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/tts", "/v1/audio/voices/Ann"])
def test_forms_elsewhere_are_held_to_the_size_of_bodies_without_files(
    door: Gateway, path: str
) -> None:
    answer = send(door, 2 * MB, path)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")


def test_a_form_with_more_files_or_longer_fields_than_any_route_has_is_refused(
    door: Gateway,
) -> None:
    many = [("audio_sample", (f"{i}.wav", b"x" * 900_000, "audio/wav")) for i in range(5)]
    answer = httpx.post(door.url + PATHS[0], data={"name": "Ann"}, files=many, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    long = {"name": "Ann", "description": "x" * 100_000}
    files = {"audio_sample": ("a.wav", wav(), "audio/wav")}
    answer = httpx.post(door.url + PATHS[0], data=long, files=files, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_form_that_is_refused_while_it_comes_is_answered_to_those_who_send_all_of_it(
    door: Gateway,
) -> None:
    # More than fits into the buffers of a connection.
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n'.encode()
    body = field * 200_000 + f"--{BOUNDARY}--\r\n".encode()
    with connected(door) as connection:
        begin(connection, PATHS[0], len(body))
        connection.send(body)
        answer = answer_of(connection)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    wait_for(lambda: door.server.house.uploads.num_taken == 0)


def test_a_full_disk_under_uploads_is_the_servers_trouble(
    door: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    answer = send(door, 3 * MB)
    assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
    assert door.speak("Hi.").status == 200
