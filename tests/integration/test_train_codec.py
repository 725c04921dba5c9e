# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from duologue.build_engines.codec_checkpoint import load_codec_checkpoint
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, generator_params
from duologue.build_engines.sources import find_codec_files
from duologue.finetune.codec_audio import find_audio
from duologue.finetune.codec_model import latents_of
from duologue.finetune.codec_options import CodecTraining
from duologue.finetune.codec_trainer import LOG_FILE, CodecTrainer, train_codec
from duologue.runtime.codec.xy.tokenizer import XyTokenizer
from duologue.runtime.errors import ConfigError

OPTIONS = CodecTraining(
    num_steps=20,
    batch_s=2.0,
    learning_rate=3e-3,
    warmup_steps=2,
    unquantized_steps=8,
    save_every=10,
    log_every=5,
    bf16=False,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def params() -> dict[str, Any]:
    sizes = RandomCodecSizes(num_codebooks=3, codebook_size=16, rvq_dim=8, d_model=16, ffn_dim=32)
    return generator_params(sizes)


@pytest.fixture
def audio_dir(tmp_path: Path) -> Path:
    """Gliding tones of three lengths and rates, the shortest shorter than some crops."""
    directory = tmp_path / "audio"
    directory.mkdir()
    for number, (length_s, rate_hz) in enumerate(((0.4, 16_000), (3.0, 22_050), (6.0, 24_000))):
        time_s = np.arange(round(length_s * rate_hz)) / rate_hz
        phase = 2 * np.pi * (200 + 100 * number) * (time_s + 0.1 * np.sin(3 * time_s))
        wave = 0.2 * np.sin(phase) * (1 + np.sin(7 * time_s)) / 2
        soundfile.write(directory / f"tone{number}.wav", wave, rate_hz)
    return directory


def test_twenty_steps_make_a_better_codec_that_the_builder_reads(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    train_codec(audio_dir, tmp_path / "codec", params, OPTIONS)
    log = (tmp_path / "codec" / LOG_FILE).read_text().splitlines()
    rows = [json.loads(line) for line in log]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert rows[-1]["mel"] < 0.9 * rows[0]["mel"]
    assert rows[0]["usage"] == 0.0
    assert rows[-1]["usage"] > 0.3
    checkpoint = load_codec_checkpoint(*find_codec_files(tmp_path / "codec", None))
    assert checkpoint.config.num_codebooks == 3
    codec = XyTokenizer(checkpoint.parameters)
    codec.load_state_dict(checkpoint.tensors)
    assert codec.decode(torch.randint(16, (1, 3, 5))).shape == (1, 5 * 1920)


def test_a_stopped_run_ends_like_one_that_was_not(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    whole = train_codec(audio_dir, tmp_path / "whole", params, OPTIONS)
    stopped = CodecTrainer(params, OPTIONS)
    assert not stopped.resume(tmp_path / "stopped")

    class PowerCutError(Exception):
        """The run ends here."""

    def stop(step: int, _: dict[str, float]) -> None:
        if step == 15:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train_codec(audio_dir, tmp_path / "stopped", params, OPTIONS, on_log=stop)
    resumed = train_codec(audio_dir, tmp_path / "stopped", params, OPTIONS)
    assert resumed.step == whole.step == 20
    for name, tensor in whole.codec.state_dict().items():
        torch.testing.assert_close(resumed.codec.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_decoder_only_training_keeps_codes(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    first = train_codec(audio_dir, tmp_path, params, OPTIONS)
    before = {name: tensor.clone() for name, tensor in first.codec.state_dict().items()}
    longer = CodecTraining(num_steps=25, batch_s=2.0, bf16=False, decoder_only=True)
    after = train_codec(audio_dir, tmp_path, params, longer).codec.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {
        "quantizer",
        "post_rvq_adapter",
        "upsample",
        "acoustic_decoder",
        "enhanced_vocos",
    }
    kept = [name for name in after if "codebook" in name or "input_proj" in name]
    assert all(torch.equal(before[name], after[name]) for name in kept)


def test_latents_of_a_crop_equal_those_of_a_whole_window(params: dict[str, Any]) -> None:
    trainer = CodecTrainer(params, OPTIONS)
    samples = 0.1 * torch.randn(2, 5 * 1280, generator=torch.Generator().manual_seed(0))
    limit = trainer.parameters.window_samples
    padded = torch.nn.functional.pad(samples, (0, limit - samples.shape[1]))
    with torch.inference_mode():
        whole = trainer.codec.latents(padded, torch.full((2,), samples.shape[1]))
        cropped = latents_of(trainer.codec, samples, limit)
    torch.testing.assert_close(cropped, whole[:, :5], rtol=1e-4, atol=1e-4)


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no audio file"):
        find_audio(tmp_path)
