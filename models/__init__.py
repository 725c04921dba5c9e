# SPDX-License-Identifier: Apache-2.0
"""The embedded bundle, and how a bundle is named."""

from __future__ import annotations

from pathlib import Path

from duologue.runtime.errors import ConfigError

DEFAULT_BUNDLE = "default"


def default_bundle_path() -> Path:
    """Directory of the embedded bundle: a tiny, untrained model that makes noise."""
    return Path(__file__).resolve().parent / DEFAULT_BUNDLE


def resolve_bundle(name_or_dir: str | Path) -> Path:
    """Find a bundle by name or by directory.

    Args:
        name_or_dir: "default" for the embedded bundle, or the directory of another one. A
            directory that is called so too is meant by "./default".

    Raises:
        ConfigError: there is no such directory.
    """
    if str(name_or_dir) == DEFAULT_BUNDLE:
        return default_bundle_path()
    directory = Path(name_or_dir).expanduser()
    if not str(name_or_dir) or not directory.is_dir():
        raise ConfigError(
            f"bundle is {str(name_or_dir)!r}; allowed: {DEFAULT_BUNDLE!r} or the directory of a "
            "bundle (see `duologue build`)"
        )
    return directory
