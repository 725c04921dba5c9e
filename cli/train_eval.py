# SPDX-License-Identifier: Apache-2.0
"""`duologue train eval` and `compare`: what a bundle is worth, in figures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duologue.cli.doors import Doors
from duologue.cli.errors import reports_errors
from duologue.cli.options import EngineChoice

if TYPE_CHECKING:
    from rich.console import Console

    from duologue.finetune.evaluate.door_clock import Door, OpenDoor

_DOOR_NAMES = {"embedded": "through Triton", "in_process": "in one process, without Triton"}

BundleOption = Annotated[str, typer.Option(metavar="BUNDLE", help="Who speaks.")]
GreedyOption = Annotated[bool, typer.Option("--greedy", help="Do not sample.")]


@reports_errors
def evaluate(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Report, and all that is kept.")
    ] = Path("out/eval"),
    bundle: BundleOption = "default",
    card: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of a model card to bring up to date, too."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Ten items per suite, for a look.")
    ] = False,
    greedy: GreedyOption = False,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same speech.")] = 1,
    engine: Annotated[
        EngineChoice, typer.Option(help="Of the language model.")
    ] = EngineChoice.ONNX,
    streams: Annotated[int, typer.Option(min=1, help="Spoken at the same time.")] = 4,
    processes: Annotated[int, typer.Option(min=1, help="Of espeak-ng at the same time.")] = 2,
    trainer_state: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="For the loss curve; once per run, in their order."),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time/--no-real-time", help="Time it through the door of Triton.")
    ] = True,
) -> None:
    """Measure all that is promised of a bundle against speech that espeak-ng makes on the spot."""
    from duologue.finetune.evaluate.card import as_markdown
    from duologue.finetune.evaluate.espeak_cache import EspeakCache
    from duologue.finetune.evaluate.full_run import EvaluationPlan, evaluate_fully
    from duologue.finetune.evaluate.held_out_texts import load_texts
    from duologue.finetune.evaluate.speaking import SpeakingPlan
    from duologue.finetune.evaluate.suites import Sizes
    from duologue.finetune.speech_data.espeak import require_espeak

    require_espeak()
    plan = EvaluationPlan(
        SpeakingPlan(bundle, out / "speech", engine.value, streams, greedy, seed),
        out,
        Sizes.quick() if quick else Sizes(),
        tuple(trainer_state or ()),
        card,
    )
    console = _console()
    with _bars(console) as on_progress:
        evaluation = evaluate_fully(
            plan,
            load_texts(),
            EspeakCache(out / "espeak", processes),
            _door(ctx, bundle, engine.value) if real_time else None,
            on_progress,
        )
    typer.echo(as_markdown(evaluation), nl=False)


@reports_errors
def compare(
    ctx: typer.Context,
    references: Annotated[
        Path, typer.Argument(help="Folder of dialogues spoken by known voices (speech_data).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Made if need be.")],
    bundle: BundleOption = "default",
    prefix: Annotated[str, typer.Option(help="Only dialogues whose id begins so.")] = "test-",
    limit: Annotated[int | None, typer.Option(min=2, help="At most so many.")] = 200,
    voice: Annotated[
        list[str] | None,
        typer.Option(help="Only dialogues in which these voices speak; once per speaker."),
    ] = None,
    greedy: GreedyOption = False,
    trainer_state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For the loss curve.")
    ] = None,
) -> None:
    """Measure a bundle against a folder of speech: words, voices, durations and clicks."""
    from duologue.finetune.evaluate.report import as_table
    from duologue.finetune.evaluate.run import EvaluationRun
    from duologue.finetune.evaluate.run import evaluate as run

    plan = EvaluationRun(
        bundle,
        references,
        out,
        prefix,
        limit,
        voices=tuple(voice) if voice else None,
        greedy=greedy,
        trainer_state=trainer_state,
    )
    with _bars(_console()) as on_progress:
        measures = run(plan, lambda done, total: on_progress("speaking", done, total))
    typer.echo(as_table(measures), nl=False)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


@contextlib.contextmanager
def _bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage, as the stages come; nothing where nobody looks."""
    from rich.progress import Progress, TaskID, TimeElapsedColumn

    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        yield update


def _door(ctx: typer.Context, bundle: str, engine: str) -> OpenDoor:
    """The door that `duologue say` takes: a Triton server, where one can run."""
    from duologue.cli.sources import SourceChoice, open_source
    from duologue.client.types import SpeechOptions
    from duologue.finetune.evaluate.door_clock import Door

    @contextlib.contextmanager
    def open_door() -> Iterator[Door]:
        doors = ctx.obj or Doors()
        with open_source(SourceChoice(None, bundle, engine), doors, lambda line: None) as source:

            def say(script: str, seed: int) -> float:
                chunks = source.speak(script, SpeechOptions(seed=seed))
                return sum(len(chunk.samples) / chunk.sample_rate_hz for chunk in chunks)

            yield Door(_DOOR_NAMES[source.kind], say)

    return open_door
