# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, generator_params
from duologue.finetune import codec_audio
from duologue.finetune.codec_audio import CropSource
from duologue.finetune.errors import DataError
from duologue.runtime.codec.xy.parameters import XyParameters

PARAMS = generator_params(RandomCodecSizes())
PARAMETERS = XyParameters.from_dict(PARAMS)
RATE_HZ = 24_000


def noise(path: Path, length_s: float = 3.0) -> Path:
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(length_s * RATE_HZ))
    soundfile.write(path, samples, RATE_HZ)
    return path


def with_changes(**changes: dict[str, Any]) -> XyParameters:
    return XyParameters.from_dict(PARAMS | {n: PARAMS[n] | c for n, c in changes.items()})


@pytest.mark.parametrize(
    ("parameters", "max_frames"),
    [
        (PARAMETERS, 375),
        (with_changes(feature_extractor_kwargs={"n_samples": 160_000}), 125),
        (with_changes(post_rvq_adapter_kwargs={"max_source_positions": 50}), 50),
    ],
    ids=["30 s", "encoder of 10 s", "decoder of 4 s"],
)
def test_no_crop_is_longer_than_the_codec_takes_at_once(
    parameters: XyParameters, max_frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_audio, "_LENGTHS_S", (30.0,))
    monkeypatch.setattr(codec_audio, "_LENGTH_WEIGHTS", (1.0,))
    source = CropSource([noise(tmp_path / "a.wav")], parameters, batch_s=8.0)
    batch = source.draw(np.random.default_rng(0))
    num_rows = {375: 1, 125: 1, 50: 2}[max_frames]
    assert batch.samples.shape == (num_rows, max_frames * parameters.input_samples_per_frame)
    assert batch.wanted.shape == (num_rows, max_frames * parameters.samples_per_frame)


def test_a_file_that_goes_away_ends_the_batches_by_name(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav")
    batches = CropSource([path], PARAMETERS, 1.0).batches(seed=0, first_step=0)
    next(batches)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.wav cannot be read"):
        for _ in zip(range(20), batches, strict=False):
            pass


def test_a_file_that_becomes_shorter_ends_the_batches_by_name(tmp_path: Path) -> None:
    source = CropSource([noise(tmp_path / "a.wav", 60.0)], PARAMETERS, 1.0)
    noise(tmp_path / "a.wav", 0.5)
    with pytest.raises(DataError, match=r"a\.wav has become shorter"):
        for _ in zip(range(20), source.batches(seed=0, first_step=0), strict=False):
            pass


def test_a_damaged_body_ends_the_batches_by_name(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.flac")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 10])
    source = CropSource([path], PARAMETERS, 1.0)
    with pytest.raises(DataError, match=r"a\.flac cannot be read: .*flac"):
        for _ in zip(range(20), source.batches(seed=0, first_step=0), strict=False):
            pass


def test_whatever_else_happens_while_crops_are_drawn_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = CropSource([noise(tmp_path / "a.wav")], PARAMETERS, 1.0)

    def fail(random: np.random.Generator) -> None:
        raise MemoryError("no room for a crop")

    monkeypatch.setattr(source, "draw", fail)
    with pytest.raises(MemoryError, match="no room"):
        next(source.batches(seed=0, first_step=0))


def empty(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE_HZ)


def garbage(path: Path) -> None:
    path.write_bytes(b"RIFF, said the file, and no more")


@pytest.mark.parametrize(
    ("write", "message"),
    [(empty, "holds 0 samples; allowed: 0.01 s or more"), (garbage, "cannot be read: ")],
)
def test_files_without_audio_are_named_before_training(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    good = noise(tmp_path / "good.wav")
    bad = [tmp_path / f"bad{number}.wav" for number in range(7)]
    for path in bad:
        write(path)
    with pytest.raises(DataError, match=r"bad0\.wav") as caught:
        CropSource([bad[0], good, *bad[1:]], PARAMETERS, 1.0)
    assert message in str(caught.value)
    assert str(caught.value).endswith("; and 2 more")
    assert "good.wav" not in str(caught.value)


def test_a_short_file_goes_on_with_others(tmp_path: Path) -> None:
    short, long = noise(tmp_path / "short.wav", 0.02), tmp_path / "long.wav"
    soundfile.write(long, np.full(RATE_HZ * 3, 0.5), RATE_HZ)
    source = CropSource([short, long], PARAMETERS, 1.0)
    _, wanted = source._crop(source._files[0], 7, np.random.default_rng(0))
    rest = wanted[round(0.02 * RATE_HZ) + 100 :]
    assert float(np.ptp(rest[100:-100])) < 0.01, "a constant, as the long file is"
