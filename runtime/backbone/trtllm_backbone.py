# SPDX-License-Identifier: Apache-2.0
"""Opens the TensorRT-LLM engine of a bundle.

`bundle.engines["trtllm"]` says where its files are and what it was built for:

    {"status": "built", "dtype": "bfloat16", "weights": "lm.safetensors",
     "engine": "trtllm/engine", "tensor_parallel": 1, "max_batch_size": 32,
     "max_num_tokens": 1056, "max_seq_len": 4096, "tokens_per_block": 32,
     "tensorrt_llm": "1.2.1", "compute_capability": "9.0"}
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from duologue.runtime.backbone.ranks import RankGroup, World
from duologue.runtime.backbone.trtllm_body import EngineSizes, TrtllmBody
from duologue.runtime.backbone.trtllm_contract import require_names
from duologue.runtime.backbone.trtllm_torch import DTYPES, Placement, Tensor, TorchEnds
from duologue.runtime.errors import ConfigError, EngineUnavailableError

if TYPE_CHECKING:
    from duologue.runtime.backbone.registry import EngineRequest

_SIZES = ("max_batch_size", "max_num_tokens", "max_seq_len", "tokens_per_block", "tensor_parallel")


def engine_file(rank: int) -> str:
    """Name of one rank's engine, as TensorRT-LLM writes it."""
    return f"rank{rank}.engine"


def open_body(
    request: EngineRequest, ranks: RankGroup, placement: Placement | None = None
) -> TrtllmBody:
    """Load a rank's engine onto its GPU.

    Args:
        request: what the bundle says, and sizes.
        ranks: of which this is one.
        placement: where tensors lie; None takes the GPU of this rank.

    Raises:
        ConfigError: the entry lacks a field, or the engine was built for other ranks or sizes.
        EngineUnavailableError: no GPU, another GPU than it was built for, or other tensors.
    """
    sizes = read_sizes(request.entry)
    _check_request(request, sizes, ranks.world)
    place = placement or _gpu_of(ranks.world, str(request.entry.get("compute_capability")))
    from tensorrt_llm.runtime import Session

    path = request.path("engine") / engine_file(ranks.world.rank)
    session = Session.from_serialized_engine(_read(path))
    names = tensor_names(session)
    require_names(names, sizes.tensor_parallel)
    ends = TorchEnds(
        request.lm,
        request.path("weights"),
        DTYPES[sizes.dtype],
        place,
        has_heads=ranks.world.is_leader,
    )
    return TrtllmBody(
        request.lm,
        session,
        names,
        ends,
        place,
        sizes,
        max_slots=request.max_slots,
        max_rows=request.max_rows,
        workspace=_workspace(ranks.world),
    )


def tensor_names(session: Any) -> frozenset[str]:
    """Names of all inputs and outputs of an engine."""
    engine = session.engine
    return frozenset(engine.get_tensor_name(i) for i in range(engine.num_io_tensors))


def read_sizes(entry: dict[str, Any]) -> EngineSizes:
    """What the bundle says that its engine was built for.

    Raises:
        ConfigError: a field is missing or of another kind.
    """
    for name in _SIZES:
        value = entry.get(name)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"engines.trtllm.{name} is {value!r}; allowed: 1 or more")
    if entry.get("dtype") not in DTYPES:
        allowed = ", ".join(DTYPES)
        raise ConfigError(f"engines.trtllm.dtype is {entry.get('dtype')!r}; allowed: {allowed}")
    return EngineSizes(dtype=entry["dtype"], **{name: entry[name] for name in _SIZES})


def _check_request(request: EngineRequest, sizes: EngineSizes, world: World) -> None:
    if sizes.tensor_parallel != world.size:
        raise ConfigError(
            f"the trtllm engine was built for {sizes.tensor_parallel} ranks, {world.size} run; "
            f"allowed: duologue serve --tensor-parallel {sizes.tensor_parallel}, or "
            f"duologue build --engines trtllm --tensor-parallel {world.size}"
        )
    for name, wanted, built in (
        ("max_slots", request.max_slots, sizes.max_batch_size),
        ("max_rows", request.max_rows, sizes.max_seq_len),
    ):
        if wanted > built:
            raise ConfigError(f"{name} is {wanted}; the trtllm engine was built for up to {built}")


def _gpu_of(world: World, built_for: str) -> Placement:
    """The GPU of a rank: the N-th of this machine for rank N."""
    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            "engine trtllm needs an NVIDIA GPU, and torch sees none; allowed here: onnx, torch"
        )
    index = world.rank % torch.cuda.device_count()
    found = capability(index)
    if found != built_for:
        raise EngineUnavailableError(
            f"the trtllm engine was built for compute capability {built_for}, this GPU has {found}:"
            " engines do not move between kinds of GPU; run duologue build --engines trtllm here"
        )
    torch.cuda.set_device(index)
    return Placement(f"cuda:{index}")


def capability(index: int) -> str:
    """Compute capability of a GPU, e.g. "9.0"."""
    major, minor = torch.cuda.get_device_capability(index)
    return f"{major}.{minor}"


def _workspace(world: World) -> Tensor | None:
    """Room for TensorRT-LLM's own sums over the ranks."""
    if world.size == 1:
        return None
    from tensorrt_llm import Mapping
    from tensorrt_llm.plugin.plugin import CustomAllReduceHelper

    mapping = Mapping(world_size=world.size, rank=world.rank, tp_size=world.size)
    num_bytes = CustomAllReduceHelper.max_workspace_size_auto(world.size)
    buffers, workspace = CustomAllReduceHelper.allocate_workspace(mapping, num_bytes)
    # The workspace holds bare addresses of the buffers, which must live as long.
    workspace.duologue_buffers = buffers
    tensor: Tensor = workspace
    return tensor


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
