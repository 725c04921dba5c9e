# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from duologue.build_engines.codec_checkpoint import load_codec_checkpoint
from duologue.build_engines.random_checkpoint_codec import (
    RandomCodecSizes,
    generator_params,
    write_random_codec,
)
from duologue.build_engines.sources import find_codec_files
from duologue.finetune import codec_audio, codec_learning, codec_quantizer
from duologue.finetune.codec_audio import find_audio
from duologue.finetune.codec_files import STATE_FILE, write_state
from duologue.finetune.codec_learning import CodecTrainer
from duologue.finetune.codec_model import latents_of
from duologue.finetune.codec_options import CodecTraining
from duologue.finetune.codec_trainer import LOG_FILE, WEIGHTS_FILE, train_codec
from duologue.finetune.errors import DataError, TrainingError
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


SIZES = RandomCodecSizes(num_codebooks=3, codebook_size=16, rvq_dim=8, d_model=16, ffn_dim=32)


@pytest.fixture
def params() -> dict[str, Any]:
    return generator_params(SIZES)


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
    audio_dir: Path, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in codec_small.yaml; and codes come back to life on both sides of where the run stops.
    params["quantizer_kwargs"]["quantizer_dropout"] = 0.25
    monkeypatch.setattr(codec_quantizer, "_REVIVE_EVERY", 5)
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


def test_a_checkpoint_without_a_state_is_begun_with(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    write_random_codec(tmp_path, sizes=SIZES)
    before = read_tensors(tmp_path)
    trainer = train_codec(audio_dir, tmp_path, params, replace(OPTIONS, num_steps=1))
    assert trainer.step == 1
    after = read_tensors(tmp_path)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0.0, atol=0.2)
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_a_codec_of_other_sizes_is_left_alone(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    write_random_codec(tmp_path, sizes=replace(SIZES, codebook_size=8))
    before = (tmp_path / WEIGHTS_FILE).read_bytes()
    with pytest.raises(ConfigError, match="whose codebook_size differ"):
        train_codec(audio_dir, tmp_path, params, OPTIONS)
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before


@pytest.mark.parametrize("decoder_only", [False, True])
def test_a_finished_run_says_so_and_has_its_weights(
    decoder_only: bool, audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    options = replace(OPTIONS, num_steps=2)
    train_codec(audio_dir, tmp_path, params, options)
    (tmp_path / WEIGHTS_FILE).unlink()
    with pytest.raises(TrainingError, match=r"is at step 2 already.*allowed: more than 2"):
        train_codec(audio_dir, tmp_path, params, replace(options, decoder_only=decoder_only))
    assert read_tensors(tmp_path)


def test_a_kill_between_weights_and_state_does_not_keep_old_weights(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, num_steps=2, save_every=1, unquantized_steps=0)

    def stop(directory: Path, state: dict[str, Any]) -> None:
        if state["step"] == 2:
            raise KeyboardInterrupt
        write_state(directory, state)

    with monkeypatch.context() as patch:
        patch.setattr(codec_learning, "write_state", stop)
        with pytest.raises(KeyboardInterrupt):
            train_codec(audio_dir, tmp_path, params, options)
    trainer = train_codec(audio_dir, tmp_path, params, options)
    assert trainer.step == 2
    table = trainer.codec.state_dict()["quantizer.quantizers.0.codebook"]
    torch.testing.assert_close(read_tensors(tmp_path)["quantizer.quantizers.0.codebook"], table)


def test_a_run_too_short_for_codebooks_fits_them_at_its_end(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    train_codec(audio_dir, tmp_path, params, replace(OPTIONS, num_steps=3, save_every=1))
    for k in range(3):
        table = read_tensors(tmp_path)[f"quantizer.quantizers.{k}.codebook"]
        assert len(table.unique(dim=0)) > 8


def test_nothing_to_build_from_is_written_before_there_are_codebooks(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    CodecTrainer(params, OPTIONS).save(tmp_path)
    assert (tmp_path / STATE_FILE).is_file()
    assert not (tmp_path / WEIGHTS_FILE).exists()
    with pytest.raises(TrainingError, match="holds no codebooks yet"):
        train_codec(audio_dir, tmp_path, params, replace(OPTIONS, decoder_only=True))


def test_a_codec_of_short_windows_is_trained(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_audio, "_LENGTHS_S", (30.0,))
    monkeypatch.setattr(codec_audio, "_LENGTH_WEIGHTS", (1.0,))
    params["feature_extractor_kwargs"] |= {"n_samples": 4 * 16_000, "chunk_length": 4}
    options = replace(OPTIONS, num_steps=2, unquantized_steps=0)
    assert train_codec(audio_dir, tmp_path, params, options).step == 2


def test_a_file_that_goes_away_ends_the_run(
    audio_dir: Path, params: dict[str, Any], tmp_path: Path
) -> None:
    def remove(step: int, _: dict[str, float]) -> None:
        for path in audio_dir.iterdir():
            path.unlink()

    with pytest.raises(DataError, match=r"tone\d\.wav cannot be read"):
        train_codec(audio_dir, tmp_path, params, replace(OPTIONS, log_every=1), on_log=remove)


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    return load_codec_checkpoint(*find_codec_files(directory, None)).tensors


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
