from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_gateway import Gateway
from scripted_client import ScriptedClient

from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings


@pytest.fixture
def open_gateway() -> Iterator[Callable[..., Gateway]]:
    """Start a gateway with settings; stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(api: dict[str, Any] | None = None, **groups: Any) -> Gateway:
            flags = {"api": {"port": 0, "monitoring": {"metrics_port": 0}, **(api or {})}, **groups}
            client = ScriptedClient()
            settings = load_settings(flags=flags, environment={})
            server = stack.enter_context(GatewayServer(settings, client=client, grace_s=2))
            return Gateway(server, client)

        yield start


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One gateway for the tests of a file."""
    flags = {"api": {"port": 0, "monitoring": {"metrics_port": 0}}}
    client = ScriptedClient()
    settings = load_settings(flags=flags, environment={})
    with GatewayServer(settings, client=client, grace_s=2) as server:
        yield Gateway(server, client)
    assert client.is_closed
