# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on loopback that plays the gateway's part, by a plot that the test hands in."""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

RATE_HZ = 24_000
HEADERS = {"x-sample-rate": str(RATE_HZ), "x-seed": "7", "x-request-id": "r-1"}
SEEN_S = 10.0


@dataclass(frozen=True)
class Refusal:
    """An answer without audio."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Hold:
    """The server says nothing until the client has gone or the test is over."""


class Cut:
    """The server drops the connection in the middle of the answer."""


def delta(index, *, is_last=False, size=4):
    """A line with one chunk whose samples all are the chunk's index."""
    audio = base64.b64encode(np.full(size, index, "<i2").tobytes()).decode()
    return {
        "type": "speech.audio.delta",
        "audio": audio,
        "turn": index // 2,
        "speaker": 1 + index // 2 % 2,
        "timing": "exact",
        "is_last": is_last,
    }


def done(finish_reason="stop"):
    """The last line."""
    times = ((1, 0.0, 0.5), (2, 0.5, 1.25))
    segments = [
        {"speaker": speaker, "start_time_seconds": start, "end_time_seconds": end}
        for speaker, start, end in times
    ]
    return {
        "type": "speech.audio.done",
        "finish_reason": finish_reason,
        "voice_segments": segments,
    }


def failure(code, message):
    """A line that tells of an error."""
    return {"type": "speech.audio.error", "error": {"code": code, "message": message}}


def refusal(status, code, message):
    """The gateway's answer to a request that it does not serve."""
    return Refusal(status, json.dumps({"error": {"code": code, "message": message}}).encode())


Plot = Callable[[dict, "FakeGateway"], Iterator[object]]


def three_chunks(body, server):
    yield delta(0)
    yield delta(1)
    yield delta(2, is_last=True)
    yield done()


class FakeGateway:
    """Serves dialogues by a plot: a generator of lines for the body of a request.

    Attributes:
        bodies, headers: of every dialogue that was asked for.
        left: set when a client leaves before the plot is over.
        release: ends what holds.
        connections: how many were opened.
    """

    def __init__(
        self,
        plot: Plot,
        *,
        ready=200,
        headers: dict[str, str] = HEADERS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.plot = plot
        self.ready = ready
        self.answer_headers = headers
        self.bodies = []
        self.headers = []
        self.left = threading.Event()
        self.release = threading.Event()
        self.connections = 0
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.fake = self
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://localhost:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    fake: FakeGateway

    def process_request(self, request, client_address):
        self.fake.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        """A client that goes away is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        assert self.path == "/readyz"
        self.send_response(self.server.fake.ready)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        fake = self.server.fake
        fake.headers.append(dict(self.headers))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.bodies.append((self.path, body))
        has_begun = False
        for item in fake.plot(body, fake):
            if isinstance(item, Refusal):
                self._refuse(item)
                return
            if isinstance(item, Hold):
                self._hold()
                continue
            if not has_begun:
                has_begun = True
                self._begin()
            if isinstance(item, Cut):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            line = item if isinstance(item, bytes) else json.dumps(item).encode() + b"\n"
            self._write(line)
        if not has_begun:
            self._begin()
        self._write(b"")

    def _begin(self):
        self.send_response(200)
        for name, value in self.server.fake.answer_headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _write(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _refuse(self, item):
        self.send_response(item.status)
        for name, value in item.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(item.body)))
        self.end_headers()
        self.wfile.write(item.body)

    def _hold(self):
        fake = self.server.fake
        while not fake.release.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.01)
            if readable and not self.connection.recv(1):
                fake.left.set()
                raise ConnectionResetError("the client has gone")
