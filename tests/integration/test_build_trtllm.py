"""`duologue build --engines trtllm`, to speech: against the stand-in for TensorRT-LLM."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from trtllm_standin import MarkingPlacement, standin

from duologue.build_engines import build as build_module
from duologue.build_engines.build import build_bundle
from duologue.build_engines.options import BuildOptions
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.runtime.backbone import trtllm_backbone
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.core import SamplingOverrides, SpeechRequest
from duologue.runtime.synthesizer import Synthesizer

CODEC = RandomCodecSizes(codebook_size=64, d_model=16, ffn_dim=24, vocos_dim=16)
OPTIONS = BuildOptions(
    engines=("torch", "trtllm"), trtllm_engine=True, max_slots=3, max_rows=512, name="tiny"
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("sources")
    write_random_lm(root / "lm", seed=3, codebook_size=64)
    write_random_codec(root / "codec", seed=3, sizes=CODEC)
    return root / "lm", root / "codec"


@pytest.fixture(scope="module")
def built(
    sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bundle, Path]]:
    out = tmp_path_factory.mktemp("built") / "bundle"
    with pytest.MonkeyPatch.context() as patch, standin():
        patch.setattr(build_module, "require_builder", lambda: ("1.2.1", "9.0"))
        patch.setattr(trtllm_backbone, "_gpu_of", lambda world, built_for: MarkingPlacement())
        yield build_bundle(*sources, out, OPTIONS), out


def test_the_bundle_says_what_was_built(built: tuple[Bundle, Path]) -> None:
    bundle, out = built
    entry = bundle.engines["trtllm"]
    assert (entry["status"], entry["engine"]) == ("built", "trtllm/engine")
    assert (entry["tensorrt_llm"], entry["compute_capability"]) == ("1.2.1", "9.0")
    assert (entry["max_batch_size"], entry["max_seq_len"]) == (3, 512)
    assert {"trtllm/engine/rank0.engine", "trtllm/engine/config.json"} <= set(bundle.files)
    assert verify_bundle(out, hashes=True) == bundle


def test_the_parity_report_holds_the_engine_to_the_reference(
    built: tuple[Bundle, Path],
) -> None:
    measured = built[0].parity["trtllm"]
    assert measured["hidden"]["max_abs_diff"] < 1e-3
    assert measured["logits"]["max_abs_diff"] < 1e-3
    assert measured["logits"]["ids_equal"] == measured["logits"]["num_ids"] > 0


def test_it_speaks_what_the_torch_engine_speaks(built: tuple[Bundle, Path]) -> None:
    request = SpeechRequest(
        "[S1]Hello.[S2]Good day.",
        seed=1,
        sampling=SamplingOverrides(greedy=True),
        max_frames=20,
        codes_only=True,
    )
    codes = {}
    for engine in ("torch", "trtllm"):
        with Synthesizer.load(built[1], engine=engine) as synthesizer:
            streams = [synthesizer.submit(request) for _ in range(2)]
            for stream in streams:
                list(stream)
            codes[engine] = streams[1].codes
    assert codes["torch"].shape[1] > 0
    assert (np.asarray(codes["trtllm"]) == codes["torch"]).all()


def test_without_the_wheel_the_build_says_what_to_install(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    lm, codec = (str(path) for path in sources)
    line = ["build", "--lm", lm, "--codec", codec, "--out", str(tmp_path / "out")]
    # In a process of its own: this one has the stand-in.
    done = subprocess.run(
        [sys.executable, "-m", "duologue.cli", *line, "--engines", "trtllm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "tensorrt_llm>=1.0,<1.3, which is not installed" in done.stderr
    assert "pip install 'duologue[trtllm]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_engine_of_several_ranks_is_not_compared_by_one(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, tensor_parallel=2)
    with pytest.MonkeyPatch.context() as patch, standin():
        patch.setattr(build_module, "require_builder", lambda: ("1.2.1", "9.0"))
        bundle = build_bundle(*sources, tmp_path / "two", options)
    assert bundle.engines["trtllm"]["tensor_parallel"] == 2
    assert "trtllm/engine/rank1.engine" in bundle.files
    assert "torch" in bundle.parity
    assert "trtllm" not in bundle.parity
