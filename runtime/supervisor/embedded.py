# SPDX-License-Identifier: Apache-2.0
"""Starts, checks and stops a tritonserver of our own."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from duologue.model_repository import repository_path
from duologue.runtime.errors import EngineError, EngineUnavailableError
from duologue.runtime.supervisor.bundle_parameters import bundle_parameters
from duologue.runtime.supervisor.command import ServerOptions, server_command, server_environment
from duologue.runtime.supervisor.failure import MODEL_DIED, SERVER_ENDED, Failure
from duologue.runtime.supervisor.ports import free_port, require_free_ports
from duologue.runtime.supervisor.process import GuardedProcess, Leftovers
from duologue.runtime.supervisor.pulse import read_audio_seconds
from duologue.runtime.supervisor.requirements import SHM_DIR, why_not_embedded
from duologue.runtime.supervisor.stubs import find_stubs, is_running
from duologue.runtime.supervisor.triton_install import find_triton

SERVER_FOLLOWS_S = 0.2
# tritonserver leaves by itself within its exit timeout unless a client keeps a stream open.
EXIT_SLACK_S = 5.0


class EmbeddedServer:
    """A tritonserver from the nvidia-pytriton wheel, with our models, for as long as we live.

    Use it as a context manager, or call `start` and `stop`. The server and everything it
    leaves behind end with this process, however this process ends. Creating the object runs
    nothing yet; it raises `ConfigError` for a port out of range and a bundle that is not there.

    Args:
        bundle_dir: folder of the bundle, or "default" for the one that ships with us.
        engine: "auto", "onnx", "torch" or "trtllm".
        max_slots: dialogues that run at the same time; None takes the bundle's number.
        codec_engine: "auto", "onnx" or "torch".
        codec_device: "auto" (the GPU where torch sees one), "cpu", "cuda" or "cuda:N".
        host: address to listen on. Triton has no authentication: keep the loopback.
        grpc_port: 0 picks a free one.
        http_port: None keeps the door closed, 0 picks a free one.
        metrics_port: None keeps the door closed, 0 picks a free one.
        cache_bytes: size of Triton's response cache; 0 means none.
        start_timeout_s: how long models may take to load and to answer.
        exit_timeout_s: how long a stopping server waits for running requests.
        log_path: where the server's log goes; None keeps it in a folder that is removed. The log
            of the run before the present one stays beside it, with ".1" after its name.
        extra_repositories: further Triton model repositories, served as they are.

    Attributes:
        stubs: process id of each model's process -> the model; empty unless it runs.
        exit_status: of tritonserver once it was stopped (0 is a clean stop); None before.
        bundle_dir: folder of the bundle.
    """

    def __init__(
        self,
        bundle_dir: str | Path = "default",
        *,
        engine: str = "auto",
        max_slots: int | None = None,
        codec_engine: str = "auto",
        codec_device: str = "auto",
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        http_port: int | None = None,
        metrics_port: int | None = None,
        cache_bytes: int = 0,
        start_timeout_s: float = 120.0,
        exit_timeout_s: int = 10,
        log_path: Path | None = None,
        extra_repositories: tuple[Path, ...] = (),
    ) -> None:
        self._parameters = {
            **bundle_parameters(bundle_dir),
            "engine": engine,
            "max_slots": "" if max_slots is None else str(max_slots),
            "codec_engine": codec_engine,
            "codec_device": codec_device,
        }
        self.bundle_dir = Path(self._parameters["bundle"])
        self._start_timeout_s = start_timeout_s
        self._log_path = log_path
        self._options = ServerOptions(
            grpc_port=grpc_port or free_port(host),
            host=host,
            http_port=free_port(host) if http_port == 0 else http_port,
            metrics_port=free_port(host) if metrics_port == 0 else metrics_port,
            cache_bytes=cache_bytes,
            exit_timeout_s=exit_timeout_s,
            extra_repositories=tuple(Path(path).resolve() for path in extra_repositories),
        )
        self._root: Path | None = None
        self._process: GuardedProcess | None = None
        self.stubs: dict[int, str] = {}
        self._facts: dict[str, Any] = {}
        self.exit_status: int | None = None

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC door, as "host:port"."""
        return f"{self._options.host}:{self._options.grpc_port}"

    @property
    def http_url(self) -> str | None:
        """Base address of the HTTP door, or None when it is closed."""
        return self._base_url(self._options.http_port)

    @property
    def metrics_url(self) -> str | None:
        """Address of the Prometheus metrics, or None when that door is closed."""
        base = self._base_url(self._options.metrics_port)
        return None if base is None else f"{base}/metrics"

    def _base_url(self, port: int | None) -> str | None:
        return None if port is None else f"http://{self._options.host}:{port}"

    def start(self) -> None:
        """Start the server and wait until it has answered a real request.

        Raises:
            EngineUnavailableError: the server cannot run here; says what to install.
            ConfigError, EngineError, ...: a port is taken, a model did not load, with the
                model's own reason, or the server gave no answer in time. Nothing is left running.
        """
        from duologue.runtime.supervisor.log import died_of_a_lock

        try:
            self._start()
        except EngineError as failure:
            if not died_of_a_lock(failure):
                raise
            # What Triton 2.51 loses by chance, it has no reason to lose again.
            self._start()

    def _start(self) -> None:
        reason = why_not_embedded()
        wheel = find_triton()
        if reason is not None or wheel is None:
            raise EngineUnavailableError(reason or "the package nvidia-pytriton is not installed")
        require_free_ports(self._options)
        # Imported here: tritonclient is not needed to say why the server cannot run.
        from duologue.runtime.supervisor.layout import prepare_workspace
        from duologue.runtime.supervisor.log import read_announcement
        from duologue.runtime.supervisor.readiness import wait_until_ready

        self._root = Path(tempfile.mkdtemp(prefix="duologue-"))
        try:
            workspace = prepare_workspace(self._root, wheel, repository_path(), self._parameters)
            # The process id keeps the regions of several servers apart for people, too.
            shm_prefix = f"duologue_{os.getpid()}_{secrets.token_hex(4)}_"
            log_path = self._log_path or workspace.log
            if log_path.exists():
                log_path.replace(log_path.with_name(f"{log_path.name}.1"))
            self._process = GuardedProcess(
                server_command(wheel, workspace, self._options, shm_prefix),
                environment=server_environment(wheel, os.environ),
                cwd=workspace.cwd,
                log_path=log_path,
                grace_s=self._options.exit_timeout_s + EXIT_SLACK_S,
                leftovers=Leftovers(self._root, SHM_DIR, shm_prefix),
            )
            wait_until_ready(self._process, self._options, log_path, self._start_timeout_s)
            self.stubs = find_stubs(shm_prefix)
            self._facts = read_announcement(log_path)
        except BaseException:
            self.stop()
            raise

    def describe(self) -> dict[str, Any]:
        """What a started server serves.

        Returns:
            "engine" and "precision" of the language model, "slots" (dialogues at the same
            time), "kv_bytes" of its cache, and "codec_engine" and "codec_device".
        """
        return dict(self._facts)

    def wait(self, timeout_s: float) -> int | None:
        """Exit status of tritonserver, or None when it still runs after so many seconds."""
        return self.exit_status if self._process is None else self._process.wait(timeout_s)

    def process_ids(self) -> tuple[int, ...]:
        """The processes without which the server does not work."""
        return (*self.stubs, *(() if self._process is None else (self._process.pid,)))

    def failure(self) -> Failure | None:
        """What is wrong with a server that was started, or None; costs next to nothing.

        Triton neither restarts the process of a model nor reports its death: its readiness
        stays true and running streams hang. The cure is `stop(force=True)` and `start`.
        """
        if self._process is None:
            return Failure(SERVER_ENDED, "the server does not run")
        status = self._process.wait(0)
        if status is not None:
            return Failure(SERVER_ENDED, f"tritonserver ended with status {status}")
        dead = sorted(model for pid, model in self.stubs.items() if not is_running(pid))
        if not dead:
            return None
        # A server that dies takes its models along, and is gone a moment after them.
        status = self._process.wait(SERVER_FOLLOWS_S)
        if status is not None:
            return Failure(SERVER_ENDED, f"tritonserver ended with status {status}")
        return Failure(MODEL_DIED, f"the process of the model {', '.join(dead)} has died")

    def speak(self, timeout_s: float) -> int:
        """Run a tiny real request through every model that a stream needs.

        Returns:
            Number of samples that came.

        Raises:
            EngineError: the server answered with an error, or not in so many seconds.
        """
        from duologue.runtime.supervisor.probe import speak_two_frames

        return speak_two_frames(self.grpc_url, timeout_s)

    def audio_seconds(self) -> float | None:
        """Seconds of audio sent since the start, or None when the metrics are closed."""
        return read_audio_seconds(self.metrics_url)

    def stop(self, *, force: bool = False, within_s: float | None = None) -> None:
        """End the server and remove everything it left behind. Idempotent.

        Args:
            force: do not wait for running requests, nor for a server that cannot end by itself.
            within_s: wait for as long at most; None takes the exit timeout and some slack.
        """
        if self._process is not None:
            self.exit_status = self._process.stop(force=force, within_s=within_s)
            self._process = None
            self.stubs = {}
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None

    def __enter__(self) -> EmbeddedServer:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()
