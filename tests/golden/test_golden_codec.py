"""The codec, in torch and in ONNX, held to what the reference implementation made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.build_engines.codec_checkpoint import (
    CODEC_FILE,
    CodecCheckpoint,
    load_codec_checkpoint,
    write_codec_weights,
)
from duologue.build_engines.codec_onnx import export_codec
from duologue.runtime.codec import reference_windows as windows
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.clip import split_clip
from duologue.runtime.codec.onnx_codec import OnnxCodec
from duologue.runtime.codec.torch_codec import TorchCodec
from duologue.runtime.codec.xy.tokenizer import XyTokenizer

DATA = Path(__file__).parent / "data" / "xy_24k"
WAVE_TOLERANCE = 1e-4
TIE = 1e-5

Golden = dict[str, Any]


def read(name: str) -> Golden:
    with np.load(DATA / name) as file:
        return {key: file[key] for key in file}


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> None:
    """Threads of torch that wait for each other on a busy machine cost minutes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read("golden.npz")


@pytest.fixture(scope="module")
def recorded() -> Golden:
    return read("windows.npz")


@pytest.fixture(scope="module")
def checkpoint() -> CodecCheckpoint:
    return load_codec_checkpoint(DATA / "xy_tokenizer.ckpt", DATA / "config.yaml")


@pytest.fixture(scope="module")
def model(checkpoint: CodecCheckpoint) -> XyTokenizer:
    model = XyTokenizer(checkpoint.parameters).eval()
    model.load_state_dict(checkpoint.tensors)
    return model


@pytest.fixture(scope="module", params=["torch", "onnx"])
def codec(
    request: pytest.FixtureRequest,
    checkpoint: CodecCheckpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Codec]:
    weights_path = tmp_path_factory.mktemp("codec") / CODEC_FILE
    write_codec_weights(checkpoint.tensors, weights_path)
    made: Codec
    if request.param == "torch":
        made = TorchCodec(checkpoint.config, weights_path)
    else:
        encoder, decoder = export_codec(checkpoint.parameters, weights_path)
        made = OnnxCodec(checkpoint.config, encoder, decoder)
    yield made
    made.close()


def assert_codes(made: Any, wanted: Any, model: XyTokenizer, samples: Any) -> None:
    """Equal, but for ties: the first level that differs must lie between two near codes."""
    assert made.shape == wanted.shape
    for frame in np.unique(np.nonzero(made != wanted)[1]):
        level = int(np.argmax(made[:, frame] != wanted[:, frame]))
        distances = residual_distances(model, samples, wanted, level, int(frame))
        gap = abs(distances[made[level, frame]] - distances[wanted[level, frame]])
        assert gap < TIE, f"frame {frame}, level {level}: codes differ by {gap}"


def residual_distances(
    model: XyTokenizer, samples: Any, codes: Any, level: int, frame: int
) -> torch.Tensor:
    """Distances of what is left after the levels before, from every code of a level."""
    full = torch.zeros(1, model_window(model))
    full[0, : len(samples)] = torch.from_numpy(samples)
    with torch.inference_mode():
        latents = model.latents(full, torch.tensor([len(samples)]))
        left = model.quantizer.input_proj(latents.transpose(1, 2))[0, :, frame]
        tables = [m.codebook for m in model.quantizer.quantizers]
        for below in range(level):
            left = left - tables[below][codes[below, frame]]
        return (left - tables[level]).pow(2).sum(1)


def model_window(model: XyTokenizer) -> int:
    return model.semantic_encoder.positional_embedding.shape[0] * 2 * model.mel.hop


def test_configuration_is_read_from_the_yaml(checkpoint: CodecCheckpoint) -> None:
    config = checkpoint.config
    assert (config.input_rate_hz, config.sample_rate_hz) == (16000, 24000)
    assert (config.input_samples_per_frame, config.samples_per_frame) == (1280, 1920)
    assert (config.num_codebooks, config.codebook_size, config.max_frames) == (8, 1024, 375)
    assert config.frame_rate_hz == 12.5


def test_tensor_names_are_those_of_the_checkpoint(model: XyTokenizer) -> None:
    keys = json.loads((DATA / "keys.json").read_text(encoding="utf-8"))
    training_only = ("inited", "cluster_size", "embed_avg")
    wanted = {
        name.removesuffix("_g").removesuffix("_v"): shape
        for name, (shape, _) in keys.items()
        if not name.endswith(training_only)
    }
    found = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found == wanted


def test_mel_spectrogram_equals_the_recorded_one(model: XyTokenizer, golden: Golden) -> None:
    samples = torch.zeros(1, model_window(model))
    samples[0, : len(golden["a_wav"])] = torch.from_numpy(golden["a_wav"])
    mel = model.mel(samples)[0].numpy()
    np.testing.assert_allclose(mel[:, :400], golden["a_mel_head"], atol=1e-5)
    np.testing.assert_allclose(mel[:, -10:], golden["a_mel_tail"], atol=1e-5)


@pytest.mark.parametrize(
    ("module", "layout"),
    [
        ("semantic_encoder", "BTC"),
        ("semantic_encoder_adapter", "BTC"),
        ("acoustic_encoder", "BTC"),
        ("pre_rvq_adapter", "BTC"),
        ("downsample", "BTC"),
        ("post_rvq_adapter", "BTC"),
        ("upsample", "BTC"),
        ("acoustic_decoder", "BCT"),
        ("enhanced_vocos.backbone", "BTC"),
    ],
)
def test_intermediate_values_equal_the_recorded_ones(
    model: XyTokenizer, golden: Golden, checkpoint: CodecCheckpoint, module: str, layout: str
) -> None:
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(module).register_forward_hook(lambda *call: seen.append(call[2]))
    (window,) = split_clip(golden["a_wav"], checkpoint.config)
    with torch.inference_mode():
        model.encode(torch.from_numpy(window.samples)[None], torch.tensor([window.num_samples]))
        model.decode(torch.from_numpy(golden["a_codes"])[None])
    handle.remove()
    made = seen[0].transpose(1, 2) if layout == "BTC" else seen[0]
    wanted = golden["a_inter_" + module.replace("enhanced_vocos.", "vocos_")]
    if module == "enhanced_vocos.backbone":
        wanted = wanted.transpose(0, 2, 1)
    num_positions = wanted.shape[2]
    np.testing.assert_allclose(made[..., :num_positions].numpy(), wanted, atol=5e-5)


@pytest.mark.parametrize(("clip", "codes"), [("a_wav", "a_codes"), ("c_wav_1", "c_codes_1")])
def test_codes_of_a_clip_equal_the_recorded_ones(
    codec: Codec, model: XyTokenizer, golden: Golden, clip: str, codes: str
) -> None:
    made = codec.encode(golden[clip])
    assert made.dtype == np.int64
    assert_codes(made, golden[codes], model, golden[clip])


def test_clip_shorter_than_a_frame_has_no_code(codec: Codec, golden: Golden) -> None:
    assert codec.encode(golden["c_wav_0"]).shape == golden["c_codes_0"].shape == (8, 0)
    assert windows.decode_windowed(codec, golden["c_codes_0"]).shape == golden["c_syn_0"].shape


def test_samples_equal_the_recorded_ones(codec: Codec, golden: Golden) -> None:
    made = codec.decode(golden["a_codes"][None])
    np.testing.assert_allclose(made[0], golden["a_syn"], atol=WAVE_TOLERANCE)
    # The reference decoded these beside a shorter row; the longest row is not disturbed.
    made = codec.decode(golden["e_codes"][:, 1][None])
    np.testing.assert_allclose(made[0], golden["e_y"][1, 0], atol=WAVE_TOLERANCE)


@pytest.mark.parametrize("case", ["c", "e"])
def test_padded_rows_differ_from_the_reference_only_at_their_end(
    codec: Codec, golden: Golden, case: str
) -> None:
    """The reference pads short rows of a batch, which disturbs the last samples; we do not."""
    codes = golden["c_codes_1"] if case == "c" else golden["e_codes"][:, 0, :20]
    wanted = golden["c_syn_1"] if case == "c" else golden["e_y"][0, 0, : golden["e_len"][0]]
    made = codec.decode(codes[None])[0]
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made[:-1761], wanted[:-1761], atol=WAVE_TOLERANCE)


@pytest.fixture(scope="module")
def voice(codec: Codec, recorded: Golden) -> Any:
    return windows.reference_codes(codec, recorded["ref_wav"])


def assert_signal(made: Any, recorded: Golden, name: str) -> None:
    assert len(made) == recorded[f"{name}_length"]
    positions = recorded[f"{name}_positions"]
    np.testing.assert_allclose(made[positions], recorded[name], atol=WAVE_TOLERANCE)


@pytest.mark.parametrize("num_frames", [1, 85, 105, 106, 126, 211])
def test_prompt_augmented_decode_equals_the_recorded_one(
    codec: Codec, recorded: Golden, voice: Any, num_frames: int
) -> None:
    codes = recorded["codes"][:, :num_frames].astype(np.int64)
    made = windows.decode_with_reference(codec, codes, voice, loses_audio=True)
    assert_signal(made, recorded, f"aug_{num_frames}")


def test_streamed_windows_of_the_reference_equal_the_recorded_ones(
    codec: Codec, recorded: Golden
) -> None:
    made = windows.decode_windowed(codec, recorded["stream_codes"].astype(np.int64))
    assert_signal(made, recorded, "stream")


def test_repaired_decode_keeps_what_the_reference_loses(
    codec: Codec, recorded: Golden, voice: Any
) -> None:
    codes = recorded["codes"][:, :106].astype(np.int64)
    made = windows.decode_with_reference(codec, codes, voice)
    assert len(made) == 106 * codec.config.samples_per_frame
    positions = recorded["aug_106_positions"]
    # 105 frames less the fade of the reference are the same in both.
    same = positions < 105 * 1920 - 2400
    np.testing.assert_allclose(
        made[positions[same]], recorded["aug_106"][same], atol=WAVE_TOLERANCE
    )
