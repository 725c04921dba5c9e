# SPDX-License-Identifier: Apache-2.0
"""The settings on the command line of `serve`: the HTTP door's, and where the codec runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.cli.grpc_door import why_no_grpc_door

if TYPE_CHECKING:
    from duologue.runtime.gateway.setting_origins import Explained
    from duologue.runtime.gateway.settings import Settings

_NEEDED = ("fastapi", "uvicorn", "pydantic_settings", "av", "soxr", "prometheus_client")


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """Where the codec is to run; None leaves it to files and environment.

    Attributes:
        engine, device: see `serve`.
    """

    engine: str | None = None
    device: str | None = None

    def as_flags(self) -> dict[str, str]:
        """Only what was said."""
        named = (("engine", self.engine), ("device", self.device))
        return {name: value for name, value in named if value is not None}


@dataclass(frozen=True, slots=True)
class HttpChoice:
    """The options of `serve` that are settings, too; None leaves it to files and environment.

    Attributes:
        files: of settings.
        host, http_port, metrics_port: where it listens.
        keys_file: API keys.
        public_without_keys: a public address is served to everybody.
        grpc_host, grpc_port: of the gRPC door for other machines.
        codec: engine and device of the codec, as far as they were said.
    """

    files: tuple[Path, ...] = ()
    host: str | None = None
    http_port: int | None = None
    metrics_port: int | None = None
    keys_file: Path | None = None
    public_without_keys: bool = False
    grpc_host: str | None = None
    grpc_port: int | None = None
    codec: CodecChoice = CodecChoice()


def read_http_settings(choice: HttpChoice, warn: Callable[[str], None]) -> Settings | None:
    """The settings of the HTTP door, or None when its packages are not installed.

    Args:
        choice: the command line.
        warn: takes a line for the person at the terminal.

    Raises:
        ConfigError: a setting cannot be used; EngineUnavailableError: HTTP was asked for by an
            option, and a package is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _do_without(missing[0], choice, warn)
        return None
    from duologue.runtime.gateway.settings import load_settings

    settings = load_settings(choice.files, _flags(choice))
    _check_grpc(settings.grpc.host)
    for note in settings.notes:
        warn(note)
    return settings


def explain_http_settings(choice: HttpChoice) -> tuple[list[Explained], tuple[str, ...]]:
    """Every setting of the HTTP door with where it came from, and notes on keys without effect.

    Raises:
        ConfigError: a setting cannot be used.
    """
    from duologue.runtime.gateway.setting_origins import explain_settings

    return explain_settings(choice.files, _flags(choice))


def _check_grpc(host: str | None) -> None:
    from duologue.runtime.errors import ConfigError
    from duologue.runtime.gateway.settings import is_loopback

    reason = None if host is None or is_loopback(host) else why_no_grpc_door()
    if reason is not None:
        raise ConfigError(reason)


def _do_without(missing: str, choice: HttpChoice, warn: Callable[[str], None]) -> None:
    from duologue.runtime.errors import EngineUnavailableError

    text = f"HTTP needs the package {missing}: pip install 'duologue[gateway]'"
    if choice != HttpChoice(metrics_port=choice.metrics_port, codec=choice.codec):
        raise EngineUnavailableError(text)
    warn(f"gRPC alone is served; {text}")


def _flags(choice: HttpChoice) -> dict[str, Any]:
    """Only what was said: what was not must not hide files and environment."""
    api: dict[str, Any] = {}
    if choice.host is not None:
        api["host"] = choice.host
    if choice.http_port is not None:
        api["port"] = choice.http_port
    if choice.metrics_port is not None:
        api["monitoring"] = {"metrics_port": choice.metrics_port}
    if choice.public_without_keys:
        api["allow_public_without_keys"] = True
    flags: dict[str, Any] = {"api": api} if api else {}
    if choice.grpc_host is not None:
        flags["grpc"] = {"host": choice.grpc_host}
        if choice.grpc_port is not None:
            flags["grpc"]["port"] = choice.grpc_port
    if choice.codec.as_flags():
        flags["codec"] = choice.codec.as_flags()
    if choice.keys_file is not None:
        flags["auth"] = {"keys_file": choice.keys_file}
    return flags
