# SPDX-License-Identifier: Apache-2.0
"""`duologue doctor --engine trtllm`: whether TensorRT-LLM computes what torch computes, here.

A tiny engine with random weights is built, its tensors are compared with those that duologue
feeds, and its hidden states with those of torch. Also by itself:
`python -m duologue.cli.doctor_trtllm --record tensors.json`, which writes down the tensors found.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from duologue.cli.doctor_trtllm_cases import CASES, NUM_SLOTS, PROMPT_ROWS, TOPIC, compare
from duologue.cli.errors import reports_errors
from duologue.runtime.diagnosis.finding import Finding, fault, ok

if TYPE_CHECKING:
    from duologue.runtime.backbone.registry import EngineRequest
    from duologue.runtime.backbone.trtllm_torch import Placement

MAX_ROWS = 256
# Of the largest value: bfloat16 keeps 8 bits, and its errors add up over two layers.
TOLERANCES = {"bfloat16": 5e-2, "float16": 1e-2, "float32": 1e-3}
_SIZES: dict[str, Any] = {
    "seed": 7,
    "hidden_size": 256,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 64,
    "intermediate_size": 512,
    "num_channels": 8,
    "codebook_size": 64,
    "max_position_embeddings": 512,
}
RecordOption = Annotated[
    Path | None,
    typer.Option("--record", metavar="FILE", help="Write the engine's tensors here as JSON."),
]


def check_trtllm(
    *,
    dtype: str = "bfloat16",
    placement: Placement | None = None,
    record: Path | None = None,
    import_timeout_s: float = 60.0,
) -> list[Finding]:
    """Build a tiny engine and compare it with torch.

    Args:
        dtype: precision of the engine.
        placement: where tensors lie; None asks for a GPU and takes it.
        record: where the engine's tensors are written down.
        import_timeout_s: for the import of tensorrt_llm, each way.

    Returns:
        One finding per look; the first fault ends it.
    """
    from duologue.build_engines.trtllm_engine import require_builder
    from duologue.runtime.errors import DuologueError

    found: list[Finding] = []
    try:
        if placement is None:
            version, capability = require_builder()
            found.append(ok(TOPIC, f"tensorrt_llm {version}, compute capability {capability}"))
            _require_import(import_timeout_s)
        with tempfile.TemporaryDirectory(prefix="duologue-doctor-") as folder:
            _look(found, Path(folder), dtype, placement, record)
    except DuologueError as error:
        what, _, remedy = str(error).partition(": ")
        found.append(fault(TOPIC, what, remedy or "use --engine torch"))
    except (ImportError, RuntimeError, OSError, AttributeError, TypeError) as error:
        # What a version with another interface, or a broken installation, gives.
        said = f"tensorrt_llm failed: {type(error).__name__}: {error}"
        found.append(fault(TOPIC, said, "install the version that the manual names"))
    return found


def _require_import(timeout_s: float) -> None:
    """See that the import comes back, before it is done in this process.

    Raises:
        EngineUnavailableError: it does not, or only by another way of starting.
    """
    from duologue.runtime.backbone.ranks import SIZE_VARIABLE
    from duologue.runtime.errors import EngineUnavailableError
    from duologue.runtime.supervisor.mpi_probe import probe_import

    if SIZE_VARIABLE in os.environ:
        return
    probe = probe_import("tensorrt_llm", timeout_s=timeout_s)
    if probe.way is None:
        raise EngineUnavailableError(probe.describe())
    if probe.way.name != "direct":
        settings = [f"{name}={value}" for name, value in probe.way.environment.items()]
        line = " ".join([*settings, *probe.way.prefix, "duologue doctor --engine trtllm"])
        raise EngineUnavailableError(f"importing tensorrt_llm needs another start: {line}")


def _look(
    found: list[Finding],
    folder: Path,
    dtype: str,
    placement: Placement | None,
    record: Path | None,
) -> None:
    """Add what is found, as far as it goes."""
    from duologue.runtime.backbone.ranks import Alone
    from duologue.runtime.backbone.ranks_body import BodyBackbone
    from duologue.runtime.backbone.torch_backbone import TorchBackbone
    from duologue.runtime.backbone.trtllm_backbone import open_body

    began_s = time.monotonic()
    request = _build(folder, dtype)
    took_s = time.monotonic() - began_s
    found.append(ok(TOPIC, f"a tiny {dtype} engine was built in {took_s:.0f} s"))
    found.append(_check_tensors(folder, record))
    if found[-1].remedy:
        return
    engine = BodyBackbone(open_body(request, Alone(), placement))
    reference = TorchBackbone(
        request.lm, request.path("weights"), max_slots=NUM_SLOTS, max_rows=MAX_ROWS
    )
    generator = np.random.default_rng(7)
    size = (PROMPT_ROWS + 1, request.lm.num_channels)
    ids = generator.integers(0, request.lm.vocab_sizes, size)
    for case in CASES:
        found.append(compare(case, engine, reference, ids, TOLERANCES[dtype]))
    engine.close()


def _build(folder: Path, dtype: str) -> EngineRequest:
    from duologue.build_engines.checkpoint import read_checkpoint, write_lm_safetensors
    from duologue.build_engines.random_checkpoint import write_random_lm
    from duologue.build_engines.trtllm_checkpoint import write_trtllm_checkpoint
    from duologue.build_engines.trtllm_engine import EnginePlan, build_engine
    from duologue.runtime.backbone.registry import EngineRequest
    from duologue.runtime.backbone.tensor_file import TensorFile
    from duologue.runtime.backbone.trtllm_backbone import capability

    write_random_lm(folder, **_SIZES)
    checkpoint, weights = read_checkpoint(folder), folder / "lm.safetensors"
    write_lm_safetensors(checkpoint, weights, dtype)
    lm, plan = checkpoint.lm, EnginePlan(dtype, NUM_SLOTS, MAX_ROWS)
    write_trtllm_checkpoint(TensorFile(weights), lm, folder / "trtllm", dtype=dtype)
    build_engine(folder / "trtllm", folder / "engine", plan)
    import torch

    entry = {**plan.facts(), "dtype": dtype, "weights": weights.name, "engine": "engine"}
    if torch.cuda.is_available():
        entry["compute_capability"] = capability(0)
    return EngineRequest(lm, entry, folder, NUM_SLOTS, MAX_ROWS)


def _check_tensors(folder: Path, record: Path | None) -> Finding:
    """Compare the engine's tensors with those that are fed; opening it would refuse it."""
    from tensorrt_llm.runtime import Session

    from duologue.runtime.backbone.trtllm_backbone import engine_file, tensor_names
    from duologue.runtime.backbone.trtllm_contract import compare_names

    session = Session.from_serialized_engine((folder / "engine" / engine_file(0)).read_bytes())
    names, engine = sorted(tensor_names(session)), session.engine
    if record is not None:
        tensors = {
            name: {
                "dtype": str(engine.get_tensor_dtype(name)),
                "shape": list(engine.get_tensor_shape(name)),
            }
            for name in names
        }
        record.write_text(json.dumps(tensors, indent=1) + "\n", encoding="utf-8")
    difference = compare_names(names, 1)
    if difference:
        return fault(
            TOPIC,
            f"the engine's tensors differ: missing {list(difference.missing)}, "
            f"extra {list(difference.extra)}",
            "install a tensorrt_llm that the manual names, or use --engine torch",
        )
    return ok(TOPIC, f"the engine has the {len(names)} tensors of the contract: {', '.join(names)}")


@reports_errors
def main(ctx: typer.Context, record: RecordOption = None) -> None:
    """Compare TensorRT-LLM with torch on this machine; the exit status is 2 after a fault."""
    findings = check_trtllm(record=record)
    for each in findings:
        typer.echo(f"{each.level.name.lower():<8}{each.found}")
        if each.remedy:
            typer.echo(f"        -> {each.remedy}")
    raise typer.Exit(int(max(each.level for each in findings)))


if __name__ == "__main__":
    typer.run(main)
