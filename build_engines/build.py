# SPDX-License-Identifier: Apache-2.0
"""From checkpoints to a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from duologue.build_engines import moss_ttsd, stages
from duologue.build_engines.bundle_writer import BundleWriter, Stage, StageResult
from duologue.build_engines.checkpoint import Checkpoint, read_checkpoint
from duologue.build_engines.codec_checkpoint import CODEC_FILE
from duologue.build_engines.codec_onnx import DECODER_FILE, ENCODER_FILE
from duologue.build_engines.options import BuildOptions
from duologue.build_engines.parity import measure_parity
from duologue.build_engines.sources import digest, find_codec_files
from duologue.build_engines.trtllm_engine import EnginePlan, require_builder
from duologue.runtime.codec.registry import ONNX_KEY, TORCH_KEY
from duologue.runtime.codec.window import default_windows
from duologue.runtime.config import Bundle, CodecConfig
from duologue.runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StageEvent:
    """How far a build is.

    Attributes:
        name: of the stage.
        state: "running", then "done" or "kept" (an earlier build had finished it).
    """

    name: str
    state: Literal["running", "done", "kept"]


Progress = Callable[[StageEvent], None]


def build_bundle(
    lm_source: Path,
    codec_source: Path,
    out_dir: Path,
    options: BuildOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Bundle:
    """Build a bundle, or go on with a build that was broken off.

    Args:
        lm_source: folder of the language model's checkpoint.
        codec_source: the codec's weights, or the folder that holds them.
        out_dir: the bundle's directory; a bundle that is there is replaced at the end.
        options: what to build; None takes the defaults.
        progress: is told when a stage begins and ends.

    Returns:
        The bundle as `bundle.json` describes it.

    Raises:
        ConfigError: a source is missing, damaged or does not fit the other, or `out_dir`
            cannot be written.
        EngineUnavailableError: a library that the build needs is not installed.
    """
    options = options or BuildOptions()
    try:
        with BundleWriter(out_dir) as writer:
            return _Build(lm_source, codec_source, options, writer, progress).run()
    except OSError as error:
        raise ConfigError(
            f"the build of {out_dir} stopped: {error}; called again, it goes on from there"
        ) from error


class _Build:
    """One build: the order of its stages, and what they tell each other."""

    def __init__(
        self,
        lm_source: Path,
        codec_source: Path,
        options: BuildOptions,
        writer: BundleWriter,
        progress: Progress | None,
    ) -> None:
        self._options = options
        self._writer = writer
        self._progress = progress
        self._checkpoint = read_checkpoint(lm_source)
        self._codec_files = find_codec_files(codec_source, options.codec_config)
        wants_engine = "trtllm" in options.engines and options.trtllm_engine
        self._trtllm_builder = require_builder() if wants_engine else None
        self._lm_digest = digest(lm_source)
        self._codec_digest = {k: v for path in self._codec_files for k, v in digest(path).items()}

    def run(self) -> Bundle:
        """All stages; the cheap ones that can refuse the sources come first."""
        options, checkpoint = self._options, self._checkpoint
        codec_inputs = (options.codec_dtype, self._codec_digest)
        self._run(stages.tokenizer_stage(checkpoint.directory, self._lm_digest))
        facts = self._run(stages.codec_stage(*self._codec_files, *codec_inputs))
        bundle = self._describe(CodecConfig(**facts["config"]))
        self._run(stages.codec_graph_stage(bundle.codec, *codec_inputs))
        self._run(stages.lm_stage(checkpoint, options.dtype, self._lm_digest))
        if "onnx" in options.engines:
            lm_inputs = (options.dtype, options.quantization_of("onnx"), self._lm_digest)
            self._run(stages.lm_graph_stage(checkpoint, *lm_inputs))
        if quantization := options.quantization_of("torch"):
            narrow_inputs = (options.dtype, quantization, self._lm_digest)
            self._run(stages.narrow_stage(checkpoint, *narrow_inputs))
        if "trtllm" in options.engines:
            bundle = self._run_trtllm(bundle)
        if options.parity:
            bundle = dataclasses.replace(bundle, parity=self._run(self._parity_stage(bundle)))
        read = {name for entry in bundle.engines.values() for name in entry.values()}
        return self._writer.finish(bundle, leave_out={stages.LM_FILE} - read)

    def _run_trtllm(self, bundle: Bundle) -> Bundle:
        options, digest_of_lm = self._options, self._lm_digest
        ranks = options.tensor_parallel
        self._run(stages.trtllm_stage(self._checkpoint, options.dtype, ranks, digest_of_lm))
        if self._trtllm_builder is None:
            return bundle
        limits = bundle.limits
        plan = EnginePlan(options.dtype, limits.max_slots, limits.max_rows, ranks)
        self._run(stages.trtllm_engine_stage(plan, self._trtllm_builder, digest_of_lm))
        version, capability = self._trtllm_builder
        entry = {
            **bundle.engines["trtllm"],
            **plan.facts(),
            "status": "built",
            "engine": stages.TRTLLM_ENGINE,
            "tensorrt_llm": version,
            "compute_capability": capability,
        }
        return dataclasses.replace(bundle, engines={**bundle.engines, "trtllm": entry})

    def _parity_stage(self, bundle: Bundle) -> Stage:
        inputs = {
            "lm": self._lm_digest,
            "codec": self._codec_digest,
            "engines": bundle.engines,
        }
        return Stage(
            "parity report",
            inputs,
            lambda directory: StageResult((), measure_parity(bundle, directory)),
        )

    def _run(self, stage: Stage) -> dict[str, Any]:
        self._tell(stage.name, "running")
        result, kept = self._writer.run(stage)
        self._tell(stage.name, "kept" if kept else "done")
        return result.facts

    def _tell(self, name: str, state: Literal["running", "done", "kept"]) -> None:
        if self._progress is not None:
            self._progress(StageEvent(name, state))

    def _describe(self, codec: CodecConfig) -> Bundle:
        options, checkpoint = self._options, self._checkpoint
        _check_match(checkpoint, codec)
        return Bundle(
            name=options.name or self._writer.out_dir.name,
            lm=checkpoint.lm,
            tokens=checkpoint.tokens,
            prompt=dataclasses.replace(moss_ttsd.PROMPT, reading=checkpoint.reading),
            sampling=checkpoint.sampling,
            codec=codec,
            windows=options.windows or default_windows(codec),
            limits=moss_ttsd.limits_for(
                checkpoint.lm, options.max_rows, options.max_slots, checkpoint.max_length
            ),
            trained=options.trained,
            description=options.description,
            engines=_engines(options),
        )


def _check_match(checkpoint: Checkpoint, codec: CodecConfig) -> None:
    """The language model must speak the codes that the codec knows."""
    tokens, lm = checkpoint.tokens, checkpoint.lm
    codes = tokens.speech_stop - tokens.speech_start
    if codes != codec.codebook_size or lm.num_channels != codec.num_codebooks:
        raise ConfigError(
            f"the language model speaks {lm.num_channels} channels of {codes} codes, the codec "
            f"{codec.num_codebooks} of {codec.codebook_size}; allowed: the same of both"
        )


def _engines(options: BuildOptions) -> dict[str, dict[str, Any]]:
    """What `Bundle.engines` says of each engine; the codec has its engines in every bundle."""
    of_torch, of_onnx = (options.quantization_of(engine) for engine in ("torch", "onnx"))
    known: dict[str, dict[str, Any]] = {
        "torch": {
            "status": "built",
            "dtype": of_torch or options.dtype,
            "weights": stages.torch_weights(of_torch),
        },
        "onnx": {
            "status": "built",
            "dtype": of_onnx or options.dtype,
            "graph": stages.lm_graph_file(of_onnx),
            "weights": stages.lm_graph_weights(of_onnx),
        },
        "trtllm": {
            "status": "not built: the checkpoint is ready, the engine needs tensorrt_llm and a GPU",
            "dtype": options.dtype,
            "weights": stages.LM_FILE,
            "checkpoint": stages.TRTLLM_DIR,
            "tensor_parallel": options.tensor_parallel,
        },
    }
    codec = {"dtype": options.codec_dtype}
    return {
        **{engine: known[engine] for engine in dict.fromkeys(options.engines)},
        ONNX_KEY: {**codec, "encoder": ENCODER_FILE, "decoder": DECODER_FILE},
        TORCH_KEY: {**codec, "weights": CODEC_FILE},
    }
