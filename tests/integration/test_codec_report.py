# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.build_engines.codec_checkpoint import (
    CODEC_FILE,
    load_codec_checkpoint,
    write_codec_weights,
)
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.finetune.codec_report import decode_streamed, report_codec
from duologue.runtime.codec.torch_codec import TorchCodec
from duologue.runtime.config import WindowConfig, WindowStep


@pytest.fixture
def codec(tmp_path: Path) -> TorchCodec:
    sizes = RandomCodecSizes(num_codebooks=3, codebook_size=32, d_model=16, vocos_layers=1)
    write_random_codec(tmp_path, sizes=sizes)
    checkpoint = load_codec_checkpoint(tmp_path / "xy_tokenizer.ckpt", tmp_path / "config.yaml")
    write_codec_weights(checkpoint.tensors, tmp_path / CODEC_FILE)
    return TorchCodec(checkpoint.config, tmp_path / CODEC_FILE)


def test_a_stream_of_one_window_equals_the_whole(codec: TorchCodec) -> None:
    codes = np.random.default_rng(0).integers(0, 32, (3, 30))
    windows = WindowConfig((WindowStep(hop=30, left=0, right=0),), 0)
    streamed = decode_streamed(codec, codes, windows)
    np.testing.assert_array_equal(streamed, codec.decode(codes[None])[0])
    ladder = WindowConfig((WindowStep(hop=7, left=3, right=2),), 100)
    assert len(decode_streamed(codec, codes, ladder)) == len(streamed)


def test_report_measures_every_file(codec: TorchCodec, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        time_s = np.arange(24_000) / 24_000
        wave = 0.2 * np.sin(2 * np.pi * (300 + 200 * number) * time_s)
        files.append(tmp_path / f"{number}.wav")
        soundfile.write(files[-1], wave, 24_000)
    report = report_codec(codec, files)
    assert report.whole_mel > 0.5, "a random codec makes noise"
    assert report.streamed_mel > 0.5
    assert 0.0 <= report.share_identified <= 1.0
    assert len(report.used_codes) == 3
    assert all(0 < share <= 1 for share in report.used_codes)
