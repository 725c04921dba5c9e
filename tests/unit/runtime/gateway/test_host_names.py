"""A page that lets its name point at this machine is not let in: the Host header tells of it."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from live_gateway import Gateway
from starlette.testclient import TestClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from duologue.runtime.gateway.host_names import HostNames
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.metrics_app import create_metrics_app
from duologue.runtime.gateway.setting_groups import ApiSettings
from duologue.runtime.gateway.watched_keys import WatchedKeys
from duologue.runtime.keys import SPEAK, Key, KeyRing, digest_of

Open = Callable[..., Gateway]
KEYED = WatchedKeys(KeyRing([Key("k", digest_of("sk"), frozenset({SPEAK}))]))
REBOUND = {"Host": "evil.example:9000"}


@pytest.mark.parametrize("path", ["/", "/status", "/v1/models", "/v1/audio/voices"])
def test_a_name_of_strangers_is_refused(gateway: Gateway, path: str) -> None:
    answer = gateway.call(path, headers=REBOUND)
    assert (answer.status, answer.error["code"]) == (403, "host_not_allowed")
    assert "'evil.example'" in answer.error["message"]
    assert "api.allowed_hosts" in answer.error["message"]


def test_nothing_is_spoken_for_a_rebound_page(gateway: Gateway) -> None:
    before = len(gateway.client.asked)
    headers = {**REBOUND, "Origin": "http://evil.example:9000"}
    body = {"model": "tts-1", "input": "Hi."}
    assert gateway.call("/v1/audio/speech", body, headers=headers).status == 403
    assert len(gateway.client.asked) == before


def test_a_rebound_page_opens_no_websocket_and_is_told_why(gateway: Gateway) -> None:
    address = gateway.url.removeprefix("http://")
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        url = f"ws://evil.example:{port}/v1/audio/dialogue/stream"
        with pytest.raises(InvalidStatus) as refused, connect(url, sock=raw, proxy=None):
            pass
    answer = refused.value.response
    assert answer.status_code == 403
    assert json.loads(answer.body)["error"]["code"] == "host_not_allowed"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("host", ["localhost:1", "tts.localhost", "[::1]:9000", "192.0.2.7"])
def test_loopback_and_plain_addresses_are_let_in(gateway: Gateway, host: str) -> None:
    assert gateway.call("/v1/models", headers={"Host": host}).status == 200


def test_names_of_the_settings_are_let_in(open_gateway: Open) -> None:
    gateway = open_gateway({"allowed_hosts": ["Tts.Lan"]})
    assert gateway.call("/v1/models", headers={"Host": "tts.lan:80"}).status == 200
    assert gateway.call("/v1/models", headers={"Host": "x.tts.lan"}).status == 403


def test_where_keys_are_asked_for_any_name_will_do(open_gateway: Open, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"alice {hashlib.sha256(b'sk-1').hexdigest()}\n")
    gateway = open_gateway(auth={"keys_file": path})
    assert gateway.call("/v1/models", headers=REBOUND).status == 401
    keyed = {**REBOUND, "Authorization": "Bearer sk-1"}
    assert gateway.call("/v1/models", headers=keyed).status == 200


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("", True),
        ("localhost.", True),
        ("LOCALHOST", True),
        ("[::1]", True),
        ("[fe80::1]:80", True),
        ("tts.example", True),
        ("TTS.example.:8443", True),
        ("own-name", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("notlocalhost", False),
        ("tts.example.evil", False),
        ("[::1].evil.example", False),
        ("[::1", False),
        ("2130706433.", False),
        ("user@localhost", False),
        ("evil.example:80:80", False),
        ("localhost:evil", False),
        ("\xe9vil", False),
    ],
)
def test_only_whole_names_count(host: str, is_allowed: bool) -> None:
    names = HostNames("0.0.0.0", ("tts.example",), own_name="own-name")
    assert names.allow(host) is is_allowed


def test_a_star_allows_every_name() -> None:
    assert HostNames("127.0.0.1", ("*",)).allow("evil.example")


def test_the_address_that_is_listened_at_is_a_name_too() -> None:
    assert HostNames("tts.lan", ()).allow("tts.lan:9000")


@pytest.mark.parametrize(
    ("caller", "keys", "host", "status"),
    [
        ("127.0.0.1", WatchedKeys(KeyRing()), "evil.example", 403),
        ("127.0.0.1", WatchedKeys(KeyRing()), "localhost", 200),
        # Loopback needs no key for the metrics, so that a key elsewhere does not protect them.
        ("127.0.0.1", KEYED, "evil.example", 403),
        ("192.0.2.1", KEYED, "tts", 401),
    ],
)
def test_metrics_are_held_to_names_wherever_no_key_is(
    caller: str, keys: WatchedKeys, host: str, status: int
) -> None:
    app = create_metrics_app(Metrics(), None, keys, HostNames.of(ApiSettings()))
    client = TestClient(app, client=(caller, 5000))
    assert client.get("/metrics", headers={"Host": host}).status_code == status
