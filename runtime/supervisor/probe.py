# SPDX-License-Identifier: Apache-2.0
"""Asks a server for a little audio: the only answer that proves it healthy.

Triton's own readiness stays true after a model's process has died.
"""

from __future__ import annotations

import socket

from duologue.client import DialogueClient
from duologue.client.errors import DuologueError
from duologue.runtime.errors import EngineError

PROBE_SCRIPT = "[S1]Hi."
PROBE_FRAMES = 2


def port_is_open(host: str, port: int) -> bool:
    """Whether somebody listens; Triton opens its ports when all models are loaded."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def speak_two_frames(url: str, timeout_s: float) -> int:
    """Run a tiny real request through every model that a stream needs.

    Args:
        url: "host:port" of the gRPC door.
        timeout_s: how long each chunk of the answer may take.

    Returns:
        Number of samples that came.

    Raises:
        EngineError: the server answered with an error, or not in time.
    """
    client = DialogueClient(url, chunk_timeout_s=timeout_s)
    try:
        with client.stream(PROBE_SCRIPT, max_frames=PROBE_FRAMES) as stream:
            return sum(len(chunk.samples) for chunk in stream)
    except DuologueError as error:
        kind = type(error).__name__
        raise EngineError(f"the server did not speak: {kind}: {error}") from error
    finally:
        client.close()
