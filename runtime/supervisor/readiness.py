# SPDX-License-Identifier: Apache-2.0
"""Waits until a server that was started has answered a real request."""

from __future__ import annotations

import time
from pathlib import Path

from duologue.runtime.errors import EngineError
from duologue.runtime.supervisor.command import ServerOptions
from duologue.runtime.supervisor.log import start_failure
from duologue.runtime.supervisor.probe import port_is_open, speak_two_frames
from duologue.runtime.supervisor.process import GuardedProcess

POLL_S = 0.05


def wait_until_ready(
    process: GuardedProcess, options: ServerOptions, log_path: Path, timeout_s: float
) -> None:
    """Wait for the models to load and for the first audio.

    Args:
        process: of the server.
        options: where it will listen.
        log_path: where it says why it cannot.
        timeout_s: for both together.

    Raises:
        ConfigError, EngineError, ...: a model did not load, with its own reason, or there was no
            answer in time.
    """
    deadline = time.monotonic() + timeout_s
    while not port_is_open(options.host, options.grpc_port):
        if process.wait(POLL_S) is not None:
            raise start_failure(log_path)
        if time.monotonic() > deadline:
            raise EngineError(f"the Triton server did not load its models in {timeout_s:g} s")
    try:
        url = f"{options.host}:{options.grpc_port}"
        speak_two_frames(url, max(1.0, deadline - time.monotonic()))
    except EngineError:
        if process.wait(POLL_S) is not None:
            raise start_failure(log_path) from None
        raise
