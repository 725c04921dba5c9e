# SPDX-License-Identifier: Apache-2.0
"""The stages of a build, one function each."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from duologue.build_engines import moss_ttsd
from duologue.build_engines.bundle_writer import Stage, StageResult
from duologue.build_engines.checkpoint import Checkpoint, write_lm_safetensors
from duologue.build_engines.checkpoint_config import special_ids
from duologue.build_engines.codec_checkpoint import (
    CODEC_FILE,
    load_codec_checkpoint,
    write_codec_weights,
)
from duologue.build_engines.codec_onnx import export_codec
from duologue.build_engines.lm_onnx import write_lm_onnx
from duologue.build_engines.narrow_weights import write_narrow_safetensors
from duologue.build_engines.options import Precision
from duologue.build_engines.quantize import write_quantized_safetensors
from duologue.build_engines.trtllm_checkpoint import write_trtllm_checkpoint
from duologue.build_engines.trtllm_engine import ENGINE_DIR, EnginePlan, build_engine
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.config import CodecConfig
from duologue.runtime.errors import ConfigError, EngineUnavailableError

LM_FILE = "lm.safetensors"
TOKENIZER_FILE = "tokenizer.json"
TRTLLM_DIR = "trtllm"
TRTLLM_ENGINE = f"{TRTLLM_DIR}/{ENGINE_DIR}"

_REVISION = 3
"""Goes up when a stage writes something else for the same inputs."""

Digest = dict[str, str]


def codec_stage(weights: Path, config: Path, dtype: Precision, source: Digest) -> Stage:
    """`codec.safetensors`; the facts hold the codec's configuration under "config"."""

    def run(directory: Path) -> StageResult:
        codec = load_codec_checkpoint(weights, config)
        try:
            write_codec_weights(codec.tensors, directory / CODEC_FILE, dtype)
        except SafetensorError as error:
            # The library's own name for a disk that is full; the weights themselves are in order.
            raise OSError(f"{CODEC_FILE}: {error}") from error
        return StageResult((CODEC_FILE,), {"config": dataclasses.asdict(codec.config)})

    return _stage("codec weights", run, source=source, dtype=dtype)


def codec_graph_stage(codec: CodecConfig, dtype: str, source: Digest) -> Stage:
    """`codec_encoder.onnx` and `codec_decoder.onnx`."""

    def run(directory: Path) -> StageResult:
        paths = export_codec(XyParameters.from_dict(codec.model), directory / CODEC_FILE)
        return StageResult(tuple(path.name for path in paths))

    return _stage("codec graphs", run, source=source, dtype=dtype)


def tokenizer_stage(lm_dir: Path, source: Digest) -> Stage:
    """`tokenizer.json`."""

    def run(directory: Path) -> StageResult:
        if (lm_dir / TOKENIZER_FILE).is_file():
            shutil.copyfile(lm_dir / TOKENIZER_FILE, directory / TOKENIZER_FILE)
        else:
            _convert_tokenizer(lm_dir, directory / TOKENIZER_FILE)
        moss_ttsd.check_tokens(special_ids(directory).keys())
        return StageResult((TOKENIZER_FILE,))

    return _stage("tokenizer", run, source=source)


def lm_stage(checkpoint: Checkpoint, dtype: str, source: Digest) -> Stage:
    """`lm.safetensors`, from which every engine reads."""

    def run(directory: Path) -> StageResult:
        write_lm_safetensors(checkpoint, directory / LM_FILE, dtype)
        return StageResult((LM_FILE,))

    return _stage("language model weights", run, source=source, dtype=dtype)


def narrow_stage(checkpoint: Checkpoint, dtype: str, quantization: str, source: Digest) -> Stage:
    """The torch engine's own weights in 8 bits."""
    name = torch_weights(quantization)

    def run(directory: Path) -> StageResult:
        weights = directory / LM_FILE
        write_narrow_safetensors(checkpoint.lm, weights, directory / name, quantization)
        return StageResult((name,))

    inputs = {"source": source, "dtype": dtype, "quantization": quantization}
    return _stage("torch weights in 8 bits", run, **inputs)


def torch_weights(quantization: str | None) -> str:
    """Name of the weights that the torch engine loads."""
    return LM_FILE if quantization is None else f"lm.torch_{quantization}.safetensors"


def lm_graph_stage(
    checkpoint: Checkpoint, dtype: str, quantization: str | None, source: Digest
) -> Stage:
    """The graph of the language model and, if quantised, the weights that it points into."""
    graph_name, weights_name = lm_graph_file(quantization), lm_graph_weights(quantization)

    def run(directory: Path) -> StageResult:
        graph, weights = directory / graph_name, directory / weights_name
        if quantization is None:
            write_lm_onnx(checkpoint.lm, weights, graph)
            return StageResult((graph_name,))
        write_quantized_safetensors(checkpoint.lm, directory / LM_FILE, weights, quantization)
        write_lm_onnx(checkpoint.lm, weights, graph, quantization=quantization)
        return StageResult((graph_name, weights_name))

    inputs = {"source": source, "dtype": dtype, "quantization": quantization}
    return _stage("language model graph", run, **inputs)


def lm_graph_file(quantization: str | None) -> str:
    """Name of the graph that the onnx engine loads."""
    return "lm.onnx" if quantization is None else f"lm.{quantization}.onnx"


def lm_graph_weights(quantization: str | None) -> str:
    """Name of the weights that the graph points into."""
    return LM_FILE if quantization is None else f"lm.{quantization}.safetensors"


def trtllm_stage(checkpoint: Checkpoint, dtype: str, tensor_parallel: int, source: Digest) -> Stage:
    """The TensorRT-LLM checkpoint, from which an engine is built where there is a GPU."""

    def run(directory: Path) -> StageResult:
        out = directory / TRTLLM_DIR
        shutil.rmtree(out, ignore_errors=True)
        written = write_trtllm_checkpoint(
            TensorFile(directory / LM_FILE),
            checkpoint.lm,
            out,
            dtype=dtype,
            tensor_parallel=tensor_parallel,
        )
        return StageResult(tuple(f"{TRTLLM_DIR}/{path.name}" for path in written))

    return _stage("TensorRT-LLM checkpoint", run, source=source, dtype=dtype, ranks=tensor_parallel)


def trtllm_engine_stage(plan: EnginePlan, builder: tuple[str, str], source: Digest) -> Stage:
    """The TensorRT-LLM engine; `builder` is the version and GPU that it is tied to."""

    def run(directory: Path) -> StageResult:
        written = build_engine(directory / TRTLLM_DIR, directory / TRTLLM_ENGINE, plan)
        return StageResult(tuple(f"{TRTLLM_ENGINE}/{path.name}" for path in written))

    inputs = {"source": source, "plan": dataclasses.asdict(plan), "builder": list(builder)}
    return _stage("TensorRT-LLM engine", run, **inputs)


def _stage(name: str, run: Any, **inputs: Any) -> Stage:
    return Stage(name, {"revision": _REVISION, **inputs}, run)


def _convert_tokenizer(lm_dir: Path, path: Path) -> None:
    """Write `tokenizer.json` of a tokenizer that is stored as vocabulary and merges."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise EngineUnavailableError(
            f"{lm_dir} has no {TOKENIZER_FILE}; converting its tokenizer needs transformers: "
            "pip install 'duologue[build]'"
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(lm_dir), local_files_only=True)
        tokenizer.backend_tokenizer.save(str(path))
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{lm_dir} has no tokenizer that can be read: {error}") from error
