# SPDX-License-Identifier: Apache-2.0
"""Where this user's files lie by default: the XDG base directories."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_OWN = "duologue"


def voices_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Folder of the voice store.

    Args:
        environment: None takes the process's own.

    >>> str(voices_dir({"XDG_DATA_HOME": "/data"}))
    '/data/duologue/voices'
    """
    return _base("XDG_DATA_HOME", ".local/share", environment) / _OWN / "voices"


def results_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Folder of the cache of results.

    Args:
        environment: None takes the process's own.

    >>> str(results_dir({"HOME": "/home/ann", "XDG_CACHE_HOME": "relative"}))
    '/home/ann/.cache/duologue/results'
    """
    return _base("XDG_CACHE_HOME", ".cache", environment) / _OWN / "results"


def _base(variable: str, below_home: str, environment: Mapping[str, str] | None) -> Path:
    """A base directory; by its specification, a relative path counts as none."""
    present = os.environ if environment is None else environment
    named = Path(present.get(variable, ""))
    home = Path(present["HOME"]) if "HOME" in present else Path.home()
    return named if named.is_absolute() else home / below_home
