# SPDX-License-Identifier: Apache-2.0
"""Scripts written as JSON: a list of turns, or an object that holds one.

[{"speaker": "Alice", "text": "Hi."}, {"speaker": "Bob", "text": "Hello."}]
{"turns": [{"role": 1, "content": "Hi."}]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from duologue.runtime.errors import ScriptError
from duologue.runtime.text.screen import Places

SPEAKER_KEYS = ("speaker", "role", "name", "character", "speaker_id", "角色", "说话人")
TEXT_KEYS = ("text", "content", "line", "utterance", "台词", "内容")
LIST_KEYS = ("turns", "dialogue", "dialog", "script", "lines", "messages")

_MEANT_AS_JSON = re.compile(r'\s*(?:\[\s*\{|\{\s*["}])')
_SPACE = re.compile(r"[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*[,:]?[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class JsonTurn:
    """One turn as written: its speaker's label, its text and the offset where it begins."""

    label: str
    text: str
    offset: int


def looks_like_json(text: str) -> bool:
    """Whether a script is meant as JSON; `[S1]`, `[laugh]` and `[1]` are not.

    >>> looks_like_json('[{"speaker": 1}]'), looks_like_json("[S1]Hi.")
    (True, False)
    """
    return _MEANT_AS_JSON.match(text) is not None


def read_json_turns(text: str, places: Places) -> list[JsonTurn]:
    """Read the turns of a JSON script.

    Args:
        text: the script, for which `looks_like_json` holds.
        places: of the same text.

    Raises:
        ScriptError: no JSON, no list of turns, or a turn without speaker or text.
    """
    try:
        _DECODER.decode(text.strip())
        return [_read_turn(item, offset, places) for offset, item in _turn_items(text, places)]
    except json.JSONDecodeError as error:
        place = places.at(min(_first_offset(text) + error.pos, len(text)))
        raise ScriptError(f"the script looks like JSON but is none: {error.msg}", *place) from error
    except (ValueError, RecursionError) as error:
        raise ScriptError(f"the script is JSON that cannot be read: {error}", 1, 1) from error


def _turn_items(text: str, places: Places) -> Iterator[tuple[int, Any]]:
    """Offset and value of every turn. The text is known to be valid JSON."""
    position = _first_offset(text)
    if text[position] == "[":
        yield from _list_items(text, position)
        return
    for key, start in _object_items(text, position):
        if key.lower() in LIST_KEYS and text[start] == "[":
            yield from _list_items(text, start)
            return
    raise ScriptError(
        f"the JSON object holds no list of turns; allowed keys of it: {', '.join(LIST_KEYS)}",
        *places.at(position),
    )


def _first_offset(text: str) -> int:
    return len(text) - len(text.lstrip())


def _list_items(text: str, position: int) -> Iterator[tuple[int, Any]]:
    position = _skip(_SPACE, text, position + 1)
    while text[position] != "]":
        value, end = _DECODER.raw_decode(text, position)
        yield position, value
        position = _skip(_SEPARATOR, text, end)


def _object_items(text: str, position: int) -> Iterator[tuple[str, int]]:
    """Keys of an object with the offset at which their value begins."""
    position = _skip(_SPACE, text, position + 1)
    while text[position] != "}":
        key, end = _DECODER.raw_decode(text, position)
        start = _skip(_SEPARATOR, text, end)
        yield key, start
        position = _skip(_SEPARATOR, text, _DECODER.raw_decode(text, start)[1])


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _read_turn(item: Any, offset: int, places: Places) -> JsonTurn:
    if not isinstance(item, dict):
        raise ScriptError(
            f"a turn is {type(item).__name__}; allowed: an object with speaker and text",
            *places.at(offset),
        )
    fields = {key.lower(): value for key, value in item.items()}
    label = _first(fields, SPEAKER_KEYS)
    if not _is_label(label):
        raise ScriptError(
            f"a turn's speaker is {label!r:.40}; allowed: a number or a name, "
            f"under one of {', '.join(SPEAKER_KEYS)}",
            *places.at(offset),
        )
    text = _first(fields, TEXT_KEYS)
    if not isinstance(text, str):
        raise ScriptError(
            f"a turn's text is {text!r:.40}; allowed: a string, "
            f"under one of {', '.join(TEXT_KEYS)}",
            *places.at(offset),
        )
    return JsonTurn(str(label).strip(), text, offset)


def _first(fields: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((fields[key] for key in keys if key in fields), None)


def _is_label(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
