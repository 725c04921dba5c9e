# SPDX-License-Identifier: Apache-2.0
"""The JSON object of the tensor SAMPLING, read into `SamplingOverrides`.

Types are checked here; the language model's room checks the ranges.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from duologue.runtime.core import ChannelSampling, SamplingOverrides
from duologue.runtime.errors import RequestError

MAX_JSON_CHARS = 16_384
_NUMBERS = ("temperature", "top_p", "repetition_penalty")
_CHANNEL_FIELDS = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty")
_FIELDS = ("greedy", "temperature", "top_k", "top_p", "repetition_penalty", "channels")


def read_sampling(text: str) -> SamplingOverrides:
    """Read what one request changes in the bundle's sampling.

    Args:
        text: a JSON object with fields of `SamplingOverrides`; null leaves the bundle's value.

    Raises:
        RequestError: no JSON object, an unknown field, or a value of the wrong type.

    >>> read_sampling('{"greedy": true}').greedy
    True
    """
    values = _read_fields(_load(text), _FIELDS, "SAMPLING")
    channels = values.pop("channels", None)
    if channels is not None:
        if not isinstance(channels, list):
            raise RequestError(
                f"SAMPLING.channels is {_show(channels)}; allowed: a list of objects"
            )
        values["channels"] = tuple(
            ChannelSampling(**_read_fields(channel, _CHANNEL_FIELDS, f"SAMPLING.channels[{i}]"))
            for i, channel in enumerate(channels)
        )
    return SamplingOverrides(**values)


def _load(text: str) -> object:
    if len(text) > MAX_JSON_CHARS:
        raise RequestError(
            f"SAMPLING has {len(text)} characters; allowed: at most {MAX_JSON_CHARS}"
        )
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"SAMPLING is no JSON object: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _read_fields(value: object, allowed: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{where} is {_show(value)}; allowed: an object")
    unknown = sorted(set(value) - set(allowed))
    if unknown:
        raise RequestError(f"{where} has unknown fields {_show(unknown)}; allowed: {list(allowed)}")
    fields = {name: item for name, item in value.items() if item is not None}
    for name, item in fields.items():
        _check_type(name, item, f"{where}.{name}")
    return fields


def _check_type(name: str, value: object, where: str) -> None:
    if name in ("greedy", "do_sample") and not isinstance(value, bool):
        raise RequestError(f"{where} is {_show(value)}; allowed: true or false")
    if name == "top_k" and (isinstance(value, bool) or not isinstance(value, int)):
        raise RequestError(f"{where} is {_show(value)}; allowed: a whole number")
    if name in _NUMBERS:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(float(str(value))):
            raise RequestError(f"{where} is {_show(value)}; allowed: a finite number")


def _show(value: object) -> str:
    """A caller's value, cut to what fits a message."""
    return repr(value)[:80]
