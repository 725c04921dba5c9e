# SPDX-License-Identifier: Apache-2.0
"""The gateway as a process of its own, so that it can be started again and takes nobody along."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import SecretStr

from duologue.runtime.errors import EngineError, parse_error
from duologue.runtime.gateway.server import START_TIMEOUT_S, STOP_SLACK_S
from duologue.runtime.gateway.settings import Settings

CHILD = "duologue.runtime.gateway.child"
LOADING = "the model is being loaded"


class GatewayProcess:
    """The HTTP door and the door of the metrics; started as often as it takes.

    Attributes:
        url: base address of the HTTP door; valid once it has started.
        metrics_url: address of the metrics, or None when they are off.
        grpc_url: "host:port" of the gRPC door for other machines, or None when it is closed.
    """

    def __init__(
        self,
        settings: Settings,
        grpc_url: str,
        *,
        triton_metrics_url: str | None = None,
        bundle_dir: Path | None = None,
        grace_s: float = 10.0,
        describe_model: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Describe the gateway; nothing runs before `start`.

        Args:
            settings: where it listens and what it takes.
            grpc_url: "host:port" of the model's door.
            triton_metrics_url: shown together with the gateway's own metrics.
            bundle_dir: of the bundle that is served; without it, no voices can be added.
            grace_s: how long running streams may take when the gateway is stopped.
            describe_model: gives engine and precision of a model that has come (back).
        """
        self._settings = settings.model_dump()
        self._grpc_url = grpc_url
        self._triton_metrics_url = triton_metrics_url
        self._bundle_dir = bundle_dir
        self._grace_s = grace_s
        self._describe_model = describe_model
        self._process: subprocess.Popen[str] | None = None
        self._restarts: dict[str, int] = {}
        self._away: str | None = LOADING
        self.url = ""
        self.metrics_url: str | None = None
        self.grpc_url: str | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, whether it lives or not; None when it was stopped."""
        return None if self._process is None else self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Of a process that ended by itself; None while it runs, and when it was stopped."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Listen, and wait until requests are answered; at a later start on the same ports.

        Until `model_back` is called, it says that the model is away.

        Raises:
            ConfigError: an address cannot be listened on.
            EngineError: it did not come up.
        """
        command = [sys.executable, "-I", "-m", CHILD]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we decide.
            start_new_session=True,
        )
        try:
            self._tell(
                settings=self._settings,
                grpc_url=self._grpc_url,
                triton_metrics_url=self._triton_metrics_url,
                bundle_dir=self._bundle_dir,
                grace_s=self._grace_s,
                away=self._away or LOADING,
            )
            answer = self._read_answer(self._process)
            if "error" in answer:
                raise parse_error(answer["error"])
        except BaseException:
            self.stop(force=True)
            raise
        self.url, self.metrics_url = answer["url"], answer["metrics_url"]
        self.grpc_url = answer["grpc_url"]
        self._keep_ports()
        self._tell(restarts=self._restarts)
        if self._away is None:
            self.model_back()

    def model_away(self, reason: str) -> None:
        """The model cannot be used: running streams end now, and new ones are refused."""
        self._away = reason
        self._tell(away=reason)

    def model_back(self) -> None:
        """The model speaks again: from when this returns, requests are let in."""
        self._away = None
        self._tell(back=dict(self._describe_model()))
        if self._process is None:
            return
        try:
            self._read_answer(self._process)
        except EngineError:
            # It hangs. Nothing is spoken yet, and who watches it starts another one.
            self._process.kill()

    def count_restart(self, reason: str) -> None:
        """Show a restart in the metrics; a gateway that is started later shows it, too."""
        self._restarts[reason] = self._restarts.get(reason, 0) + 1
        self._tell(restarts={reason: 1})

    def stop(self, *, force: bool = False) -> None:
        """Let running streams end within the grace time, then stop. Idempotent.

        Args:
            force: do not wait for anybody.
        """
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if not force:
                process.send_signal(signal.SIGTERM)
                process.wait(self._grace_s + 2 * STOP_SLACK_S)
        except subprocess.TimeoutExpired:
            pass  # it hangs, and is killed like one that must not be waited for
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)

    def _tell(self, **news: Any) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps(news, default=_plain) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; who watches it will see

    def _read_answer(self, process: subprocess.Popen[str]) -> Mapping[str, Any]:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
        line = process.stdout.readline() if readable else ""
        if not line:
            raise EngineError("the HTTP gateway did not start; its log says why")
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _keep_ports(self) -> None:
        """Another start finds the ports that were picked at this one."""
        api = self._settings["api"]
        api["port"] = _port_of(self.url)
        if self.metrics_url is not None:
            api["monitoring"]["metrics_port"] = _port_of(self.metrics_url.rpartition("/")[0])
        if self.grpc_url is not None:
            self._settings["grpc"]["port"] = _port_of(self.grpc_url)

    def __enter__(self) -> GatewayProcess:
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


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def _close(pipe: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # something was left to be written to it
        pipe.close()


def _plain(value: object) -> object:
    """Settings as JSON; a key goes as it is, through a pipe that nobody else can read."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return os.fspath(value)
    raise TypeError(f"a setting of type {type(value).__name__} cannot be handed on")
