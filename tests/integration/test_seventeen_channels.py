"""Another model altogether: 17 channels, heads of their own, another codec, another tokenizer.

What MOSS-TTSD v1.0 will need of the house: channels, delays, heads and codebooks come from the
bundle, and the whole way from checkpoints to audio works with them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from duologue.build_engines.build import build_bundle
from duologue.build_engines.options import BuildOptions
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.cli.main import app
from duologue.runtime.core import SamplingOverrides, SpeechRequest, Voice
from duologue.runtime.synthesizer import Synthesizer

CHANNELS = 17
CODES = 96
SCRIPT = "[S1]Have you read it?[S2]Twice."


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seventeen")
    write_random_lm(
        folder / "lm",
        seed=1,
        hidden_size=48,
        num_layers=2,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=96,
        num_channels=CHANNELS,
        codebook_size=CODES,
        tied_heads=False,
        max_position_embeddings=1024,
    )
    sizes = RandomCodecSizes(
        num_codebooks=CHANNELS,
        codebook_size=CODES,
        d_model=16,
        ffn_dim=24,
        vocos_dim=16,
        sample_rate_hz=32_000,
    )
    write_random_codec(folder / "codec", seed=1, sizes=sizes)
    options = BuildOptions(engines=("torch", "onnx", "trtllm"), max_slots=4)
    build_bundle(folder / "lm", folder / "codec", folder / "bundle", options)
    return folder / "bundle"


def test_the_bundle_says_what_the_model_is(bundle_dir: Path) -> None:
    with Synthesizer.load(bundle_dir, engine="onnx") as synthesizer:
        bundle = synthesizer.bundle
    assert bundle.lm.num_channels == bundle.codec.num_codebooks == CHANNELS
    assert bundle.lm.max_delay == CHANNELS - 1
    assert not bundle.lm.tied_heads
    assert bundle.codec.sample_rate_hz == 32_000
    for engine in ("torch", "onnx"):
        measured = bundle.parity[engine]
        assert measured["hidden"]["max_abs_diff"] < 1e-4
        assert measured["logits"]["ids_equal"] == measured["logits"]["num_ids"] == 5 * CHANNELS


@pytest.mark.parametrize("greedy", [True, False])
def test_both_engines_speak_the_same_codes_of_seventeen_channels(
    bundle_dir: Path, greedy: bool
) -> None:
    rng = np.random.default_rng(3)
    voices = {1: Voice(rng.integers(0, CODES, (CHANNELS, 30)), "[S1]A few words.")}
    overrides = SamplingOverrides(greedy=greedy)
    request = SpeechRequest(SCRIPT, voices=voices, seed=5, max_frames=50, sampling=overrides)
    codes, audio = [], []
    for engine in ("torch", "onnx"):
        with Synthesizer.load(bundle_dir, engine=engine) as synthesizer:
            stream = synthesizer.submit(request)
            audio.append(np.concatenate([chunk.samples for chunk in stream]))
            codes.append(stream.codes)
    np.testing.assert_array_equal(codes[0], codes[1])
    assert codes[0].shape == (CHANNELS, 50)
    assert codes[0].min() >= 0
    assert codes[0].max() < CODES
    np.testing.assert_array_equal(audio[0], audio[1])
    assert len(audio[0]) == 50 * 2560
    assert audio[0].std() > 0.01


def test_a_batch_speaks_with_a_recorded_voice(bundle_dir: Path, tmp_path: Path) -> None:
    time_s = np.arange(32_000) / 16_000
    tone = (0.3 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32)
    soundfile.write(tmp_path / "voice.wav", tone, 16_000)
    line = {"text": SCRIPT, "prompt_audio": str(tmp_path / "voice.wav")}
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    places = ["--bundle", bundle_dir, "--jsonl", tmp_path / "in.jsonl"]
    places += ["--output-dir", tmp_path / "out"]
    run = CliRunner().invoke(app, ["batch", *map(str, places), "--save-codes", "--seed", "3"])
    assert run.exit_code == 0, run.output
    codes = np.load(tmp_path / "out" / "output_0.codes.npy")
    info = soundfile.info(tmp_path / "out" / "output_0.wav")
    assert codes.shape[1] == CHANNELS
    assert (info.samplerate, info.frames) == (32_000, len(codes) * 2560)
