# SPDX-License-Identifier: Apache-2.0
"""`duologue batch`: the dialogues of a JSONL file to WAV files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duologue.cli.errors import FAILED, reports_errors
from duologue.cli.options import (
    BundleOption,
    EngineChoice,
    EngineOption,
    FrontendChoice,
    JsonOption,
)

if TYPE_CHECKING:
    from duologue.runtime.batch.options import BatchOptions, ItemResult
    from duologue.runtime.batch.runner import BatchLine


class DecodeChoice(str, Enum):
    """Windows in which codes become samples."""

    DEFAULT = "default"
    REPAIRED = "repaired"
    REFERENCE = "reference"


JsonlOption = Annotated[
    Path, typer.Option("--jsonl", metavar="FILE", help="One dialogue per line, as JSON.")
]
OutputOption = Annotated[
    Path, typer.Option("--output-dir", "--output_dir", metavar="DIR", help="Where files go.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="For every line; the same audio each time.")
]
GreedyOption = Annotated[
    bool, typer.Option("--greedy", help="Always take the most likely; no chance involved.")
]
MaxSamplesOption = Annotated[
    int | None,
    typer.Option("--max-samples", "--max_samples", min=0, help="Only the first so many lines."),
]
MaxAudioOption = Annotated[
    float | None,
    typer.Option("--max-audio-s", help="A line's audio ends after so many seconds at the latest."),
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option("--time-limit-s", help="Begin no further line after so many seconds."),
]
MaxSlotsOption = Annotated[
    int | None, typer.Option("--max-slots", min=1, help="Lines spoken at the same time.")
]
NormalizeOption = Annotated[
    bool,
    typer.Option("--use-normalize", "--use_normalize", help="Text rules of MOSS-TTSD v0.7."),
]
FrontendOption = Annotated[
    FrontendChoice, typer.Option("--text-frontend", help="Write numbers and dates out as words.")
]
SilenceOption = Annotated[
    float,
    typer.Option(
        "--silence-duration", "--silence_duration", help="Seconds behind the reference audio."
    ),
]
CodesOption = Annotated[
    bool, typer.Option("--save-codes", help="Also write the codes [T, K] as .codes.npy.")
]
DecodeOption = Annotated[
    DecodeChoice,
    typer.Option(
        "--decode",
        help="default: as streaming does. reference: the windows of MOSS-TTSD v0.7, with the voice "
        "in front of each. repaired: the same without the up to 0.1 s that they lose.",
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict-reference", help="Refuse lines that MOSS-TTSD v0.7 refuses.")
]
PrefixOption = Annotated[str, typer.Option("--prefix", help="Of the file names.")]
DevicesOption = Annotated[
    str | None,
    typer.Option("--devices", metavar="0,1", help="GPUs; one process each, lines are shared out."),
]
ShardOption = Annotated[str, typer.Option("--shard", hidden=True)]
LinesOption = Annotated[bool, typer.Option("--result-lines", hidden=True)]


@reports_errors
def batch(
    ctx: typer.Context,
    jsonl: JsonlOption,
    output_dir: OutputOption,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    seed: SeedOption = None,
    greedy: GreedyOption = False,
    max_samples: MaxSamplesOption = None,
    max_audio_s: MaxAudioOption = None,
    time_limit_s: TimeLimitOption = None,
    max_slots: MaxSlotsOption = None,
    use_normalize: NormalizeOption = False,
    text_frontend: FrontendOption = FrontendChoice.NONE,
    silence_duration: SilenceOption = 0.0,
    save_codes: CodesOption = False,
    decode: DecodeOption = DecodeChoice.DEFAULT,
    strict_reference: StrictOption = False,
    prefix: PrefixOption = "output_",
    devices: DevicesOption = None,
    shard: ShardOption = "0/1",
    result_lines: LinesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Speak the dialogues of a JSONL file; run it again to go on after a stop."""
    from duologue.cli.batch_devices import run_on_devices
    from duologue.models import resolve_bundle
    from duologue.runtime.batch.journal import write_report
    from duologue.runtime.batch.options import BatchOptions
    from duologue.runtime.batch.runner import read_lines
    from duologue.runtime.config import Bundle

    started_at_s = time.monotonic()
    part, _, parts = shard.partition("/")
    options = BatchOptions(
        output_dir=output_dir,
        prefix=prefix,
        seed=seed,
        greedy=greedy,
        normalization="v0.7" if use_normalize else "none",
        text_frontend=text_frontend.value,
        silence_s=silence_duration,
        decode=decode.value,
        save_codes=save_codes,
        strict_reference=strict_reference,
        max_samples=max_samples,
        max_audio_s=max_audio_s,
        time_limit_s=time_limit_s,
        shard=(int(part), int(parts)),
    )
    bundle_dir = resolve_bundle(bundle)
    lines = read_lines(jsonl, options)
    if devices is None:
        results = _speak(bundle_dir, engine.value, max_slots, lines, options)
    else:
        results = run_on_devices(devices.split(","), ctx, output_dir)
    if result_lines:
        for result in results:
            typer.echo(_as_line(result))
        return
    done = _follow(results, len(lines))
    report = write_report(options, Bundle.load(bundle_dir), done, time.monotonic() - started_at_s)
    failed = [result for result in done if not result.is_ok]
    if len(done) < len(lines):
        left = len(lines) - len(done)
        typer.echo(f"the time is over: {left} lines are left; run it again to go on", err=True)
    _summarise(done, failed, report, as_json)
    if failed:
        raise typer.Exit(FAILED)


def _speak(
    bundle_dir: Path,
    engine: str,
    max_slots: int | None,
    lines: list[BatchLine],
    options: BatchOptions,
) -> Iterator[ItemResult]:
    from duologue.runtime.batch.runner import BatchRunner
    from duologue.runtime.synthesizer import Synthesizer

    with Synthesizer.load(bundle_dir, engine=engine, max_slots=max_slots) as synthesizer:
        yield from BatchRunner(synthesizer, options).run(lines)


def _follow(results: Iterator[ItemResult], total: int) -> list[ItemResult]:
    """Collect results behind a progress bar with speed and time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("speaking"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[audio_s]:.1f} s of audio, {task.fields[speed]:.1f} x real time"),
        TimeRemainingColumn(),
    )
    done: list[ItemResult] = []
    started_at_s, audio_s = time.monotonic(), 0.0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, audio_s=0.0, speed=0.0)
        for result in results:
            done.append(result)
            if result.error is not None:
                progress.console.print(result.error, markup=False, highlight=False)
            audio_s += result.duration_s
            speed = audio_s / max(1e-9, time.monotonic() - started_at_s)
            progress.update(task, advance=1, audio_s=audio_s, speed=speed)
    return done


def _summarise(
    done: list[ItemResult], failed: list[ItemResult], report: Path, as_json: bool
) -> None:
    audio_s = sum(result.duration_s for result in done)
    if as_json:
        summary = {
            "total": len(done),
            "succeeded": len(done) - len(failed),
            "failed": len(failed),
            "audio_s": round(audio_s, 3),
            "report": str(report),
        }
        typer.echo(json.dumps(summary))
        return
    typer.echo(
        f"{len(done) - len(failed)} of {len(done)} saved, {audio_s:.1f} s of audio; see {report}"
    )


def _as_line(result: ItemResult) -> str:
    import dataclasses

    return json.dumps(dataclasses.asdict(result))
