"""Puts the stand-in for TensorRT-LLM in place, and opens engines of it on a CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_lms import WEIGHTS

from duologue.build_engines.trtllm_checkpoint import write_trtllm_checkpoint
from duologue.build_engines.trtllm_engine import ENGINE_DIR, EnginePlan, build_engine
from duologue.runtime.backbone.ranks import Alone, RankGroup
from duologue.runtime.backbone.registry import EngineRequest
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.backbone.trtllm_body import TrtllmBody
from duologue.runtime.backbone.trtllm_torch import Placement
from duologue.runtime.config import LmConfig

STANDIN = Path(__file__).parent / "standin"


@contextmanager
def standin() -> Iterator[None]:
    """`import tensorrt_llm` finds the stand-in, version 1.2.1."""
    ours = ("tensorrt_llm", "duologue.build_engines.trtllm_model")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STANDIN))
        yield
        for name in [n for n in sys.modules if n.startswith(ours)]:
            del sys.modules[name]


class MarkingPlacement(Placement):
    """A CPU whose "device" tensors can be told from those of the host."""

    def __init__(self) -> None:
        super().__init__("cpu")

    def to_device(self, values: Any) -> torch.Tensor:
        return self._mark(super().to_device(values))

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        # What is not written shows.
        return self._mark(torch.full(tuple(shape), torch.nan, dtype=dtype))

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return self._mark(super().zeros(shape, dtype))

    def _mark(self, tensor: torch.Tensor) -> torch.Tensor:
        from tensorrt_llm.runtime import DeviceTensor

        return tensor.as_subclass(DeviceTensor)


def build_standin_engine(lm: LmConfig, directory: Path, plan: EnginePlan) -> dict[str, Any]:
    """Checkpoint and engine beside `lm.safetensors`; returns the bundle's entry."""
    checkpoint = directory / f"trtllm{plan.tensor_parallel}"
    source = TensorFile(directory / WEIGHTS)
    write_trtllm_checkpoint(
        source, lm, checkpoint, dtype=plan.dtype, tensor_parallel=plan.tensor_parallel
    )
    build_engine(checkpoint, checkpoint / ENGINE_DIR, plan)
    return {
        **plan.facts(),
        "status": "built",
        "dtype": plan.dtype,
        "weights": WEIGHTS,
        "engine": f"{checkpoint.name}/{ENGINE_DIR}",
    }


def open_standin_body(
    lm: LmConfig,
    directory: Path,
    entry: dict[str, Any],
    *,
    max_slots: int,
    max_rows: int,
    ranks: RankGroup | None = None,
) -> TrtllmBody:
    """Open what `build_standin_engine` built; with ranks, its sums go over them."""
    from duologue.runtime.backbone.trtllm_backbone import open_body

    request = EngineRequest(lm, entry, directory, max_slots, max_rows)
    body = open_body(request, ranks or Alone(), MarkingPlacement())
    if ranks is not None:
        body._session.body.all_reduce = lambda values: ranks.all_reduce(values).astype(np.float32)
    return body
