# SPDX-License-Identifier: Apache-2.0
"""Reads out of a server's log what it serves, or why it did not start."""

from __future__ import annotations

import re
from pathlib import Path

from duologue.client.contract import ANNOUNCEMENT, CODEC_ANNOUNCEMENT
from duologue.runtime.errors import DuologueError, EngineError, parse_error

_LOAD_FAILURE = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)")
_FATAL = (
    re.compile(r".*error while loading shared libraries: .*"),
    re.compile(r".*([Aa]ddress already in use|[Ff]ailed to bind|[Ff]ailed to start .* service).*"),
    re.compile(r"^error: .*"),
)
# What Triton puts in front of the text of our own exception.
_WRAPPING = re.compile(r'^"?(Internal: |Invalid argument: |TritonModelException: )+')
_FACT = re.compile(r"(\w+)=([\w.:]+)")
_LOCK = "boost::interprocess::lock_exception"
TAIL_LINES = 12


def read_announcement(log_path: Path) -> dict[str, str | int]:
    """What the models said they serve.

    Returns:
        "engine", "precision", "slots", "kv_bytes" of the language model, "codec_engine" and
        "codec_device" -> value; without those of a model that has not said so.
    """
    text = log_path.read_text(encoding="utf-8", errors="replace")
    facts: list[tuple[str, str]] = []
    for announcement in (ANNOUNCEMENT, CODEC_ANNOUNCEMENT):
        _, _, line = text.partition(announcement)
        facts += _FACT.findall(line.partition("\n")[0])
    return {name: int(value) if value.isdecimal() else value for name, value in facts}


def died_of_a_lock(failure: DuologueError) -> bool:
    """Whether Triton died, and not a model: seen once under load while models were loading."""
    return _LOCK in str(failure)


def start_failure(log_path: Path) -> DuologueError:
    """Turn the log of a server that did not start into the error to raise.

    Returns:
        The typed error of the first model that failed to load; else an `EngineError` with the
        lines that say why, or with the end of the log.
    """
    text = log_path.read_text(encoding="utf-8", errors="replace") if log_path.exists() else ""
    for match in _LOAD_FAILURE.finditer(text):
        return parse_error(_WRAPPING.sub("", match["reason"]).strip().rstrip('"'))
    lines = text.splitlines()
    fatal = [line for line in lines if any(pattern.match(line) for pattern in _FATAL)]
    shown = fatal or lines[-TAIL_LINES:] or ["the log is empty"]
    return EngineError("the Triton server did not start:\n" + "\n".join(shown))
