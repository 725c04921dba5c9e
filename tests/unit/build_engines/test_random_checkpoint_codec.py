from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from duologue.build_engines.codec_checkpoint import load_codec_checkpoint, write_codec_weights
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.runtime.codec.torch_codec import TorchCodec


def load(codec_dir: Path) -> TorchCodec:
    loaded = load_codec_checkpoint(codec_dir / "xy_tokenizer.ckpt", codec_dir / "config.yaml")
    write_codec_weights(loaded.tensors, codec_dir / "codec.safetensors", "float16")
    return TorchCodec(loaded.config, codec_dir / "codec.safetensors")


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    """Threads of torch that wait for each other on a busy machine cost minutes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def codec_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_codec(tmp_path_factory.mktemp("codec"), seed=3)


@pytest.fixture(scope="module")
def codec(codec_dir: Path) -> TorchCodec:
    return load(codec_dir)


def test_random_speech_is_audible_and_never_clips(codec: TorchCodec) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (4, 8, 60))
    samples = codec.decode(codes)
    loudness = np.sqrt((samples**2).mean(axis=1))
    assert np.abs(samples).max() < 0.8
    assert loudness.min() > 0.02


def test_codes_of_a_clip_are_diverse_at_every_level(codec: TorchCodec) -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(8 * 16000) / 16000
    level = np.repeat(rng.random(80), 1600)
    clip = 0.3 * level * np.sin(2 * np.pi * (200 + 100 * time_s) * time_s)
    codes = codec.encode((clip + 0.01 * rng.standard_normal(len(clip))).astype(np.float32))
    assert codes.shape == (8, 100)
    assert min(len(np.unique(level)) for level in codes) > 30


def test_different_codes_sound_different(codec: TorchCodec) -> None:
    one = np.zeros((1, 8, 10), np.int64)
    assert np.abs(codec.decode(one) - codec.decode(one + 1)).max() > 0.01


def test_file_stays_small(codec: TorchCodec, codec_dir: Path) -> None:
    assert (codec_dir / "codec.safetensors").stat().st_size < 2_000_000


def test_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(tmp_path: Path) -> None:
    sizes = RandomCodecSizes(codebook_size=32, d_model=8, num_heads=2, sample_rate_hz=32000)
    before = torch.random.get_rng_state()
    paths = [
        write_random_codec(tmp_path / name, seed=seed, sizes=sizes)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    first, same, other = (load(path).decode(np.zeros((1, 8, 3), np.int64)) for path in paths)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert first.shape == (1, 3 * 2560)
