"""A gateway on loopback as the tests see it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripted_client import ScriptedClient

from duologue.runtime.gateway.server import GatewayServer


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def events(self) -> list[Any]:
        blocks = self.body.decode().strip().split("\n\n")
        return [json.loads(block.split("\ndata: ", 1)[1]) for block in blocks]


class Gateway:
    """A real server on loopback in front of a scripted client."""

    def __init__(self, server: GatewayServer, client: ScriptedClient) -> None:
        self.server = server
        self.client = client
        self.url = server.url

    def call(
        self,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        method: str | None = None,
    ) -> Answer:
        if body is not None:
            data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, _lower(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _lower(error.headers), error.read())

    def open(self, path: str, body: Any) -> Any:
        """An answer that is read as it comes; a context manager."""
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        return urllib.request.urlopen(request, timeout=60)

    def speak(self, text: str, **fields: Any) -> Answer:
        return self.call("/v1/audio/speech", {"model": "tts-1", "input": text, **fields})

    def talk(self, **fields: Any) -> Answer:
        return self.call("/v1/audio/dialogue", fields)

    @property
    def asked(self) -> tuple[str, dict[str, Any]]:
        """The last script and its options."""
        return self.client.asked[-1]


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def wait_for(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
