"""Places for uploads: some for each caller, so that nobody takes them all."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient
from sounds import wav

from duologue.client.errors import CapacityError
from duologue.models import noise_bundle_path
from duologue.runtime.gateway.faults import RateLimitError
from duologue.runtime.gateway.keys import Visitor
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.gateway.upload_room import UploadPlace, UploadRoom

PATH = "/v1/audio/voices"
KEYS = {name: f"sk-{name}" for name in ("ann", "bob")}
ANN, BOB = Visitor(name="key ann"), Visitor(name="key bob")


def test_one_caller_takes_no_more_than_its_own_places() -> None:
    room = UploadRoom(3, 2)
    with room.enter(ANN) as first, room.enter(ANN):
        with pytest.raises(RateLimitError, match="2 uploads at a time") as caught:
            room.enter(ANN)
        assert caught.value.retry_after_s > 0
        with room.enter(BOB), pytest.raises(CapacityError, match="3 uploads are on their way"):
            room.enter(Visitor(name="key carol"))
        first.leave()
        with room.enter(ANN):
            assert room.num_taken == 2
    assert room.num_taken == 0


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_places_are_counted_however_callers_come_and_go(
    steps: list[tuple[str, bool]], num_places: int, num_own: int
) -> None:
    room = UploadRoom(num_places, num_own)
    held: dict[str, list[UploadPlace]] = {name: [] for name in "abcd"}
    for name, is_coming in steps:
        if not is_coming:
            for place in held[name]:
                place.leave()
                place.leave()
            held[name].clear()
            continue
        is_full = sum(map(len, held.values())) == num_places
        try:
            held[name].append(room.enter(Visitor(name=name)))
            assert not is_full
        except RateLimitError:
            assert len(held[name]) == num_own
        except CapacityError:
            assert is_full
        assert len(held[name]) <= num_own
        assert room.num_taken == sum(map(len, held.values())) <= num_places
    for places in held.values():
        for place in places:
            place.leave()
    assert room.num_taken == 0
    assert not room._by_caller, "callers without number take no memory without end"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """A gateway with so many places, which asks for keys."""
    path = tmp_path / "keys"
    path.write_text(
        "".join(
            f"{name} {hashlib.sha256(key.encode()).hexdigest()} scopes=voices,speak\n"
            for name, key in KEYS.items()
        )
    )
    with ExitStack() as stack:

        def opened(asks_for_keys: bool = True, **storage: Any) -> Gateway:
            flags = {
                "api": {"port": 0, "monitoring": {"metrics_port": 0}},
                "auth": {"keys_file": path} if asks_for_keys else {},
                "storage": {"voice_samples_dir": tmp_path / "voices", **storage},
            }
            settings = load_settings(flags=flags, environment={})
            client, bundle = ScriptedClient(), noise_bundle_path()
            server = GatewayServer(settings, client=client, bundle_dir=bundle, grace_s=1)
            return Gateway(stack.enter_context(server), client)

        yield opened


def begin(door: Gateway, name: str) -> http.client.HTTPConnection:
    """Begin an upload, of which nothing more comes."""
    host, port = door.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.putrequest("POST", PATH)
    connection.putheader("Authorization", f"Bearer {KEYS[name]}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=gap")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(b"--gap\r\n")
    return connection


def add(door: Gateway, name: str) -> httpx.Response:
    files = {"audio_sample": ("a.wav", wav(), "audio/wav")}
    headers = {"Authorization": f"Bearer {KEYS[name]}"}
    form = {"name": name, "replace": "true"}
    return httpx.post(door.url + PATH, data=form, files=files, headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("storage", "num_own"),
    [
        ({}, 4),
        ({"max_uploads": 2}, 1),
        ({"max_uploads": 4, "max_uploads_per_caller": 3}, 3),
    ],
)
def test_uploads_that_never_come_leave_room_for_other_callers(
    start: Callable[..., Gateway], storage: dict[str, int], num_own: int
) -> None:
    door = start(**storage)
    with ExitStack() as stack:
        for _ in range(num_own):
            stack.enter_context(closing(begin(door, "ann")))
        wait_for(lambda: door.server.house.uploads.num_taken == num_own)
        refused = add(door, "ann")
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            429,
            "rate_limit_exceeded",
        )
        assert int(refused.headers["retry-after"]) >= 1
        uri = "data:audio/wav;base64,UklGRg=="
        body = {"model": "tts-1", "input": "Hi.", "ref_audio": uri}
        key = {"Authorization": f"Bearer {KEYS['ann']}"}
        assert door.call("/v1/audio/speech", body, headers=key).status == 429
        assert add(door, "bob").status_code == 201
    wait_for(lambda: door.server.house.uploads.num_taken == 0)
    assert add(door, "ann").status_code == 201


def test_where_no_key_is_asked_for_an_address_is_a_caller(
    start: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    door = start(asks_for_keys=False)
    names: list[str] = []
    enter = UploadRoom.enter

    def noted(room: UploadRoom, visitor: Visitor) -> UploadPlace:
        names.append(visitor.name)
        return enter(room, visitor)

    monkeypatch.setattr(UploadRoom, "enter", noted)
    assert add(door, "ann").status_code == 201
    assert names == ["address 127.0.0.1"]
