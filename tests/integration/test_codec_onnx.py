"""The ONNX codec at several sizes: exactness, threads, precision and what lies on the disk."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from duologue.build_engines.codec_checkpoint import (
    CODEC_FILE,
    CodecCheckpoint,
    load_codec_checkpoint,
    write_codec_weights,
)
from duologue.build_engines.codec_graph import GraphBuilder
from duologue.build_engines.codec_onnx import DECODER_FILE, ENCODER_FILE, export_codec
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.runtime.codec.onnx_codec import OnnxCodec
from duologue.runtime.codec.torch_codec import TorchCodec
from duologue.runtime.errors import ConfigError, EngineError

LENGTHS = (1, 2, 3, 6, 13, 40, 79)


def build(directory: Path, sizes: RandomCodecSizes, dtype: str = "float32") -> CodecCheckpoint:
    write_random_codec(directory, sizes=sizes)
    checkpoint = load_codec_checkpoint(directory / "xy_tokenizer.ckpt", directory / "config.yaml")
    write_codec_weights(checkpoint.tensors, directory / CODEC_FILE, dtype)
    export_codec(checkpoint.parameters, directory / CODEC_FILE)
    return checkpoint


def open_onnx(directory: Path, checkpoint: CodecCheckpoint, **options: int) -> OnnxCodec:
    encoder, decoder = directory / ENCODER_FILE, directory / DECODER_FILE
    return OnnxCodec(checkpoint.config, encoder, decoder, **options)


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    """Threads of torch that wait for each other on a busy machine cost minutes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("codec")


@pytest.fixture(scope="module")
def checkpoint(directory: Path) -> CodecCheckpoint:
    return build(directory, RandomCodecSizes(vocos_layers=2))


def random_codes(checkpoint: CodecCheckpoint, num_rows: int, length: int) -> np.ndarray:
    config = checkpoint.config
    shape = (num_rows, config.num_codebooks, length)
    return np.random.default_rng(length).integers(0, config.codebook_size, shape)


def clip(num_samples: int) -> np.ndarray:
    """Noise whose level changes every quarter of a second."""
    rng = np.random.default_rng(num_samples)
    level = np.repeat(rng.random(num_samples // 4000 + 1), 4000)[:num_samples]
    return (0.3 * level * rng.standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_row_does_not_depend_on_the_batch_nor_on_the_threads(
    directory: Path, checkpoint: CodecCheckpoint, length: int
) -> None:
    codes = random_codes(checkpoint, 8, length)
    one, two = (open_onnx(directory, checkpoint, num_threads=n) for n in (1, 2))
    alone = np.concatenate([one.decode(codes[i : i + 1]) for i in range(8)])
    for num_rows in (1, 2, 3, 8):
        assert np.array_equal(one.decode(codes[:num_rows]), alone[:num_rows])
        assert np.array_equal(two.decode(codes[:num_rows]), alone[:num_rows])
    one.close()
    two.close()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_row_in_torch_does_not_depend_on_the_batch(
    directory: Path, checkpoint: CodecCheckpoint, length: int
) -> None:
    codes = random_codes(checkpoint, 3, length)
    codec = TorchCodec(checkpoint.config, directory / CODEC_FILE)
    alone = np.concatenate([codec.decode(codes[i : i + 1]) for i in range(3)])
    assert np.array_equal(codec.decode(codes), alone)


def test_groups_of_rows_in_torch_give_every_row_once(
    directory: Path, checkpoint: CodecCheckpoint
) -> None:
    codes = random_codes(checkpoint, 5, 6)
    one, three = (
        TorchCodec(checkpoint.config, directory / CODEC_FILE, rows_per_run=n) for n in (1, 3)
    )
    np.testing.assert_allclose(three.decode(codes), one.decode(codes), atol=1e-4)


def test_calls_from_several_threads_do_not_disturb_each_other(
    directory: Path, checkpoint: CodecCheckpoint
) -> None:
    codec = open_onnx(directory, checkpoint, num_threads=2)
    batches = [random_codes(checkpoint, 2, length) for length in LENGTHS]
    wanted = [codec.decode(codes) for codes in batches]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(codec.decode, batches))
    assert all(np.array_equal(a, b) for a, b in zip(made, wanted, strict=True))
    codec.close()


@pytest.mark.parametrize(
    "sizes",
    [
        RandomCodecSizes(sample_rate_hz=32000, num_layers=2, codebook_size=64),
        RandomCodecSizes(sample_rate_hz=16000, d_model=48, num_heads=6, num_codebooks=4),
    ],
    ids=["32 kHz", "16 kHz"],
)
def test_engines_agree_at_other_sizes_and_rates(tmp_path: Path, sizes: RandomCodecSizes) -> None:
    checkpoint = build(tmp_path, sizes)
    by_torch = TorchCodec(checkpoint.config, tmp_path / CODEC_FILE)
    by_onnx = open_onnx(tmp_path, checkpoint, num_threads=2)
    codes = random_codes(checkpoint, 2, 17)
    samples = by_onnx.decode(codes)
    assert samples.shape == (2, 17 * sizes.sample_rate_hz * 8 // 100)
    np.testing.assert_allclose(samples, by_torch.decode(codes), atol=1e-4)
    audio = clip(16000 * 23)
    first, second = by_torch.encode(audio), by_onnx.encode(audio)
    assert first.shape == second.shape == (sizes.num_codebooks, len(audio) // 1280)
    assert (first == second).mean() > 0.99
    by_onnx.close()


def test_one_frame_of_zeros_gives_the_codes_of_a_window_filled_with_zeros(
    directory: Path, checkpoint: CodecCheckpoint
) -> None:
    codec = open_onnx(directory, checkpoint)
    audio = clip(50_000)
    filled = np.zeros((1, 480_000), np.float32)
    filled[0, : len(audio)] = audio
    feeds = {"SAMPLES": filled, "NUM_SAMPLES": np.array([[len(audio)]], np.int32)}
    (codes,) = codec._encoder.run(["CODES"], feeds)
    assert codes.shape == (1, 8, 375)
    assert (codec.encode(audio) == codes[0, :, : len(audio) // 1280]).mean() > 0.99
    codec.close()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.1)])
def test_weights_in_half_precision_are_read_by_both_engines(
    tmp_path: Path, checkpoint: CodecCheckpoint, directory: Path, dtype: str, tolerance: float
) -> None:
    write_codec_weights(checkpoint.tensors, tmp_path / CODEC_FILE, dtype)
    export_codec(checkpoint.parameters, tmp_path / CODEC_FILE)
    codes = random_codes(checkpoint, 1, 30)
    by_onnx = open_onnx(tmp_path, checkpoint)
    by_torch = TorchCodec(checkpoint.config, tmp_path / CODEC_FILE)
    full = open_onnx(directory, checkpoint)
    np.testing.assert_allclose(by_onnx.decode(codes), by_torch.decode(codes), atol=1e-4)
    np.testing.assert_allclose(by_onnx.decode(codes), full.decode(codes), atol=tolerance)


def test_weights_lie_on_the_disk_once(directory: Path, checkpoint: CodecCheckpoint) -> None:
    stored = set()
    for name in (ENCODER_FILE, DECODER_FILE):
        assert (directory / name).stat().st_size < 150_000
        graph = onnx.load(str(directory / name), load_external_data=False).graph
        external = [t for t in graph.initializer if t.external_data]
        assert {t.external_data[0].value for t in external} == {CODEC_FILE}
        stored |= {t.name for t in external}
        assert all(np.prod(t.dims) <= 20_000 for t in graph.initializer if not t.external_data)
    assert stored == set(checkpoint.tensors)


def test_graph_away_from_its_weights_is_refused(directory: Path, tmp_path: Path) -> None:
    graph = GraphBuilder("any", directory / CODEC_FILE)
    with pytest.raises(ConfigError, match="must lie beside"):
        graph.save(tmp_path / "graph.onnx")


def test_damaged_graph_is_an_error_of_configuration(
    directory: Path, checkpoint: CodecCheckpoint, tmp_path: Path
) -> None:
    (tmp_path / DECODER_FILE).write_bytes(b"no graph")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        OnnxCodec(checkpoint.config, directory / ENCODER_FILE, tmp_path / DECODER_FILE)


def test_codes_out_of_range_are_refused_by_both_engines(
    directory: Path, checkpoint: CodecCheckpoint
) -> None:
    codes = np.full((1, 8, 4), checkpoint.config.codebook_size)
    for codec in (
        open_onnx(directory, checkpoint),
        TorchCodec(checkpoint.config, directory / CODEC_FILE),
    ):
        with pytest.raises(EngineError, match="allowed: 0 to"):
            codec.decode(codes)
        codec.close()


def test_onnx_engine_imports_no_torch() -> None:
    code = (
        "import sys; import duologue.runtime.codec.onnx_codec, duologue.runtime.codec.registry,"
        " duologue.runtime.codec.window, duologue.runtime.codec.reference_windows;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
