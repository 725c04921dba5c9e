"""One suite over all four clients: sync and asyncio, over gRPC and through the gateway's HTTP."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from client_verbs import AsyncVerbs, SyncVerbs
from conftest import SCRIPTED_MODEL
from live_gateway import Gateway, wait_for
from raw_door import RawStream
from scripted_client import ScriptedClient
from typer.testing import CliRunner

from duologue.cli.doors import Doors
from duologue.cli.main import app
from duologue.client import (
    AsyncDialogueClient,
    AsyncHttpDialogueClient,
    CapacityError,
    DeadlineError,
    DialogueClient,
    DuologueError,
    EngineError,
    HttpDialogueClient,
    PromptTooLongError,
    RequestError,
    ScriptError,
    ServerUnavailableError,
    Speech,
    StreamTimeoutError,
    Voice,
    VoiceError,
    contract,
)
from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.gateway.trouble import Trouble

SCRIPT = "[S1]Have you had breakfast?[S2]Not yet. Coffee first, then we shall see."
LONG = "[S1]" + "And so on. " * 80
LONG_FRAMES = 1500
CLIENTS = {
    "grpc": DialogueClient,
    "grpc-asyncio": AsyncDialogueClient,
    "http": HttpDialogueClient,
    "http-asyncio": AsyncHttpDialogueClient,
}


@contextlib.contextmanager
def open_gateway(grpc_url: str, **api: Any) -> Iterator[Gateway]:
    monitoring = {"metrics_port": 0, "health_check_interval": 3600}
    flags = {"api": {"port": 0, "monitoring": monitoring, **api}}
    settings = load_settings(flags=flags, environment={})
    with GatewayServer(settings, grpc_url, grace_s=2) as server:
        yield Gateway(server, ScriptedClient())


@pytest.fixture(scope="module")
def gateway(door: Any) -> Iterator[Gateway]:
    with open_gateway(door.url) as gateway:
        wait_for(lambda: gateway.call("/readyz").status == 200, 30)
        yield gateway


@pytest.fixture(params=list(CLIENTS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def open_client(kind: str, door: Any, gateway: Gateway, url: str = "", **settings: Any) -> Any:
    """A client of a kind behind the verbs that all of them have."""
    address = url or (door.url if kind.startswith("grpc") else gateway.url)
    verbs = AsyncVerbs if kind.endswith("asyncio") else SyncVerbs
    return verbs(lambda: CLIENTS[kind](address, **settings))


@pytest.fixture
def connect(kind: str, door: Any, gateway: Gateway) -> Iterator[Callable[..., Any]]:
    """Connect a client of the kind to its door; closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(url: str = "", **settings: Any) -> Any:
            client = open_client(kind, door, gateway, url, **settings)
            stack.callback(client.close)
            return client

        yield start


@pytest.fixture(scope="module")
def expected(door: Any) -> Speech:
    with DialogueClient(door.url) as client:
        return client.synthesize(SCRIPT, seed=11, max_frames=40)


@pytest.fixture(scope="module")
def voice(door: Any) -> Voice:
    """Reference audio and what is said in it."""
    rate_hz = Bundle.load(resolve_bundle("noise")).codec.input_rate_hz
    time_s = np.arange(rate_hz) / rate_hz
    with DialogueClient(door.url) as client:
        codes = client.encode(0.3 * np.sin(2 * np.pi * 220 * time_s).astype(np.float32))
    return Voice(codes, "What I said.")


def test_the_same_script_and_seed_give_the_same_samples(connect: Any, expected: Speech) -> None:
    speech = connect().synthesize(SCRIPT, seed=11, max_frames=40)
    np.testing.assert_array_equal(speech.samples, expected.samples)
    assert (speech.sample_rate_hz, speech.seed) == (expected.sample_rate_hz, 11)
    assert speech.finish_reason == expected.finish_reason


def test_chunks_join_without_gaps_and_the_last_one_is_marked(
    connect: Any, expected: Speech
) -> None:
    chunks = connect().chunks(SCRIPT, seed=11, max_frames=40)
    assert len(chunks) > 2
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    ends = [0, *(chunk.end_sample for chunk in chunks)]
    assert [chunk.first_sample for chunk in chunks] == ends[:-1]
    assert ends[-1] == len(expected.samples)
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.turn_timing for chunk in chunks} == {"estimated"}
    assert {chunk.stream_id for chunk in chunks} != {""}
    assert (chunks[0].turn, chunks[-1].turn, chunks[-1].speaker) == (0, 1, 2)


def test_turn_times_are_equal(connect: Any, expected: Speech) -> None:
    times = connect().synthesize(SCRIPT, seed=11, max_frames=40).turn_times
    assert [time.speaker for time in times] == [1, 2]
    got = [(time.start_s, time.end_s) for time in times]
    want = [(time.start_s, time.end_s) for time in expected.turn_times]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_turn_by_turn_gives_exact_times(connect: Any) -> None:
    chunks = connect().chunks(SCRIPT, seed=5, mode="turns", max_frames=40)
    assert {chunk.turn_timing for chunk in chunks} == {"exact"}


def test_sampling_options_arrive(connect: Any, door: Any, expected: Speech) -> None:
    options = {"greedy": True, "repetition_penalty": 1.5, "max_frames": 30, "normalization": "v0.7"}
    speech = connect().synthesize(SCRIPT, **options)
    with DialogueClient(door.url) as client:
        np.testing.assert_array_equal(speech.samples, client.synthesize(SCRIPT, **options).samples)


def test_a_voice_of_ones_own_is_the_same_through_every_door(
    connect: Any, door: Any, voice: Voice, expected: Speech
) -> None:
    options = {"voices": {2: voice}, "seed": 11, "max_frames": 40}
    speech = connect().synthesize(SCRIPT, **options)
    with DialogueClient(door.url) as client:
        np.testing.assert_array_equal(speech.samples, client.synthesize(SCRIPT, **options).samples)
    assert not np.array_equal(speech.samples, expected.samples)


def test_leaving_early_frees_the_slot(connect: Any, door: Any) -> None:
    cancelled = "duologue_cancellations_total"
    before = door.metrics()[cancelled]
    assert len(connect().chunks(LONG, take=1, max_frames=LONG_FRAMES)) == 1
    door.wait_until(lambda metrics: metrics[cancelled] == before + 1)
    door.wait_until_idle()


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
    connect: Any, script: str, options: Any, error: type[DuologueError], told: str | None
) -> None:
    with pytest.raises(error, match=told) as caught:
        connect().synthesize(script, **options)
    assert type(caught.value) is error
    if isinstance(caught.value, ScriptError):
        assert (caught.value.line, caught.value.column) == (2, 3)


def test_a_full_server_says_so_through_every_door(door: Any, gateway: Gateway) -> None:
    paced = [(contract.MAX_AHEAD_S, [0.05]), (contract.MAX_FRAMES, [200])]
    with contextlib.ExitStack() as stack:
        streams: list[RawStream] = []
        while not any(is_refused(stream) for stream in streams[-10:]):
            for _ in range(10):
                stream = RawStream(door.url, (contract.SCRIPT, [SCRIPT]), *paced)
                streams.append(stack.enter_context(stream))
        for kind in CLIENTS:
            client = stack.enter_context(contextlib.closing(open_client(kind, door, gateway)))
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
    connect: Any, door: Any, scripted: None
) -> None:
    client = connect(chunk_timeout_s=1)
    with pytest.raises(StreamTimeoutError, match="sent nothing for 1 s"):
        client.chunks("hold 2")
    door.wait_until_idle()


def test_a_model_that_fails_in_mid_stream_is_an_engine_error(connect: Any, scripted: None) -> None:
    with pytest.raises(EngineError, match="failed"):
        connect().synthesize("break 3")


def test_the_gateways_own_watchdog_has_the_same_type(door: Any, scripted: None) -> None:
    with (
        open_gateway(door.url, gap_timeout=1) as gateway,
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
    connect: Any, kind: str, closed_port: str
) -> None:
    scheme = "http://" if kind.startswith("http") else ""
    client = connect(scheme + closed_port)
    assert not client.is_ready()
    with pytest.raises(ServerUnavailableError):
        client.synthesize(SCRIPT)


def test_a_gateway_without_its_server_is_server_unavailable(closed_port: str) -> None:
    with open_gateway(closed_port) as gateway, HttpDialogueClient(gateway.url) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailableError):
            client.synthesize(SCRIPT)


def test_say_speaks_through_the_gateway_and_takes_the_speakers_apart(
    gateway: Gateway, tmp_path: Path, expected: Speech
) -> None:
    out, folder = tmp_path / "talk.wav", tmp_path / "tracks"
    arguments = ["say", "--text", SCRIPT, "--seed", "11", "--max-frames", "40", "-o", str(out)]
    arguments += ["--server", gateway.url, "--tracks", str(folder)]
    result = CliRunner().invoke(app, arguments, obj=Doors())
    assert result.exit_code == 0, result.output
    whole, first, second = (
        soundfile.read(path, dtype="int16")[0]
        for path in (out, folder / "S1.wav", folder / "S2.wav")
    )
    np.testing.assert_array_equal(whole, expected.samples)
    np.testing.assert_array_equal(first + second, whole)
    border = json.loads((folder / "timeline.json").read_text())["turns"][1]["first_sample"]
    assert not first[border:].any()
    assert not second[:border].any()


def test_ready_and_sample_rate_are_told(connect: Any, expected: Speech) -> None:
    client = connect()
    assert client.is_ready()
    assert client.sample_rate_hz() == expected.sample_rate_hz
