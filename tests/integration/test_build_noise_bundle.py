"""The noise bundle: small, sound, and made anew with the same bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from duologue.build_engines.noise_bundle import MAX_BYTES, build_noise_bundle
from duologue.models import noise_bundle_path
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.codec.registry import load_codec
from duologue.runtime.config import Bundle


def test_the_noise_bundle_is_whole_small_and_says_that_it_is_untrained() -> None:
    bundle = verify_bundle(noise_bundle_path(), hashes=True)
    assert not bundle.trained
    assert bundle.name == "noise"
    assert {"onnx", "torch", "codec_onnx", "codec_torch"} == set(bundle.engines)
    on_disk = sum(path.stat().st_size for path in noise_bundle_path().iterdir())
    assert on_disk <= MAX_BYTES
    assert {path.name for path in noise_bundle_path().iterdir()} == {*bundle.files, "bundle.json"}


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_the_noise_bundle_turns_noise_into_codes_and_codes_into_sound(engine: str) -> None:
    directory = noise_bundle_path()
    bundle = verify_bundle(directory)
    codec = load_codec(bundle, directory, engine)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(bundle.codec.input_rate_hz).astype(np.float32)
    samples = codec.decode(codec.encode(noise)[None])
    assert 0.01 < np.abs(samples).max() < 1.0
    codec.close()
    backbone = load_backbone(bundle, directory, engine=engine, max_slots=1, max_rows=16)
    logits = backbone.prefill(0, np.zeros((4, bundle.lm.num_channels), np.int64))
    assert logits is not None
    # The random model prefers speech, so that a caller hears something.
    best = logits.channel(0).argmax()
    assert bundle.tokens.speech_start <= best < bundle.tokens.speech_stop
    backbone.close()


@pytest.fixture(scope="module")
def made_anew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("anew") / "noise"
    build_noise_bundle(out)
    return out


def test_making_it_twice_gives_the_same_bytes(made_anew: Path, tmp_path: Path) -> None:
    build_noise_bundle(tmp_path / "again")
    for path in sorted(made_anew.iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_noise_bundle_is_what_the_recipe_makes_today(made_anew: Path) -> None:
    # Hashes and the last bits depend on the libraries and the processor; the rest does not.
    described = [
        dataclasses.replace(Bundle.load(directory), files={}, parity={})
        for directory in (made_anew, noise_bundle_path())
    ]
    assert described[0] == described[1]
    fresh, embedded = (
        TensorFile(directory / "lm.safetensors") for directory in (made_anew, noise_bundle_path())
    )
    assert set(fresh) == set(embedded)
    for name in fresh:
        np.testing.assert_allclose(
            fresh[name].float32(), embedded[name].float32(), atol=2e-3, err_msg=name
        )
