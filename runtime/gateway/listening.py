# SPDX-License-Identifier: Apache-2.0
"""Addresses that the gateway listens at."""

from __future__ import annotations

import socket

from duologue.runtime.errors import ConfigError


def bound(host: str, port: int, setting: str) -> socket.socket:
    """A socket at an address.

    Args:
        host: name or number.
        port: 0 picks a free one.
        setting: that named the port, for the message.

    Raises:
        ConfigError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The event loop turns Nagle's algorithm off only where the protocol is named; with it on, each
    # answer waits for 40 ms between its head and its body.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{setting}.port {port} on {host} cannot be used: {error.strerror or error}"
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Host and port of a socket, the host in brackets where it has colons."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
