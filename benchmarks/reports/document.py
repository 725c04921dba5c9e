# SPDX-License-Identifier: Apache-2.0
"""The JSON document of a measurement: made, checked against `schema.json`, written and read."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from duologue.client.errors import RequestError

SCHEMA_PATH = Path(__file__).parent / "schema.json"
FORMAT = 1
RESULT_KEYS = {
    "engine": "rows",
    "stream": "levels",
    "offline": "offline",
    "door": "door",
    "context": "windows",
    "growth": "points",
}
"""Kind of document -> where its figures are."""
_SIGNIFICANT_DIGITS = 6

Document = dict[str, Any]


def make_document(
    kind: str, result: Any, *, command: str, machine: dict[str, Any], bundle: dict[str, Any]
) -> Document:
    """Put figures together with what they were measured on, and check the whole.

    Args:
        kind: a key of `RESULT_KEYS`.
        result: figures of that kind.
        command: the line that makes this document again.
        machine: see `machine.describe_machine`.
        bundle: see `describe_bundle` of `bundle_facts`.

    Raises:
        RequestError: the document does not fit the schema.
    """
    document = {
        "format": FORMAT,
        "kind": kind,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "machine": machine,
        "bundle": bundle,
        RESULT_KEYS[kind]: rounded(result),
    }
    check_document(document)
    return document


def check_document(document: Document) -> None:
    """Hold a document to the schema.

    Raises:
        RequestError: it does not fit; names the first place that does not.
    """
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    faults = sorted(Draft202012Validator(schema).iter_errors(document), key=lambda e: e.json_path)
    if faults:
        fault = faults[0]
        raise RequestError(f"no result of duologue bench: {fault.json_path}: {fault.message}")


def write_document(document: Document, path: Path) -> None:
    """Write a document as readable JSON."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_document(path: Path) -> Document:
    """Read and check a document.

    Raises:
        RequestError: the file holds no JSON object, or one that does not fit the schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise RequestError(f"{path} is no result of duologue bench")
    check_document(document)
    return document


def rounded(value: Any) -> Any:
    """Plain values with floats to six significant digits; more would be noise.

    >>> rounded({"a": [1.23456789, 1234567.8, 7, None]})
    {'a': [1.23457, 1234570.0, 7, None]}
    """
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float) and value != 0.0 and math.isfinite(value):
        return round(value, _SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value))))
    return value
