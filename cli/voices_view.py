# SPDX-License-Identifier: Apache-2.0
"""How `duologue voices` shows voices."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from duologue.runtime.voice_store.types import StoredVoice

_HEADINGS = ("name", "language", "seconds", "consent", "description", "transcript")
_SHOWN = 60


def print_voice(voice: StoredVoice, as_json: bool) -> None:
    """All that is known of a voice, as one JSON object or a line for each fact."""
    facts = voice.as_json()
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    for key, value in facts.items():
        typer.echo(f"{key:<15}{value}")


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Voices as a table; what others wrote is shown as it is, never as markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo("there are no voices yet")
        return
    table = Table(box=None)
    for heading in _HEADINGS:
        table.add_column(heading)
    for row in rows:
        cells = {"consent": "", **row, "seconds": f"{row['duration_s']:.1f}"}
        table.add_row(*(Text(" ".join(cells[heading].split())[:_SHOWN]) for heading in _HEADINGS))
    Console().print(table)


def describe_presets(bundle_dir: Path) -> list[dict[str, Any]]:
    """The voices of a bundle as rows of the table.

    Raises:
        ConfigError: no bundle, or its voices cannot be read.
    """
    from duologue.runtime.config import Bundle
    from duologue.runtime.presets import read_presets

    bundle = Bundle.load(bundle_dir)
    return [
        {
            "name": voice.name,
            "language": voice.language,
            "description": voice.description,
            "transcript": voice.transcript,
            "duration_s": voice.codes.shape[1] / bundle.codec.frame_rate_hz,
        }
        for voice in read_presets(bundle, bundle_dir).voices.values()
    ]
