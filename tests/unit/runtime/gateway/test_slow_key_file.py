"""A disk that hangs under the key file stops those who show a key, and no stream."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from hanging_disk import HangingDisk
from live_gateway import Gateway, wait_for
from tritonclient.grpc import service_pb2, service_pb2_grpc
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from duologue.runtime import keys
from duologue.runtime.gateway import disk_threads

ANN, BOB = "sk-ann", "sk-bob"
NUM_WAITING = 12


def lines(*secrets: str) -> str:
    return "".join(
        f"{secret[3:]} {hashlib.sha256(secret.encode()).hexdigest()}\n" for secret in secrets
    )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingDisk]:
    hanging = HangingDisk()
    stamp = keys._stamp

    def slow_stamp(path: Path) -> object:
        hanging.wait()
        return stamp(path)

    monkeypatch.setattr(keys, "_stamp", slow_stamp)
    yield hanging
    hanging.mend()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(lines(ANN, BOB))
    return path


@pytest.fixture
def door(
    open_gateway: Callable[..., Gateway], key_file: Path, disk: HangingDisk
) -> Iterator[Gateway]:
    yield open_gateway(auth={"keys_file": key_file}, grpc={"host": "127.0.0.1", "port": 0})
    disk.mend()


def speak(door: Gateway, secret: str, text: str = "Hi.") -> Any:
    body = {"model": "tts-1", "input": text}
    return door.call("/v1/audio/speech", body, headers={"Authorization": f"Bearer {secret}"})


def over_http(door: Gateway) -> None:
    assert speak(door, ANN).status == 200


def over_a_socket(door: Gateway) -> None:
    url = door.url.replace("http", "ws") + "/v1/audio/dialogue/stream"
    with connect(url, additional_headers={"Authorization": f"Bearer {ANN}"}):
        pass


def over_grpc(door: Gateway) -> None:
    """No model is behind the gate: being let in is all that can be seen."""
    with grpc.insecure_channel(door.server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ServerReady(
                service_pb2.ServerReadyRequest(),
                metadata=[("authorization", f"Bearer {ANN}")],
                timeout=30,
            )
        assert caught.value.code() == grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("come_in", [over_http, over_a_socket, over_grpc])
def test_who_shows_a_key_waits_for_the_disk_and_streams_go_on(
    door: Gateway, disk: HangingDisk, come_in: Callable[[Gateway], None]
) -> None:
    disk.is_broken = True
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(come_in, door)
        wait_for(lambda: disk.num_waiting > 0)
        assert door.call("/livez").status == 200
        assert not disk.has_given_up
        disk.mend()
        waiting.result()


def test_however_many_show_a_key_the_event_loop_goes_on(door: Gateway, disk: HangingDisk) -> None:
    disk.is_broken = True
    with ThreadPoolExecutor(NUM_WAITING) as pool:
        waiting = [pool.submit(speak, door, ANN) for _ in range(NUM_WAITING)]
        wait_for(lambda: disk.num_waiting > 0)
        assert door.call("/livez").status == 200
        assert not disk.has_given_up
        disk.mend()
        assert {future.result().status for future in waiting} == {200}


def test_who_waits_for_too_long_is_told_to_come_again(
    door: Gateway, disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_threads, "TIMEOUT_S", 0.2)
    disk.is_broken = True
    answer = speak(door, ANN)
    assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
    assert "keys" in answer.error["message"]
    assert int(answer.headers["retry-after"]) >= 1
    url = door.url.replace("http", "ws") + "/v1/audio/dialogue/stream"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(url, additional_headers={"Authorization": f"Bearer {ANN}"}),
    ):
        pass
    assert refused.value.response.status_code == 503
    disk.mend()
    assert speak(door, ANN).status == 200


def test_the_next_request_knows_of_a_key_that_was_taken_out(door: Gateway, key_file: Path) -> None:
    assert speak(door, BOB).status == 200
    key_file.write_text(lines(ANN))
    assert speak(door, BOB).status == 401
    assert speak(door, ANN).status == 200
    key_file.write_text(lines(ANN, BOB))
    assert speak(door, BOB).status == 200


def test_a_key_in_the_environment_needs_no_disk(
    open_gateway: Callable[..., Gateway], disk: HangingDisk
) -> None:
    disk.is_broken = True
    gateway = open_gateway(auth={"keys": [ANN]})
    assert speak(gateway, ANN).status == 200
    assert speak(gateway, BOB).status == 401
    assert disk.num_waiting == 0
