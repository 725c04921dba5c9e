# SPDX-License-Identifier: Apache-2.0
"""What the creator of an engine gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine's creator gets.

    Attributes:
        lm: shape of the model.
        entry: what the bundle says of the engine.
        directory: of the bundle.
        max_slots, max_rows: size of the KV cache.
        num_threads: of an engine that has threads of its own; None leaves it to the engine.
    """

    lm: LmConfig
    entry: dict[str, Any]
    directory: Path
    max_slots: int
    max_rows: int
    num_threads: int | None = None

    def path(self, key: str) -> Path:
        """The file that the entry names under `key`.

        Raises:
            ConfigError: the entry names none.
        """
        if not isinstance(self.entry.get(key), str):
            raise ConfigError(f"engines: {key} is {self.entry.get(key)!r}; allowed: a file name")
        return self.directory / str(self.entry[key])
