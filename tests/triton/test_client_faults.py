"""How all four clients end when something is wrong: by the same types."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from four_clients import CLIENTS, open_client, open_gateway
from live_gateway import Gateway
from raw_door import RawStream

from duologue.client import (
    CapacityError,
    DeadlineError,
    DuologueError,
    EngineError,
    HttpDialogueClient,
    PromptTooLongError,
    RequestError,
    ScriptError,
    ServerUnavailableError,
    StreamTimeoutError,
    Voice,
    VoiceError,
    contract,
)
from duologue.runtime.gateway.trouble import Trouble

SCRIPT = "[S1]Have you had breakfast?[S2]Not yet. Coffee first, then we shall see."
LONG = "[S1]" + "And so on. " * 80
LONG_FRAMES = 1500
# Of the repository that the fixture `scripted_repository` makes.
SCRIPTED_MODEL = "dialogue_scripted"


@pytest.mark.parametrize(
    ("script", "options", "error", "told"),
    [
        ("[S1]Hi.\n  [S9]Ho.", {}, ScriptError, "line 2, column 3: "),
        ("[S1]Hi.", {"temperature": -1.0}, RequestError, "temperature"),
        ("[S1]Hi.", {"max_frames": 2**31 - 1, "top_p": 7.0}, RequestError, "top_p"),
        ("[S1]Hi.", {"voices": {1: "nobody"}}, VoiceError, "'nobody' is unknown"),
        ("[S1]Hi.", {"voices": {1: Voice(np.zeros((3, 5)))}}, RequestError, "3 rows"),
        ("[S1]" + "And so on. " * 1500, {"mode": "one_pass"}, PromptTooLongError, None),
        (LONG, {"deadline_s": 0.3, "max_frames": LONG_FRAMES}, DeadlineError, None),
    ],
)
def test_what_the_caller_did_wrong_is_told_by_its_type(
    connect_client: Any, script: str, options: Any, error: type[DuologueError], told: str | None
) -> None:
    with pytest.raises(error, match=told) as caught:
        connect_client().synthesize(script, **options)
    assert type(caught.value) is error
    if isinstance(caught.value, ScriptError):
        assert (caught.value.line, caught.value.column) == (2, 3)


def test_a_full_server_says_so_through_every_door(door: Any, client_gateway: Gateway) -> None:
    paced = [(contract.MAX_AHEAD_S, [0.05]), (contract.MAX_FRAMES, [200])]
    with contextlib.ExitStack() as stack:
        streams: list[RawStream] = []
        while not any(is_refused(stream) for stream in streams[-10:]):
            for _ in range(10):
                stream = RawStream(door.url, (contract.SCRIPT, [SCRIPT]), *paced)
                streams.append(stack.enter_context(stream))
        for kind in CLIENTS:
            url = door.url if kind.startswith("grpc") else client_gateway.url
            client = stack.enter_context(contextlib.closing(open_client(kind, url)))
            with pytest.raises(CapacityError):
                client.synthesize(SCRIPT, max_frames=20)


def is_refused(stream: RawStream) -> bool:
    try:
        return stream.next(0.05)[1] is not None
    except queue.Empty:  # it waits for a slot
        return False


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients, the gateway's among them, speak to the model that can be told to fail."""
    monkeypatch.setattr(contract, "STREAMING_MODEL", SCRIPTED_MODEL)
    # The gateway's monitor would ask that model, too, which takes no script but its own.
    monkeypatch.setattr(Trouble, "ring", lambda self: None)


def test_a_stalled_model_ends_in_a_timeout_and_a_free_slot(
    connect_client: Any, door: Any, scripted: None
) -> None:
    client = connect_client(chunk_timeout_s=1)
    with pytest.raises(StreamTimeoutError, match="sent nothing for 1 s"):
        client.chunks("hold 2")
    door.wait_until_idle()


def test_a_model_that_fails_in_mid_stream_is_an_engine_error(
    connect_client: Any, scripted: None
) -> None:
    with pytest.raises(EngineError, match="failed"):
        connect_client().synthesize("break 3")


def test_the_gateways_own_watchdog_has_the_same_type(
    door: Any, scripted: None, tmp_path: Path
) -> None:
    with (
        open_gateway(door.url, tmp_path, gap_timeout=1) as gateway,
        HttpDialogueClient(gateway.url) as client,
        pytest.raises(StreamTimeoutError, match="no audio in time"),
    ):
        client.synthesize("hold 2")


@pytest.fixture
def closed_port() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_nothing_at_the_address_is_server_unavailable(
    connect_client: Any, client_kind: str, closed_port: str
) -> None:
    scheme = "http://" if client_kind.startswith("http") else ""
    client = connect_client(scheme + closed_port)
    assert not client.is_ready()
    with pytest.raises(ServerUnavailableError):
        client.synthesize(SCRIPT)


def test_a_gateway_without_its_server_is_server_unavailable(
    closed_port: str, tmp_path: Path
) -> None:
    with open_gateway(closed_port, tmp_path) as gateway, HttpDialogueClient(gateway.url) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailableError):
            client.synthesize(SCRIPT)
