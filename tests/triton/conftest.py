from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from four_clients import CLIENTS, open_client, open_gateway
from google.protobuf import text_format
from live_gateway import Gateway, wait_for

from duologue.client import contract
from duologue.model_repository import repository_path
from duologue.runtime.supervisor.embedded import EmbeddedServer
from duologue.runtime.supervisor.layout import read_config
from duologue.runtime.supervisor.requirements import why_not_embedded

SUPPORT = Path(__file__).resolve().parents[1] / "support"
SCRIPTED_MODEL = "dialogue_scripted"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.triton)


@dataclass(frozen=True)
class Door:
    """A running server as the tests see it."""

    server: EmbeddedServer

    @property
    def url(self) -> str:
        return self.server.grpc_url

    @property
    def http(self) -> str:
        assert self.server.http_url is not None
        return self.server.http_url

    def metrics(self) -> dict[str, float]:
        """Our metrics: name with labels -> value."""
        assert self.server.metrics_url is not None
        with urllib.request.urlopen(self.server.metrics_url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("duologue_")]
        return {name: float(value) for name, value in pairs}

    def wait_until(self, holds: Callable[[dict[str, float]], bool], timeout_s: float = 20) -> float:
        """Seconds until the metrics fulfil a condition."""
        start = time.monotonic()
        while not holds(self.metrics()):
            assert time.monotonic() - start < timeout_s, self.metrics()
            time.sleep(0.005)
        return time.monotonic() - start

    def wait_until_idle(self) -> float:
        """Seconds until no request is open and no slot is taken."""
        return self.wait_until(
            lambda m: not m["duologue_active_streams"] and not m["duologue_running_sequences"]
        )


@pytest.fixture(scope="session")
def needs_triton() -> None:
    reason = why_not_embedded()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def scripted_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose model speaks through the scripted synthesizer, to inject faults."""
    root = tmp_path_factory.mktemp("scripted")
    version = root / SCRIPTED_MODEL / "1"
    version.mkdir(parents=True)
    config = read_config(repository_path() / "dialogue_tts" / "config.pbtxt")
    config.name = SCRIPTED_MODEL
    config.parameters["support"].string_value = str(SUPPORT)
    text = text_format.MessageToString(config)
    (version.parent / "config.pbtxt").write_text(text)
    model = Path(__file__).parent / "scripted_model.py"
    (version / "model.py").write_text(model.read_text())
    return root


@pytest.fixture(scope="session")
def door(
    needs_triton: None, scripted_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """One server for all tests; it must have nothing to do and stop cleanly at the end."""
    log_path = tmp_path_factory.mktemp("door") / "triton.log"
    server = EmbeddedServer(
        "noise",
        log_path=log_path,
        http_port=0,
        metrics_port=0,
        extra_repositories=(scripted_repository,),
    )
    with server:
        opened = Door(server)
        yield opened
        opened.wait_until_idle()
    log = log_path.read_text()
    # Triton 2.51 keeps a request for ever whose cancel crosses its error on the way, and callers
    # hang up when they like; its model is then never told to end. All that is ours must end well.
    kept = [
        model for model in (contract.STREAMING_MODEL, SCRIPTED_MODEL) if f"{model} ends" not in log
    ]
    assert server.exit_status == 0 or (server.exit_status == 1 and kept), log
    for model in {contract.STREAMING_MODEL, SCRIPTED_MODEL} - set(kept):
        assert f"{model} has ended" in log, log


@pytest.fixture(scope="module")
def client_gateway(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway in front of the server, for the clients that speak HTTP."""
    with open_gateway(door.url, tmp_path_factory.mktemp("gateway")) as gateway:
        wait_for(lambda: gateway.call("/readyz").status == 200, 30)
        yield gateway


@pytest.fixture(params=list(CLIENTS))
def client_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect_client(
    client_kind: str, door: Door, client_gateway: Gateway
) -> Iterator[Callable[..., Any]]:
    """Connect a client of the kind to its own door; closed after the test."""
    with ExitStack() as stack:

        def start(url: str = "", **settings: Any) -> Any:
            own = door.url if client_kind.startswith("grpc") else client_gateway.url
            client = open_client(client_kind, url or own, **settings)
            stack.callback(client.close)
            return client

        yield start


@pytest.fixture(autouse=True)
def idle_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the server without open requests."""
    yield
    if "door" in request.fixturenames:
        request.getfixturevalue("door").wait_until_idle()
