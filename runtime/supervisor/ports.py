# SPDX-License-Identifier: Apache-2.0
"""Ports for a server to listen on."""

from __future__ import annotations

import socket

from duologue.runtime.errors import ConfigError
from duologue.runtime.supervisor.command import ServerOptions


def free_port(host: str) -> int:
    """A port on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free_ports(options: ServerOptions) -> None:
    """Refuse a taken port before the models are loaded; Triton finds out only afterwards.

    Raises:
        ConfigError: a port is taken, or may not be used.
    """
    for name in ("grpc_port", "http_port", "metrics_port"):
        port = getattr(options, name)
        if port is None:
            continue
        with socket.socket() as probe:
            # As Triton does: connections that linger from an earlier server do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.host, port))
            except OSError as error:
                raise ConfigError(
                    f"{name} {port} of {options.host} cannot be used: {error.strerror}; "
                    "allowed: a free port, or 0 to have one chosen"
                ) from error
