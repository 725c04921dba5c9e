# SPDX-License-Identifier: Apache-2.0
"""Setting files and the environment variables of the MegaTTS3 platform, as plain values.

Every key of the platform's files is known here: most are settings of ours by the same path, some
go by another path, and some change nothing, which is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from duologue.runtime.errors import ConfigError

_BUNDLE = "the model and its engines are described by the bundle"
# Keys of the platform's files that are understood and change nothing: reason -> paths.
INAPPLICABLE = {
    _BUNDLE: (
        *("model.name", "model.type", "model.version", "model.checkpoint_path"),
        *("model.config_path", "model.inference.device", "model.inference.precision"),
        *("model.vocoder.type", "model.vocoder.checkpoint_path"),
        *("gpu_config.memory_fraction", "gpu_config.allow_growth", "gpu_config.mixed_precision"),
        "inference_config.max_sequence_length",
    ),
    "the scheduler batches by itself": (
        "model.inference.batch_size",
        "inference_config.batch_size",
    ),
    "the cache is on disk, there is no Redis": (
        *("cache_config.redis_url", "cache_config.compression", "cache_config.key_prefix"),
    ),
    "one process serves all requests": ("api.workers",),
}
# Keys of the platform's files that go by another path here.
MOVED = {
    "model.inference.max_length": "api.max_text_chars",
    "model.cache.enabled": "cache.enabled",
    "model.cache.max_size": "cache.max_size",
    "model.cache.ttl": "cache.ttl",
    "inference_config.use_cache": "cache.enabled",
    "cache_config.max_memory": "cache.max_size",
    "cache_config.ttl": "cache.ttl",
    # The groups that some write beside `api` instead of below it.
    "cors": "api.cors",
    "rate_limit": "api.rate_limit",
    "monitoring": "api.monitoring",
}
# Variable -> paths of its settings and what is joined to its value; a later one wins.
PLATFORM_VARIABLES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("API_HOST", (("api.host", ""),)),
    ("API_PORT", (("api.port", ""),)),
    ("LOG_LEVEL", (("logging.level", ""),)),
    ("VOICE_STORAGE_DIR", (("storage.voice_samples_dir", ""),)),
    ("MODEL_CACHE_DIR", (("storage.cache_dir", ""),)),
    ("MEGATTS3_HOST", (("api.host", ""),)),
    ("MEGATTS3_PORT", (("api.port", ""),)),
    ("MEGATTS3_TIMEOUT", (("api.timeout", ""),)),
    ("MEGATTS3_LOG_DIR", (("logging.file", "duologue.log"),)),
    (
        "MEGATTS3_STORAGE_DIR",
        (
            ("storage.voice_samples_dir", "voices"),
            ("storage.cache_dir", "cache"),
            ("storage.temp_dir", "temp"),
        ),
    ),
)
# Of these only the long names are spoken of: the short ones belong to others, too.
INAPPLICABLE_VARIABLES = {
    "MEGATTS3_WORKERS": "one process serves all requests",
    "MEGATTS3_MODEL_DIR": _BUNDLE,
    "MEGATTS3_BATCH_SIZE": "the scheduler batches by itself",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one place.

    Attributes:
        origin: for people, e.g. "file api.yaml" or "environment API_PORT".
        values: nested as the settings are.
    """

    origin: str
    values: dict[str, Any]


def read_files(files: Sequence[Path]) -> tuple[list[Layer], list[str]]:
    """Read setting files.

    Args:
        files: YAML, each an object at its root.

    Returns:
        One layer per file, and one note per reason for which keys of a file have no effect.

    Raises:
        ConfigError: a file cannot be read or is no YAML object.
    """
    layers, notes = [], []
    for path in files:
        data = _read(path)
        notes += [f"{path.name}: {note}" for note in _drop(data)]
        for old, new in MOVED.items():
            found = _take(data, old)
            if found is not None:
                data = merge(data, _nested(new, found[0]))
        layers.append(Layer(f"file {path}", data))
    return layers, notes


def read_platform_variables(environment: Mapping[str, str]) -> list[Layer]:
    """The values of the platform's own environment variables, the strongest last.

    >>> [layer.values for layer in read_platform_variables({"API_PORT": "1"})]
    [{'api': {'port': '1'}}]
    """
    layers = []
    for name, targets in PLATFORM_VARIABLES:
        value = environment.get(name)
        for path, below in targets if value else ():
            whole = str(PurePath(str(value), below)) if below else value
            layers.append(Layer(f"environment {name}", _nested(path, whole)))
    return layers


def note_platform_variables(environment: Mapping[str, str]) -> list[str]:
    """One note per variable of the platform that has no effect."""
    return [
        f"{name} has no effect: {why}"
        for name, why in INAPPLICABLE_VARIABLES.items()
        if environment.get(name)
    ]


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested mapping over another.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the settings {path} cannot be read: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"the settings {path} are no YAML object; allowed: groups such as api:")
    return data


def _drop(data: dict[str, Any]) -> Iterator[str]:
    """Take the keys out that change nothing; gives a note per reason."""
    for why, paths in INAPPLICABLE.items():
        found = [path for path in paths if _take(data, path) is not None]
        if found:
            yield f"{', '.join(found)} {'has' if len(found) == 1 else 'have'} no effect: {why}"


def _take(data: dict[str, Any], path: str) -> tuple[Any] | None:
    """Remove a key, and the groups that are empty without it; its value in a tuple, if any."""
    head, _, rest = path.partition(".")
    if head not in data:
        return None
    if not rest:
        return (data.pop(head),)
    group = data[head]
    found = _take(group, rest) if isinstance(group, dict) else None
    if found is not None and not group:
        del data[head]
    return found


def _nested(path: str, value: Any) -> dict[str, Any]:
    """A value at a path.

    >>> _nested("a.b", 1)
    {'a': {'b': 1}}
    """
    for part in reversed(path.split(".")):
        value = {part: value}
    whole: dict[str, Any] = value
    return whole
