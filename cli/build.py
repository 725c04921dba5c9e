# SPDX-License-Identifier: Apache-2.0
"""`duologue build`: checkpoints to a bundle."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.errors import reports_errors
from duologue.cli.options import JsonOption


class BuildEngine(str, Enum):
    """Engines of the language model that can be built."""

    TORCH = "torch"
    ONNX = "onnx"
    TRTLLM = "trtllm"


class PrecisionChoice(str, Enum):
    """Precisions in which weights can be stored."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class LmPrecisionChoice(str, Enum):
    """The same for the language model, which some engines can also read in few bits."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"
    FP8 = "fp8"


LmOption = Annotated[
    str,
    typer.Option(
        "--lm",
        metavar="MODEL",
        help="Language model: a folder, organisation/name on Hugging Face (HF_ENDPOINT names a "
        "mirror), or modelscope:organisation/name; @revision may follow.",
    ),
]
CodecOption = Annotated[
    str, typer.Option("--codec", metavar="MODEL", help="Codec: a folder, a file, or as --lm.")
]
CodecConfigOption = Annotated[
    Path | None,
    typer.Option("--codec-config", metavar="YAML", help="Without it: the one beside the weights."),
]
EnginesOption = Annotated[
    list[BuildEngine],
    typer.Option("--engine", "--engines", help="May be given several times."),
]
DtypeOption = Annotated[
    LmPrecisionChoice,
    typer.Option(
        "--dtype",
        help="Precision of the language model's weights; int8 is for onnx and torch, int4 for "
        "onnx, fp8 for torch, while the other engines get bf16.",
    ),
]
CodecDtypeOption = Annotated[
    PrecisionChoice, typer.Option("--codec-dtype", help="Precision of the codec's weights.")
]
TensorParallelOption = Annotated[
    int, typer.Option("--tensor-parallel", min=1, help="GPUs that TensorRT-LLM shares it over.")
]
CheckpointOnlyOption = Annotated[
    bool,
    typer.Option(
        "--checkpoint-only",
        help="Write TensorRT-LLM's checkpoint without building its engine, which needs the wheel "
        "and the kind of GPU that it will run on.",
    ),
]
MaxRowsOption = Annotated[
    int | None, typer.Option("--max-rows", min=64, help="Rows of one request, prompt and speech.")
]
MaxSlotsOption = Annotated[
    int | None, typer.Option("--max-slots", min=1, help="Requests that run at the same time.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Never ask the network; take what is in the cache.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Of the bundle; without it, its folder's.")
]
ParityOption = Annotated[
    bool, typer.Option("--parity/--no-parity", help="Compare the engines with the reference.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The bundle's folder.")]


@reports_errors
def build(
    ctx: typer.Context,
    lm: LmOption,
    codec: CodecOption,
    out: OutOption,
    codec_config: CodecConfigOption = None,
    engine: EnginesOption = [BuildEngine.ONNX, BuildEngine.TORCH],  # noqa: B006
    dtype: DtypeOption = LmPrecisionChoice.BF16,
    codec_dtype: CodecDtypeOption = PrecisionChoice.FP32,
    tensor_parallel: TensorParallelOption = 1,
    checkpoint_only: CheckpointOnlyOption = False,
    max_rows: MaxRowsOption = None,
    max_slots: MaxSlotsOption = None,
    name: NameOption = None,
    offline: OfflineOption = False,
    parity: ParityOption = True,
    as_json: JsonOption = False,
) -> None:
    """Build a bundle from the checkpoints of a language model and a codec.

    A build that was broken off goes on where it stopped when it is called again.
    """
    from rich.console import Console

    from duologue.build_engines.build import build_bundle
    from duologue.build_engines.hub import resolve_model
    from duologue.build_engines.options import PRECISIONS, QUANTIZATIONS, BuildOptions
    from duologue.cli.build_view import (
        StageView,
        engine_table,
        parity_table,
        summary,
        total_bytes,
    )

    options = BuildOptions(
        engines=tuple(item.value for item in engine),
        dtype=PRECISIONS.get(dtype.value, "bfloat16"),
        quantization=QUANTIZATIONS.get(dtype.value),
        codec_dtype=PRECISIONS[codec_dtype.value],
        tensor_parallel=tensor_parallel,
        trtllm_engine=not checkpoint_only,
        codec_config=codec_config,
        name=name,
        max_rows=max_rows,
        max_slots=max_slots,
        parity=parity,
    )
    lm_dir, codec_dir = (resolve_model(source, offline=offline) for source in (lm, codec))
    console = Console(stderr=True)
    with StageView(console) as view:
        bundle = build_bundle(lm_dir, codec_dir, out, options, progress=view.tell)
    if as_json:
        typer.echo(json.dumps(summary(bundle, out), ensure_ascii=False))
    else:
        console.print(engine_table(bundle))
        if bundle.parity:
            console.print(parity_table(bundle.parity))
        typer.echo(f"{out}: {total_bytes(bundle) / 1e6:.1f} MB")
