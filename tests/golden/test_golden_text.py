# SPDX-License-Identifier: Apache-2.0
"""Text rules, batch items and prompts against recordings of MOSS-TTSD v0.7 and v1.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from duologue.runtime.text.normalize import normalize_script, normalize_text
from duologue.runtime.text.script import parse_script

DATA = Path(__file__).parent / "data"
RECORDED: dict[str, Any] = json.loads((DATA / "golden_text.json").read_text(encoding="utf-8"))


def _pairs(name: str) -> list[Any]:
    return [pytest.param(*pair, id=str(index)) for index, pair in enumerate(RECORDED[name])]


@pytest.mark.parametrize(("text", "expected"), _pairs("normalize_v0.7"))
def test_v07_rules_write_what_the_reference_writes(text: str, expected: str) -> None:
    assert normalize_text(text, "v0.7") == expected


@pytest.mark.parametrize(("text", "expected"), _pairs("normalize_v1.0"))
def test_v10_rules_write_what_the_reference_writes(text: str, expected: str) -> None:
    assert normalize_text(text, "v1.0") == expected


@pytest.mark.parametrize("rules", ["v0.7", "v1.0"])
def test_a_parsed_script_normalises_to_the_same_text(rules: Literal["v0.7", "v1.0"]) -> None:
    for text, expected in RECORDED[f"normalize_{rules}"]:
        if text:
            script = parse_script(text, max_speakers=10)
            assert normalize_script(script, rules).canonical == expected
