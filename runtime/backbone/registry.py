# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a bundle's language model; engines are imported only when asked for.

`bundle.engines` holds, per kind of engine, what was built for it:

    "torch":  {"status": "built", "dtype": "bfloat16", "weights": "lm.safetensors"}
    "onnx":   {"status": "built", "dtype": "float32", "graph": "lm.onnx",
               "weights": "lm.safetensors"}
    "trtllm": {"status": "what has to be done before it can run"}

(The codec's engines stand there too, under names of their own.) `status` is "built" or says why
not; files are relative to the bundle. `dtype` is the precision of the weights: of "torch" on a
GPU that can take it (see `precision`; on a CPU it computes in float32), of "onnx" as stored: it
computes in float32, or with "int8" and "int4" on quantised weights, which have a graph and a file
of their own. "torch" takes "int8" and "fp8", each with a file of its own (see `torch_weights`), and
on a GPU two keys more: `"deterministic": true` and `"channel0_ids"`, see `torch_open`. The engine
"numpy" needs no entry: it reads the weights of one of the others.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.ranks import mpi_world
from duologue.runtime.backbone.ranks_engines import check_splits, open_alone, open_leader
from duologue.runtime.backbone.request import EngineRequest as EngineRequest
from duologue.runtime.config import Bundle
from duologue.runtime.errors import ConfigError, EngineUnavailableError

AUTO = "auto"
BUILT = "built"
FLOATS = ("float32", "float16", "bfloat16")
_CUDA_DEVICE = "cuda"
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def load_backbone(
    bundle: Bundle,
    bundle_dir: Path,
    *,
    engine: str = AUTO,
    max_slots: int | None = None,
    max_rows: int | None = None,
    num_threads: int | None = None,
) -> Backbone:
    """Load the language model of a bundle.

    Args:
        bundle: its description.
        bundle_dir: where its files lie.
        engine: "torch", "onnx", "trtllm" or "numpy"; "auto" takes torch where a GPU is, else onnx,
            else torch, as far as the bundle has them and their wheels are installed; with several
            ranks of an mpirun, of which this is rank 0, it takes trtllm.
        max_slots: sequences at the same time; None takes the bundle's.
        max_rows: rows per sequence; None takes the bundle's.
        num_threads: of the onnx engine; None lets it choose. (Torch has one number for the whole
            process, `torch.set_num_threads`.)

    Raises:
        ConfigError: the engine is unknown, or a value or file of the bundle cannot work.
        EngineUnavailableError: the engine was not built, or a wheel is missing.
    """
    world = mpi_world()
    kind = engine if engine != AUTO else _choose(bundle) if world.size == 1 else "trtllm"
    request = make_request(bundle, bundle_dir, kind, max_slots, max_rows, num_threads)
    if world.size > 1:
        return open_leader(kind, request, world)
    return _CREATORS[kind](request)


def make_request(
    bundle: Bundle,
    bundle_dir: Path,
    kind: str,
    max_slots: int | None = None,
    max_rows: int | None = None,
    num_threads: int | None = None,
) -> EngineRequest:
    """What the creator of an engine gets; the arguments are those of `load_backbone`.

    Raises:
        ConfigError: the engine is unknown.
        EngineUnavailableError: the engine was not built.
    """
    if kind not in _CREATORS:
        allowed = ", ".join([AUTO, *_CREATORS])
        raise ConfigError(f"engine is {kind!r}; allowed: {allowed}")
    check_splits(kind, mpi_world().size)
    entry = _entry(bundle, kind)
    if entry.get("status") != BUILT:
        raise EngineUnavailableError(
            f"bundle {bundle.name!r} has no {kind} engine ({entry.get('status')}); "
            f"built: {', '.join(_built(bundle)) or 'none'}; "
            "duologue build --engine torch or onnx makes one that runs here"
        )
    return EngineRequest(
        bundle.lm,
        entry,
        bundle_dir,
        bundle.limits.max_slots if max_slots is None else max_slots,
        bundle.limits.max_rows if max_rows is None else max_rows,
        num_threads,
    )


def _entry(bundle: Bundle, kind: str) -> dict[str, Any]:
    if kind != "numpy":
        return bundle.engines.get(kind, {"status": "not built: run duologue build"})
    for entry in bundle.engines.values():
        # The codec's entries have no status.
        if "status" in entry and entry.get("dtype") in FLOATS and "weights" in entry:
            return {"status": BUILT, "dtype": "float32", "weights": entry["weights"]}
    return {"status": "it has only quantised weights"}


def _built(bundle: Bundle) -> list[str]:
    entries = {kind: bundle.engines.get(kind, {}) for kind in _CREATORS}
    return [kind for kind, entry in entries.items() if entry.get("status") == BUILT]


def _choose(bundle: Bundle) -> str:
    """The engine that "auto" means for this bundle on this machine."""
    built = _built(bundle)
    if "torch" in built and _has_gpu():
        return "torch"
    if "onnx" in built and _is_installed("onnxruntime"):
        return "onnx"
    if "torch" in built and _is_installed("torch"):
        return "torch"
    return built[0] if built else "onnx"


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _has_gpu() -> bool:
    # Importing torch takes seconds: ask the system first.
    if not any(device.exists() for device in _GPU_DEVICES) or not _is_installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def _create_torch(request: EngineRequest) -> Backbone:
    if not _is_installed("torch"):
        raise EngineUnavailableError("engine torch needs torch: pip install 'duologue[gpu]'")
    from duologue.runtime.backbone.torch_open import open_on_cpu, open_on_gpu

    return open_on_gpu(request, _CUDA_DEVICE) if _has_gpu() else open_on_cpu(request)


def _create_onnx(request: EngineRequest) -> Backbone:
    if not _is_installed("onnxruntime"):
        raise EngineUnavailableError("engine onnx needs onnxruntime: pip install 'duologue[cpu]'")
    from duologue.runtime.backbone.onnx_backbone import OnnxBackbone

    return OnnxBackbone(
        request.lm,
        request.path("graph"),
        max_slots=request.max_slots,
        max_rows=request.max_rows,
        dtype=str(request.entry.get("dtype")),
        num_threads=request.num_threads,
    )


_CREATORS: dict[str, Callable[[EngineRequest], Backbone]] = {
    "torch": _create_torch,
    "onnx": _create_onnx,
    "trtllm": partial(open_alone, "trtllm"),
    "numpy": partial(open_alone, "numpy"),
}
