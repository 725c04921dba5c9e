# SPDX-License-Identifier: Apache-2.0
"""What a bundle is built from: which files they are, and whether they have changed."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from duologue.build_engines.hub import MODEL_FILES
from duologue.runtime.bundle_files import describe_file
from duologue.runtime.errors import ConfigError

_CODEC_WEIGHTS = (".ckpt", ".safetensors", ".pt", ".pth", ".bin")
_CODEC_CONFIGS = (".yaml", ".yml")


def digest(source: Path) -> dict[str, str]:
    """Name -> sha256 of a file, or of the model files of a folder.

    Raises:
        ConfigError: the source is neither.
    """
    if source.is_file():
        return {source.name: describe_file(source)["sha256"]}
    if not source.is_dir():
        raise ConfigError(f"{source} does not exist; allowed: a file or a folder")
    return {
        path.name: describe_file(path)["sha256"]
        for path in sorted(source.iterdir())
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in MODEL_FILES)
    }


def find_codec_files(source: Path, config: Path | None) -> tuple[Path, Path]:
    """Weights and yaml of a codec.

    Args:
        source: the file of weights, or a folder that holds exactly one.
        config: the yaml; None takes the only one beside the weights.

    Raises:
        ConfigError: a file is missing, or there are several to choose from.
    """
    weights = source
    if source.is_dir():
        weights = _only_one(source, _CODEC_WEIGHTS, "codec weights", "name the file itself")
    elif not source.is_file():
        raise ConfigError(f"codec source {source} does not exist; allowed: a file or a folder")
    if config is None:
        config = _only_one(
            weights.parent, _CODEC_CONFIGS, "codec configuration", "give --codec-config"
        )
    elif not config.is_file():
        raise ConfigError(f"codec configuration {config} does not exist")
    return weights, config


def _only_one(folder: Path, suffixes: tuple[str, ...], what: str, remedy: str) -> Path:
    found = [path for path in sorted(folder.iterdir()) if path.suffix in suffixes]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(
            f"{folder} should hold one file of {what} ({', '.join(suffixes)}); "
            f"found: {names}; {remedy}"
        )
    return found[0]
