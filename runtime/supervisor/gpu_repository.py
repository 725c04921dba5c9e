# SPDX-License-Identifier: Apache-2.0
"""Makes the model repository of a GPU host out of the committed one.

The committed configs run everywhere, with the codec in Python models on a CPU. A host with
NVIDIA's tritonserver has backends that the embedded server lacks, so there the decoder can be

    python     the same model, on the GPU with torch
    cuda       its ONNX graph in the onnxruntime backend
    tensorrt   the same, through onnxruntime's TensorRT provider, which builds and caches engines
    plan       a TensorRT plan, built beforehand by `plan_command` on this kind of GPU

The encoder, which cuts clips into windows, stays a Python model, on the GPU. As a command:
`python -m duologue.runtime.supervisor.gpu_repository --bundle B --out DIR --decoder tensorrt`.
Sources: triton-inference-server/onnxruntime_backend and tensorrt_backend, README.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from duologue.client import contract
from duologue.model_repository import repository_path
from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.errors import ConfigError
from duologue.runtime.supervisor.bundle_parameters import bundle_parameters
from duologue.runtime.supervisor.layout import CONFIG_FILE, copy_repository, read_config

Decoder = Literal["python", "cuda", "tensorrt", "plan"]
Precision = Literal["FP32", "FP16", "BF16"]
GRAPH, WEIGHTS, PLAN = "codec_decoder.onnx", "codec.safetensors", "codec_decoder.plan"
WORKSPACE_BYTES = 1 << 30
OPT_BATCH = 8


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """How the codec runs on a GPU host.

    Attributes:
        decoder: see the module.
        gpus: numbers of the GPUs that codec models run on, one instance each.
        precision: of the TensorRT provider. FP32 is what the codec was measured with.
        cache_dir: where the TensorRT provider keeps its engines; they fit one kind of GPU.
    """

    decoder: Decoder = "tensorrt"
    gpus: tuple[int, ...] = (0,)
    precision: Precision = "FP32"
    cache_dir: Path = Path("/var/cache/duologue/tensorrt")

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("decoder", self.decoder, get_args(Decoder)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if not self.gpus or min(self.gpus) < 0:
            raise ConfigError(f"gpus is {self.gpus}; allowed: one number from 0 on, or more")


@dataclass(frozen=True, slots=True)
class CodecShapes:
    """Shapes of CODES that an engine is made for, as TensorRT writes them."""

    smallest: str
    usual: str
    largest: str


def codec_shapes(bundle: Bundle) -> CodecShapes:
    """One frame; the last rung of the window ladder for some streams; the most that is allowed."""
    channels, last = bundle.codec.num_codebooks, bundle.windows.steps[-1]
    name = contract.CODEC_CODES.name
    sizes = (
        (1, 1),
        (OPT_BATCH, last.left + last.hop + last.right),
        (contract.MAX_DECODER_BATCH, bundle.codec.max_frames),
    )
    return CodecShapes(*(f"{name}:{batch}x{channels}x{frames}" for batch, frames in sizes))


def plan_command(bundle: Bundle, bundle_dir: Path) -> list[str]:
    """The line that builds the decoder's plan beside its graph; to be run on the serving GPU."""
    shapes = codec_shapes(bundle)
    return [
        "trtexec",
        f"--onnx={bundle_dir / GRAPH}",
        f"--saveEngine={bundle_dir / PLAN}",
        f"--minShapes={shapes.smallest}",
        f"--optShapes={shapes.usual}",
        f"--maxShapes={shapes.largest}",
    ]


def write_gpu_repository(
    target: Path,
    bundle_dir: Path,
    options: GpuOptions | None = None,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """Write the repository for `tritonserver --model-repository`.

    Args:
        target: is made; must not hold these models yet.
        bundle_dir: of the bundle that it serves.
        options: how the codec runs.
        parameters: further values for model parameters, e.g. "engine" and "max_slots".

    Raises:
        ConfigError: no such bundle, a config cannot be read, or the plan has not been built.
    """
    settings, directory = options or GpuOptions(), bundle_dir.resolve()
    bundle = Bundle.load(directory)
    values = {**bundle_parameters(directory), **(parameters or {})}
    copy_repository(repository_path(), target, values)
    for model in (contract.ENCODER_MODEL, contract.DECODER_MODEL):
        path = target / model / CONFIG_FILE
        config = read_config(path)
        _put_on_gpus(config, settings.gpus)
        if model == contract.DECODER_MODEL and settings.decoder != "python":
            _serve_graph(config, path.parent / "1", bundle, directory, settings)
        path.write_text(text_format.MessageToString(config), encoding="utf-8")


def _put_on_gpus(config: ModelConfig, gpus: tuple[int, ...]) -> None:
    del config.instance_group[:]
    config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_GPU, gpus=gpus)


def _serve_graph(
    config: ModelConfig, version_dir: Path, bundle: Bundle, directory: Path, options: GpuOptions
) -> None:
    """Replace the Python model by its graph; names, types and shapes at the door stay."""
    (version_dir / "model.py").unlink()
    config.parameters.clear()
    # The backends compare these with the graph's own.
    config.input[0].dims[:] = [bundle.codec.num_codebooks, -1]
    if options.decoder == "plan":
        _take(directory / PLAN, version_dir, " ".join(plan_command(bundle, directory)))
        config.backend, config.default_model_filename = "tensorrt", PLAN
        return
    for name in (GRAPH, WEIGHTS):
        _take(directory / name, version_dir, "duologue build")
    config.backend, config.default_model_filename = "onnxruntime", GRAPH
    if options.decoder == "tensorrt":
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add()
        accelerator.name = "tensorrt"
        accelerator.parameters.update(_provider_parameters(codec_shapes(bundle), options))


def _provider_parameters(shapes: CodecShapes, options: GpuOptions) -> dict[str, str]:
    parameters = {
        "precision_mode": options.precision,
        "max_workspace_size_bytes": str(WORKSPACE_BYTES),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(options.cache_dir),
        "trt_timing_cache_enable": "1",
        "trt_profile_min_shapes": shapes.smallest,
        "trt_profile_opt_shapes": shapes.usual,
        "trt_profile_max_shapes": shapes.largest,
    }
    if options.precision != "FP32":
        parameters["trt_layer_norm_fp32_fallback"] = "1"
    return parameters


def _take(source: Path, version_dir: Path, remedy: str) -> None:
    """Copy a file: backends look for external data beside the graph, and not behind a link."""
    if not source.is_file():
        raise ConfigError(f"{source} does not exist; it is made by: {remedy}")
    shutil.copyfile(source, version_dir / source.name)


def main(argv: list[str]) -> int:
    """Write a repository as the command line asks."""
    parser = argparse.ArgumentParser(description="The model repository of a GPU host.")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--decoder", choices=get_args(Decoder), default="tensorrt")
    parser.add_argument("--precision", choices=get_args(Precision), default="FP32")
    parser.add_argument("--gpu", type=int, action="append")
    parser.add_argument("--cache-dir", type=Path, default=GpuOptions().cache_dir)
    given = parser.parse_args(argv)
    options = GpuOptions(given.decoder, tuple(given.gpu or (0,)), given.precision, given.cache_dir)
    try:
        write_gpu_repository(given.out, resolve_bundle(given.bundle), options)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
