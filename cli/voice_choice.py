# SPDX-License-Identifier: Apache-2.0
"""Which voice speaks which part, as the command line says it: `--voice S1=NAME`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

VoiceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--voice",
        metavar="S1=NAME",
        help="Voice of a speaker by its name; may be repeated. With --server, a name that the "
        "server knows; else one of the bundle (`duologue voices list --bundle DIR`) or of your "
        "own voices (`duologue voices list`).",
    ),
]

_CHOICE = re.compile(r"[sS]([1-9][0-9]?)=(.+)")


def read_voices(choices: Sequence[str]) -> dict[int, str]:
    """Speaker -> name of a voice.

    Raises:
        typer.BadParameter: another form, or two voices for one speaker.

    >>> read_voices(["S1=女性温柔", "s2=Ann"])
    {1: '女性温柔', 2: 'Ann'}
    """
    voices: dict[int, str] = {}
    for choice in choices:
        match = _CHOICE.fullmatch(choice)
        if match is None:
            raise typer.BadParameter(f"--voice is {choice!r}; allowed: S1=NAME, S2=NAME, ...")
        speaker = int(match[1])
        if speaker in voices:
            raise typer.BadParameter(f"--voice names two voices for S{speaker}")
        voices[speaker] = match[2]
    return voices
