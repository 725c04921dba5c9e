"""A caller of `duologue serve` who takes his answer as slowly as he likes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from live_serve import LiveServe


@dataclass
class SlowAnswer:
    """An answer that is taken as slowly as one likes."""

    socket: socket.socket
    response: HTTPResponse


@contextmanager
def answer_of(server: LiveServe, body: Mapping[str, Any]) -> Iterator[SlowAnswer]:
    """A dialogue whose answer comes through a small buffer; nothing of it is read yet."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port))
    with socket.socket() as connection.sock:
        connection.sock.settimeout(60)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sock.connect((host, int(port)))
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/audio/dialogue", json.dumps(body), headers)
        with connection.getresponse() as response:
            assert response.status == 200
            yield SlowAnswer(connection.sock, response)
