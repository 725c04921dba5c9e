from __future__ import annotations

import socket

import pytest

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.listening import address_of, bound


def test_the_event_loop_can_see_that_it_is_tcp() -> None:
    """Only then does asyncio send each piece at once; else every answer takes 40 ms more."""
    with bound("127.0.0.1", 0, "api") as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert address_of(listener).startswith("127.0.0.1:")


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with bound("127.0.0.1", 0, "api") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"grpc.port {port} on 127.0.0.1"):
            bound("127.0.0.1", port, "grpc")
