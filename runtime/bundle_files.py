# SPDX-License-Identifier: Apache-2.0
"""The files of a bundle: their sizes and hashes, and whether they still hold."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from duologue.runtime.config import Bundle
from duologue.runtime.errors import ConfigError

_BLOCK_BYTES = 1 << 20


def describe_file(path: Path) -> dict[str, Any]:
    """Size and hash of a file, as `Bundle.files` keeps them.

    Returns:
        {"sha256": hexadecimal digits, "bytes": size}.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


def verify_bundle(directory: Path, *, hashes: bool = False) -> Bundle:
    """Read a bundle and check that its files are the ones that were built.

    Args:
        directory: of the bundle.
        hashes: also compare contents; reads every file to its end.

    Raises:
        ConfigError: `bundle.json` is missing, wrong or of another version, or a file is
            missing, cut short or changed; names the file, what it is and what it should be.
    """
    bundle = Bundle.load(directory)
    for name, entry in bundle.files.items():
        _check_file(directory, name, entry, hashes)
    return bundle


def _check_file(directory: Path, name: str, entry: dict[str, Any], hashes: bool) -> None:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise ConfigError(f"files has {name!r}; allowed: names inside the bundle")
    if not isinstance(entry, dict) or not {"sha256", "bytes"} <= set(entry):
        raise ConfigError(f"files.{name} is {entry!r}; allowed: 'sha256' and 'bytes'")
    path = directory / place
    if not path.is_file():
        raise ConfigError(f"{directory} is not complete: {name} is missing; build it again")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ConfigError(
            f"{path} has {size} bytes; the bundle was built with {entry['bytes']}: "
            "it was cut short or replaced, build it again"
        )
    if hashes and describe_file(path)["sha256"] != entry["sha256"]:
        raise ConfigError(f"{path} differs from what was built: its sha256 is not the recorded one")
