# SPDX-License-Identifier: Apache-2.0
"""Runs the gateway in a thread of this process, so that it can never be left behind."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from duologue.client import AsyncDialogueClient
from duologue.runtime.errors import ConfigError, EngineError
from duologue.runtime.gateway.app import create_app
from duologue.runtime.gateway.connection import Client
from duologue.runtime.gateway.grpc_gate import open_gate
from duologue.runtime.gateway.host_names import HostNames
from duologue.runtime.gateway.house import House, build_house
from duologue.runtime.gateway.listening import address_of, bound
from duologue.runtime.gateway.metrics_app import create_metrics_app
from duologue.runtime.gateway.settings import Settings

START_TIMEOUT_S = 30.0
CLIENT_SLACK_S = 1.0
# What the event loop needs beyond the grace time to end its tasks.
STOP_SLACK_S = 5.0
# After the grace time, streams are told that the server stops; this is how long that may take.
_TELL_S = 1.0
_POLL_S = 0.01
_KEEP_ALIVE_S = 30
_MAX_MESSAGE_BYTES = 1_000_000


class GatewayServer:
    """The HTTP door and the door of the metrics, for the length of a `with` block.

    Attributes:
        house: what the routes share.
        grpc_url: "host:port" of the gRPC door for other machines, or None when it is closed.
    """

    def __init__(
        self,
        settings: Settings,
        grpc_url: str = "",
        *,
        triton_metrics_url: str | None = None,
        client: Client | None = None,
        bundle_dir: Path | None = None,
        grace_s: float = 10.0,
    ) -> None:
        """Describe the gateway; nothing listens before `start`.

        Args:
            settings: where it listens and what it takes.
            grpc_url: "host:port" of the model's door.
            triton_metrics_url: shown together with the gateway's own metrics.
            client: instead of a connection to `grpc_url`.
            bundle_dir: of the bundle that is served; without it, no voices can be added.
            grace_s: how long running streams may take when the gateway is stopped.

        Raises:
            ConfigError: the key file cannot be used.
        """
        self._settings = settings
        self._grace_s = grace_s
        # The door's own watchdog is the first to act, and knows more.
        chunk_timeout_s = settings.api.chunk_timeout + CLIENT_SLACK_S
        self.house: House = build_house(
            settings,
            client or AsyncDialogueClient(grpc_url, chunk_timeout_s=chunk_timeout_s),
            bundle_dir,
        )
        self._triton_metrics_url = triton_metrics_url
        self._triton_url = grpc_url
        self.grpc_url: str | None = None
        self._sockets: list[socket.socket] = []
        self._servers: list[uvicorn.Server] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Base address of the HTTP door; valid once it has started."""
        return f"http://{address_of(self._sockets[0])}"

    @property
    def metrics_url(self) -> str | None:
        """Address of the metrics, or None when they are off."""
        return f"http://{address_of(self._sockets[1])}/metrics" if len(self._sockets) > 1 else None

    @property
    def is_running(self) -> bool:
        """Its thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen, and wait until requests are answered.

        Raises:
            ConfigError: an address cannot be listened on.
            EngineError: the event loop ended at once or did not come up in time.
        """
        api = self._settings.api
        self._open(create_app(self.house), "api", api.port)
        if api.monitoring.enabled:
            house = self.house
            names = HostNames.of(api)
            page = create_metrics_app(house.metrics, self._triton_metrics_url, house.keys, names)
            self._open(page, "api.monitoring.metrics", api.monitoring.metrics_port)
        self._reserve_grpc()
        self._thread = threading.Thread(target=self._run, name="duologue-gateway", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all(server.started for server in self._servers):
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise EngineError("the HTTP gateway did not start; the log says why")
            time.sleep(_POLL_S)

    def _reserve_grpc(self) -> None:
        grpc = self._settings.grpc
        if grpc.host is not None:
            with bound(grpc.host, grpc.port, "grpc") as listener:
                self.grpc_url = address_of(listener)

    def model_away(self, reason: str) -> None:
        """End what waits for the model, and refuse what wants it, until it is back.

        Args:
            reason: for those who ask whether it is ready.
        """
        self._call(lambda: self.house.outage.begin(reason))

    def model_back(self, facts: Mapping[str, Any] | None = None) -> None:
        """Let requests in again, from when this returns; ready when it has been asked once.

        Args:
            facts: engine and precision of what came back, see `ModelIdentity`.
        """

        def welcome() -> None:
            self.house.model.note(facts)
            self.house.outage.end()
            self.house.trouble.ring()

        is_done = self._call(welcome)
        while self.is_running and not is_done.wait(_POLL_S):
            pass

    def drain(self) -> None:
        """Take nothing new, and let running streams end within the grace time.

        Until then `/readyz` says why it is not ready. Streams that need longer are told so.
        """
        self.house.admission.is_draining = True
        deadline = time.monotonic() + self._grace_s
        self._wait_until_idle(deadline)
        if self.house.admission.num_running:
            self.model_away("the server is about to stop")
            self._wait_until_idle(deadline + _TELL_S)

    def _wait_until_idle(self, deadline: float) -> None:
        while self.house.admission.num_running and self.is_running and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _call(self, what: Callable[[], None]) -> threading.Event:
        """Do something in the event loop, or at once where none runs; set when it was done."""
        is_done = threading.Event()

        def do() -> None:
            what()
            is_done.set()

        if self._loop is not None and self.is_running:
            self._loop.call_soon_threadsafe(do)
        else:
            do()
        return is_done

    def stop(self) -> None:
        """Drain, then stop. Idempotent."""
        if self.is_running:
            self.drain()
        for server in self._servers:
            server.should_exit = True
        if self._thread is not None:
            self._thread.join(_TELL_S + STOP_SLACK_S)
            self._thread = None
        for listener in self._sockets:
            listener.close()
        self.house.keys.close()

    def _open(self, app: ASGIApp, setting: str, port: int) -> None:
        try:
            self._sockets.append(bound(self._settings.api.host, port, setting))
        except ConfigError:
            for other in self._sockets:
                other.close()
            raise
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            # A caller's own word about where it comes from is not believed.
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            # Streams have had their grace time by then; this is for answers on their way out.
            timeout_graceful_shutdown=round(_TELL_S),
            ws_max_size=_MAX_MESSAGE_BYTES,
        )
        self._servers.append(uvicorn.Server(config))

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            pairs = zip(self._servers, self._sockets, strict=True)
            async with self._grpc_door():
                await asyncio.gather(*(server.serve(sockets=[at]) for server, at in pairs))

        asyncio.run(serve())

    @asynccontextmanager
    async def _grpc_door(self) -> AsyncIterator[None]:
        if self.grpc_url is None:
            yield
            return
        gate = await open_gate(self.house, self._triton_url, self.grpc_url)
        try:
            yield
        finally:
            await gate.stop(_TELL_S)

    def __enter__(self) -> GatewayServer:
        """Start the gateway."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the gateway."""
        self.stop()
