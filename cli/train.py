# SPDX-License-Identifier: Apache-2.0
"""`duologue train`: prepare data, train the language model or the codec, measure the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.errors import reports_errors
from duologue.cli.options import NormalizationChoice
from duologue.cli.train_eval import compare, evaluate

train = typer.Typer(
    help="Train models: prepare data, then the language model or the codec, then measure.",
    no_args_is_help=True,
)

OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Made if need be.")]
DataOption = Annotated[
    list[Path],
    typer.Option("--data", metavar="DIR", help="What prepare has made; several: one batch each."),
]
ModelOption = Annotated[
    Path, typer.Option("--model", metavar="DIR", help="Checkpoint whose text side is used.")
]


@train.command()
@reports_errors
def prepare(
    ctx: typer.Context,
    jsonl: Annotated[Path, typer.Argument(help="One recording and its transcript per line.")],
    model: ModelOption,
    out: OutOption,
    codec: Annotated[
        str | None,
        typer.Option(metavar="BUNDLE", help="Whose codec encodes; without it: codes only."),
    ] = None,
    normalization: Annotated[
        NormalizationChoice, typer.Option(help="Text rules for the transcripts.")
    ] = NormalizationChoice.NONE,
    workers: Annotated[int, typer.Option(min=1, help="Recordings encoded at a time.")] = 2,
    device: Annotated[str, typer.Option(help="Of the codec: auto, cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Encode recordings and transcripts once.

    A call that was broken off goes on, and lines that were left out are tried again.
    """
    from rich.console import Console
    from rich.progress import Progress

    from duologue.finetune.prepare import file_encoder
    from duologue.finetune.prepare import prepare as run
    from duologue.finetune.sources import codec_sha256, open_codec, text_side
    from duologue.models import resolve_bundle

    bundle_dir = None if codec is None else resolve_bundle(codec)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("encoding", total=None)
        report = run(
            jsonl,
            out,
            text_side(model, normalization.value),
            file_encoder(None if bundle_dir is None else open_codec(bundle_dir, workers, device)),
            # As folders that were begun earlier have it.
            source=str(None if codec is None else Path(codec)),
            source_sha256=None if bundle_dir is None else codec_sha256(bundle_dir),
            num_workers=workers,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for skipped in report.skipped:
        console.print(f"line {skipped.line} is left out: {skipped.reason}", markup=False)
    if report.skipped:
        console.print(f"{len(report.skipped)} lines are left out; the next call tries them again")
    typer.echo(f"{out}: {report.num_examples} new examples")


@train.command()
@reports_errors
def lm(
    ctx: typer.Context,
    data: DataOption,
    out: OutOption,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Checkpoint to begin with.")
    ] = None,
    from_config: Annotated[
        str | None, typer.Option(metavar="NAME", help="Begin with a new model: tiny or small.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="YAML", help="Training settings.")] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train adapters, then merge them.")] = False,
    lora_config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Adapter settings.")
    ] = None,
    eval_data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Prepared data for evaluation.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the out folder.")
    ] = False,
) -> None:
    """Train the language model; `torchrun -m duologue.cli train lm ...` uses several GPUs."""
    from duologue.finetune.lm_trainer import LmRun, train_lm
    from duologue.finetune.new_model import choose_base
    from duologue.finetune.settings import lm_settings, lora_settings, read_yaml

    settings = lm_settings(read_yaml(config))
    run = LmRun(
        model_dir=choose_base(model, from_config, out, int(settings.trainer["seed"])),
        data_dirs=data,
        out_dir=out,
        settings=settings,
        lora=lora_settings(read_yaml(lora_config)) if lora else None,
        eval_dir=eval_data,
        resume=resume,
    )
    typer.echo(f"{train_lm(run)}")


@train.command()
@reports_errors
def codec(
    ctx: typer.Context,
    audio: Annotated[Path, typer.Argument(help="Folder of WAV, FLAC or Ogg files.")],
    out: OutOption,
    config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Sizes of the codec; without it: small.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of all runs in the folder together.")] = 20_000,
    batch_seconds: Annotated[float, typer.Option(help="Seconds of audio per step.")] = 6.0,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 6e-4,
    decoder_only: Annotated[
        bool, typer.Option("--decoder-only", help="Codes keep their meaning; the sound improves.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Train an XY-Tokenizer, from nothing or from what lies in its out folder."""
    from duologue.finetune.codec_files import read_generator_params
    from duologue.finetune.codec_options import CodecTraining
    from duologue.finetune.codec_trainer import train_codec
    from duologue.finetune.settings import packaged_config

    options = CodecTraining(
        num_steps=steps,
        batch_s=batch_seconds,
        learning_rate=learning_rate,
        decoder_only=decoder_only,
        device=device,
    )
    params = read_generator_params(config or packaged_config("codec_small.yaml"))
    train_codec(
        audio,
        out,
        params,
        options,
        on_log=lambda step, losses: typer.echo(f"step {step}: loss {losses['total']:.3f}"),
    )
    typer.echo(f"{out}")


train.command(name="eval")(evaluate)
train.command()(compare)
