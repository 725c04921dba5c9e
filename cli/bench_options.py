# SPDX-License-Identifier: Apache-2.0
"""All options of `duologue bench`, and the line that makes a result again."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

EnginesOption = Annotated[str, typer.Option("--engines", help="Joined by commas.")]
BatchOption = Annotated[str, typer.Option("--batch", help="Streams per step, joined by commas.")]
ContextOption = Annotated[
    str, typer.Option("--context", help="Rows in the cache of each stream, joined by commas.")
]
ThreadsOption = Annotated[
    str, typer.Option("--threads", help="Each is tried; auto: 1 and all cores.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Timed steps per round.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Turns of either side.")]
OneEngineOption = Annotated[str, typer.Option("--engine", help="onnx or torch.")]
AtContextOption = Annotated[int, typer.Option("--at-context", min=1, help="Of --batch.")]
AtBatchOption = Annotated[int, typer.Option("--at-batch", min=1, help="Of --context.")]
OneThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="All cores without it.")
]
MaxMinutesOption = Annotated[
    float, typer.Option("--max-minutes", min=0.01, help="Begin no further point after that.")
]
ConcurrencyOption = Annotated[
    str, typer.Option("--concurrency", help="Closed loop: callers, joined by commas.")
]
RateOption = Annotated[
    str, typer.Option("--rate", help="Open loop: requests per second, joined by commas.")
]
RealTimeOption = Annotated[
    bool, typer.Option("--real-time", help="Callers take audio no faster than it sounds.")
]
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="Copies of each.")]
HopsOption = Annotated[str, typer.Option("--hops", help="Frames, joined by commas.")]
LeftsOption = Annotated[str, typer.Option("--lefts", help="Left context.")]
RightsOption = Annotated[str, typer.Option("--rights", help="Right context.")]
MaxFramesOption = Annotated[int, typer.Option("--max-frames", min=2, help="Per dialogue.")]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="HOST:PORT", help="Measure this server; without it, one of our own."
    ),
]
ServerPidOption = Annotated[
    int | None,
    typer.Option("--server-pid", help="Process of --server on this machine, to see what it uses."),
]
WorkloadsOption = Annotated[
    str, typer.Option("--workloads", metavar="NAMES", help="Frozen dialogues, joined by commas.")
]
RequestsOption = Annotated[
    int, typer.Option("--requests", min=1, help="Measured requests per level.")
]
WarmupOption = Annotated[
    int, typer.Option("--warmup", min=0, help="Requests per caller that come first, not counted.")
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option("--max-seconds", min=0.1, help="Cap on the audio of one request."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of the first request.")]
MaxSlotsOption = Annotated[
    int | None, typer.Option("--max-slots", min=1, help="Of a server of our own.")
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result, as JSON.")
]
MarkdownOption = Annotated[
    Path | None, typer.Option("--md", metavar="FILE", help="Write the table, as Markdown.")
]
PlotsOption = Annotated[
    Path | None, typer.Option("--plots", metavar="DIR", help="Write plots, as PNG.")
]

_Number = TypeVar("_Number", int, float)


def split_names(text: str) -> tuple[str, ...]:
    """Names joined by commas.

    >>> split_names("onnx, torch")
    ('onnx', 'torch')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


def split_numbers(text: str, kind: Callable[[str], _Number]) -> tuple[_Number, ...]:
    """Numbers joined by commas.

    Raises:
        BadParameter: something else stands there.

    >>> split_numbers("1,8", int)
    (1, 8)
    """
    try:
        return tuple(kind(part) for part in split_names(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} are no numbers joined by commas") from error


def command_line(ctx: typer.Context) -> str:
    """The command that was given, with the options that differ from their defaults."""
    words = ["duologue", "bench", ctx.info_name or ""]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if value == parameter.default or value is None or not parameter.opts:
            continue
        words.append(parameter.opts[0])
        if value is not True:
            words.append(str(getattr(value, "value", value)))
    return shlex.join(words)
