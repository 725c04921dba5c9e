"""F18: a network that is slow, drops connections, or ends them in mid-stream."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import numpy as np
import pytest
from conftest import Judge
from live_serve import LiveServe, dialogue

from duologue.client import DialogueClient
from duologue.client.errors import ServerUnavailableError, StreamTimeoutError

SCRIPT = "[S1]" + "And so on. " * 40


class Link:
    """A relay between a caller and a port, with the faults of a network.

    Attributes:
        delay_s: of every piece on its way back.
        is_silent: nothing comes through any more, and nobody is told.
        num_connections: that were made so far.
    """

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._target = (host, int(port))
        self.delay_s = 0.0
        self.is_silent = False
        self.num_connections = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self.num_connections += 1
            self._sockets += [near, far]
            for source, sink, delays in ((near, far, False), (far, near, True)):
                args = (source, sink, delays)
                threading.Thread(target=self._relay, args=args, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, delays: bool) -> None:
        try:
            while data := source.recv(16_384):
                if delays:
                    time.sleep(self.delay_s)
                if not self.is_silent:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self) -> None:
        """Reset all connections."""
        for each in self._sockets:
            try:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()


@contextmanager
def link_to(address: str) -> Iterator[Link]:
    link = Link(address)
    try:
        yield link
    finally:
        link.close()


def test_f18_a_slow_network_changes_nothing_but_time(server: LiveServe, judge: Judge) -> None:
    with DialogueClient(server.facts["grpc_url"]) as client:
        expected = client.synthesize(SCRIPT, seed=3, max_frames=100).samples
    with link_to(server.facts["grpc_url"]) as link:
        link.delay_s = 0.2
        with DialogueClient(link.address) as client:
            heard = client.synthesize(SCRIPT, seed=3, max_frames=100).samples
    same = np.array_equal(heard, expected)
    judge("F18", "200 ms on the way: the same audio", f"{len(heard)} samples", same)


def test_f18_a_connection_that_breaks_is_told_at_once(server: LiveServe, judge: Judge) -> None:
    with link_to(server.facts["grpc_url"]) as link, DialogueClient(link.address) as client:
        stream = client.stream(SCRIPT, max_frames=1500, max_ahead_s=1)
        next(stream)
        link.cut()
        start = time.monotonic()
        with pytest.raises(ServerUnavailableError):
            list(stream)
        took_s = time.monotonic() - start
        judge("F18", "gRPC reset: a typed error <= 5 s", f"{took_s:.2f} s", took_s <= 5)
        again = client.synthesize(SCRIPT, seed=1, max_frames=10)
        told = f"{len(again.samples)} samples"
        judge("F18", "the same client goes on", told, len(again.samples) > 0)
        assert link.num_connections >= 2
    freed_s = server.wait_until(server.is_idle, 60)
    judge("F18", "the slot is freed", f"{freed_s:.1f} s", freed_s <= 20)


def test_f18_a_network_that_falls_silent_is_noticed(server: LiveServe, judge: Judge) -> None:
    with link_to(server.facts["grpc_url"]) as link:
        client = DialogueClient(link.address, timeout_s=2, chunk_timeout_s=2)
        stream = client.stream(SCRIPT, max_frames=1500, max_ahead_s=1)
        next(stream)
        link.is_silent = True
        start = time.monotonic()
        # Whichever is first: no chunk, or no word about what was taken.
        with pytest.raises((StreamTimeoutError, ServerUnavailableError)):
            list(stream)
        took_s = time.monotonic() - start
        judge("F18", "silence: the watchdog after 2 s", f"{took_s:.1f} s", took_s <= 5)
        client.close()
    server.wait_until(server.is_idle, 90)


def test_f18_http_that_breaks_looks_broken(server: LiveServe, judge: Judge) -> None:
    direct = server.url
    with link_to(direct.removeprefix("http://")) as link:
        server.url = f"http://{link.address}"
        try:
            with server.open("/v1/audio/dialogue", dialogue()) as answer:
                answer.read(1000)
                link.cut()
                with pytest.raises((HTTPException, OSError)):
                    answer.read()
        finally:
            server.url = direct
    freed_s = server.wait_until(server.is_idle, 60)
    judge("F18", "HTTP reset: an error, slot freed", f"{freed_s:.2f} s", freed_s <= 20)


def test_f18_no_message_is_large(server: LiveServe, judge: Judge) -> None:
    with DialogueClient(server.facts["grpc_url"]) as client:
        sizes = [chunk.samples.nbytes for chunk in client.stream(SCRIPT, seed=1, max_frames=600)]
    largest = max(sizes) / 1024
    # Beside the samples, a message has tensors of a few hundred bytes.
    judge("F18", "chunks < 64 KiB", f"{largest:.0f} KiB", max(sizes) + 1024 <= 64 * 2**10)
