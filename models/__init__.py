# SPDX-License-Identifier: Apache-2.0
"""The embedded bundles, and how a bundle is named."""

from __future__ import annotations

from pathlib import Path

from duologue.runtime.errors import ConfigError

DEFAULT_BUNDLE = "default"
NOISE_BUNDLE = "noise"
EMBEDDED_BUNDLES = (DEFAULT_BUNDLE, NOISE_BUNDLE)


def default_bundle_path() -> Path:
    """Directory of the embedded bundle that speaks."""
    return Path(__file__).resolve().parent / DEFAULT_BUNDLE


def noise_bundle_path() -> Path:
    """Directory of the embedded bundle for tests: tiny and untrained, it makes noise."""
    return Path(__file__).resolve().parent / NOISE_BUNDLE


def resolve_bundle(name_or_dir: str | Path) -> Path:
    """Find a bundle by name or by directory.

    Args:
        name_or_dir: the name of an embedded bundle ("default" speaks, "noise" is for tests), or
            the directory of another one. A directory that is called so too is meant by
            "./default".

    Raises:
        ConfigError: there is no such directory.
    """
    if str(name_or_dir) in EMBEDDED_BUNDLES:
        return Path(__file__).resolve().parent / name_or_dir
    directory = Path(name_or_dir).expanduser()
    if not str(name_or_dir) or not directory.is_dir():
        names = ", ".join(repr(name) for name in EMBEDDED_BUNDLES)
        raise ConfigError(
            f"bundle is {str(name_or_dir)!r}; allowed: {names} or the directory of a "
            "bundle (see `duologue build`)"
        )
    return directory
