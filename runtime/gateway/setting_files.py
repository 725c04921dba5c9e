# SPDX-License-Identifier: Apache-2.0
"""Setting files and the environment variables of the MegaTTS3 platform, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from duologue.runtime.errors import ConfigError

# Keys of the platform's files that are understood and change nothing, and why.
INAPPLICABLE = {
    "model": "the model and its engines are described by the bundle",
    "gpu_config": "memory and precision are settled when the bundle is built",
    "inference_config": "batches are made by the scheduler, limits stand in the bundle",
    "cache_config": "there is no Redis cache",
    "storage": "there is no voice store and no cache of results in this version",
    "api.workers": "one process serves all requests",
}
# The two groups that some write beside `api` instead of below it.
_GROUPS_OF_API = ("cors", "rate_limit", "monitoring")
# Variable -> path of the setting. Of each pair the first one wins.
PLATFORM_VARIABLES = (
    (("MEGATTS3_HOST", "API_HOST"), ("api", "host")),
    (("MEGATTS3_PORT", "API_PORT"), ("api", "port")),
    (("MEGATTS3_TIMEOUT",), ("api", "timeout")),
    (("LOG_LEVEL",), ("logging", "level")),
)


def read_files(files: Sequence[Path]) -> tuple[dict[str, Any], list[str]]:
    """Read setting files, each over the ones before it.

    Args:
        files: YAML, each an object at its root.

    Returns:
        The values that apply here, and one note per key that does not.

    Raises:
        ConfigError: a file cannot be read or is no YAML object.
    """
    values: dict[str, Any] = {}
    notes: list[str] = []
    for path in files:
        data = _read(path)
        for group in _GROUPS_OF_API:
            if group in data:
                data = merge(data, {"api": {group: data.pop(group)}})
        notes += [f"{path.name}: {key} has no effect: {why}" for key, why in _drop(data)]
        values = merge(values, data)
    return values, notes


def read_platform_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """The values of the platform's own environment variables, nested as in its files.

    >>> read_platform_variables({"API_PORT": "1", "MEGATTS3_PORT": "7929"})
    {'api': {'port': '7929'}}
    """
    values: dict[str, Any] = {}
    for names, (group, key) in PLATFORM_VARIABLES:
        found = [environment[name] for name in names if environment.get(name)]
        if found:
            values.setdefault(group, {})[key] = found[0]
    return values


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


def _drop(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Take the keys out that change nothing; gives each with its reason."""
    for key, why in INAPPLICABLE.items():
        *groups, last = key.split(".")
        place: Any = data
        for group in groups:
            place = place.get(group) if isinstance(place, dict) else None
        if isinstance(place, dict) and last in place:
            del place[last]
            yield key, why
