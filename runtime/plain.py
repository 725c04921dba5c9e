# SPDX-License-Identifier: Apache-2.0
"""Plain JSON values to nested frozen dataclasses, refusing what does not fit their annotations."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from duologue.runtime.errors import ConfigError

_T = TypeVar("_T")


def from_plain(cls: type[_T], data: object, where: str) -> _T:
    """Make a (nested) frozen dataclass from plain JSON values.

    Args:
        cls: the dataclass.
        data: what `json.loads` gave.
        where: name of the value, for messages.

    Raises:
        ConfigError: no object, an unknown or missing field, or a value of another type.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is {type(data).__name__}; allowed: an object")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ConfigError(f"{where} has unknown fields {unknown}; allowed: {sorted(hints)}")
    values = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check one JSON value against a field's annotation, and convert lists to tuples."""
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} is {value!r}; allowed: a list")
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is types.UnionType:
        return None if value is None else _convert(args[0], value, where)
    kind = origin or hint
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}; allowed: {kind.__name__}")
    return value
