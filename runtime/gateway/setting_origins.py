# SPDX-License-Identifier: Apache-2.0
"""Where each setting came from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.runtime.gateway.setting_files import Layer
from duologue.runtime.gateway.settings import ENVIRONMENT, PREFIX, load_layered


@dataclass(frozen=True, slots=True)
class Explained:
    """One setting.

    Attributes:
        name: its path, e.g. "api.port".
        value: as it takes effect; a key is masked.
        origin: "default", "file ...", "environment ..." or "flag".
    """

    name: str
    value: Any
    origin: str


def explain_settings(
    files: Sequence[Path] = (),
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[list[Explained], tuple[str, ...]]:
    """Every setting with its origin, and the notes of `Settings`.

    Args:
        files: as `load_settings` takes them, and so the others.
        flags: of the command line.
        environment: None takes the process's own.

    Raises:
        ConfigError: as `load_settings`.
    """
    settings, layers = load_layered(files, flags, environment)
    values = settings.model_dump(mode="json", exclude={"notes"})
    explained = [
        Explained(".".join(path), value, _origin(path, layers)) for path, value in _leaves(values)
    ]
    return explained, settings.notes


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for key, value in values.items():
        path = (*above, key)
        # Names of voices are values, not settings of ours.
        if isinstance(value, Mapping) and path != ("voices", "aliases"):
            yield from _leaves(value, path)
        else:
            yield path, value


def _origin(path: tuple[str, ...], layers: Sequence[Layer]) -> str:
    """The strongest layer that names a path, or something above it."""
    for layer in reversed(layers):
        if _names(layer.values, path):
            return _variable(path) if layer.origin == ENVIRONMENT else layer.origin
    return "default"


def _names(values: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, Mapping):
            return True
        if part not in values:
            return False
        values = values[part]
    return True


def _variable(path: tuple[str, ...]) -> str:
    """The variable of ours that names a path: its own, or that of a group above it."""
    present = {name.upper() for name in os.environ}
    names = [PREFIX + "__".join(path[:end]).upper() for end in range(len(path), 0, -1)]
    return f"environment {next((name for name in names if name in present), PREFIX + '*')}"
