# SPDX-License-Identifier: Apache-2.0
"""The gateway as a process of its own: what runs inside it.

`python -m duologue.runtime.gateway.child` reads lines of JSON from its standard input: first what
to serve (`GatewayProcess` writes it), then what becomes of the model. It answers with one line:
where it listens, or why it cannot; and with one each time that it has let requests in again.
SIGTERM lets running streams finish; SIGINT, or the end of its input, does not.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from duologue.runtime.errors import ConfigError, DuologueError
from duologue.runtime.gateway.logs import set_up_logging
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import Settings

PR_SET_PDEATHSIG = 1


class _DrainError(Exception):
    """SIGTERM came."""


def main() -> int:
    """Serve until told to stop.

    Returns:
        Exit status.
    """
    if sys.platform == "linux":
        # However the parent dies, and even if this process hangs.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, _drain)
    try:
        wanted = json.loads(sys.stdin.readline())
        settings = Settings.model_validate(wanted["settings"])
        set_up_logging(settings.logging)
        _settle(settings.storage.temp_dir)
        server = GatewayServer(
            settings,
            wanted["grpc_url"],
            triton_metrics_url=wanted["triton_metrics_url"],
            bundle_dir=None if wanted["bundle_dir"] is None else Path(wanted["bundle_dir"]),
            grace_s=wanted["grace_s"],
        )
        server.model_away(wanted["away"])
        server.start()
    except DuologueError as error:
        _say({"error": f"{type(error).__name__}: {error}"})
        return 1
    urls = (server.url, server.metrics_url, server.grpc_url)
    _say(dict(zip(("url", "metrics_url", "grpc_url"), urls, strict=True)))
    return _serve(server)


def _settle(folder: Path | None) -> None:
    """Let all that is temporary lie where the settings say: libraries put uploads away, too."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"storage.temp_dir {folder} cannot be used: {error.strerror}") from error
    tempfile.tempdir = str(folder)


def _serve(server: GatewayServer) -> int:
    try:
        for line in sys.stdin:
            _obey(server, json.loads(line))
    except _DrainError:
        server.stop()
        return 0
    except KeyboardInterrupt:
        return 1
    return 1


def _obey(server: GatewayServer, news: dict[str, Any]) -> None:
    """Take in a line: {"restarts": {reason: count}}, {"away": reason} or {"back": facts}."""
    for reason, count in news.get("restarts", {}).items():
        server.house.metrics.restarted(reason, count)
    if "away" in news:
        server.model_away(news["away"])
    if "back" in news:
        server.model_back(news["back"])
        _say({"back": True})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _drain(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _DrainError


if __name__ == "__main__":
    status = main()
    # Whoever stops the server waits for this process: nothing is left that an orderly end of the
    # interpreter would do, and it takes seconds on a busy machine.
    logging.shutdown()
    os._exit(status)
