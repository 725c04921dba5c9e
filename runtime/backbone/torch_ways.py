# SPDX-License-Identifier: Apache-2.0
"""All ways in which a device can take a step, the best first."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from duologue.runtime.backbone.precision import Attention
from duologue.runtime.backbone.torch_ends import PlainEnds, StepEnds, StepTables
from duologue.runtime.backbone.torch_graphs import CudaRecorder, Record, run_as_it_is
from duologue.runtime.backbone.torch_ops import PlainOps, StepOps
from duologue.runtime.config import LmConfig

_FIRST_WITH_HALF_PRODUCTS = (8, 0)
"""Of GPUs for which Triton knows units that multiply half precision."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way.

    Attributes:
        name: for the log.
        ops: how the parts of a step are computed.
        record: how a step is recorded.
        make_ends: makes what stands before and behind the layers.
        failures: what it raises where it cannot work.
    """

    name: str
    ops: StepOps
    record: Record
    make_ends: Callable[[StepTables, torch.device], StepEnds] = PlainEnds
    failures: tuple[type[Exception], ...] = (RuntimeError,)


def find_ways(
    lm: LmConfig, attention: Attention, stream: torch.cuda.Stream | None
) -> Iterator[Way]:
    """The ways of this machine.

    Args:
        lm: shape of the model.
        attention: what plain torch uses.
        stream: of the GPU; None means a CPU.
    """
    plain = PlainOps(lm, is_cpu=stream is None, attention=attention)
    if stream is not None:
        recorder = CudaRecorder(stream)
        if importlib.util.find_spec("triton") is not None:
            yield _by_kernels(lm, stream, recorder)
        yield Way("torch's operations in CUDA graphs", plain, recorder)
    yield Way("torch's operations one by one", plain, run_as_it_is)


def _by_kernels(lm: LmConfig, stream: torch.cuda.Stream, recorder: Record) -> Way:
    from duologue.runtime.backbone.torch_kernel_ends import KernelEnds
    from duologue.runtime.backbone.torch_kernel_ops import KernelError, KernelOps

    num_cores = torch.cuda.get_device_properties(stream.device).multi_processor_count
    in_float32 = torch.cuda.get_device_capability(stream.device) < _FIRST_WITH_HALF_PRODUCTS
    ops = KernelOps(lm, num_cores=num_cores, in_float32=in_float32)
    failures = (RuntimeError, KernelError)
    return Way("Triton kernels in CUDA graphs", ops, recorder, KernelEnds, failures)
