"""The published sizes, built without memory, against the published counts of parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, generator_params
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.codec.xy.tokenizer import XyTokenizer


def published_params(sample_rate_hz: int) -> dict[str, Any]:
    """`generator_params` of the published 24 and 32 kHz codecs."""
    sizes = RandomCodecSizes(
        rvq_dim=512,
        d_model=768,
        num_layers=12,
        num_heads=12,
        ffn_dim=3072,
        vocos_dim=512,
        vocos_intermediate_dim=4096,
        vocos_layers=30,
        sample_rate_hz=sample_rate_hz,
    )
    params = generator_params(sizes)
    for name, section in params.items():
        if name.endswith("_adapter_kwargs"):
            section["encoder_layers"] = 4
    return params


def num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("semantic_encoder", 87.0),
        ("semantic_encoder_adapter", 28.4),
        ("acoustic_encoder", 87.0),
        ("pre_rvq_adapter", 29.5),
        ("downsample", 28.3),
        ("quantizer", 3.15),
        ("post_rvq_adapter", 33.1),
        ("upsample", 9.4),
        ("acoustic_decoder", 87.0),
        ("enhanced_vocos", 127.1),
        ("", 520.0),
    ],
)
def test_modules_of_the_32_khz_codec_have_the_published_sizes(name: str, millions: float) -> None:
    parameters = XyParameters.from_dict(published_params(32000))
    with torch.device("meta"):
        model = XyTokenizer(parameters)
    assert num_parameters(model.get_submodule(name)) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("sample_rate_hz", "samples"), [(16000, 1280), (24000, 1920), (32000, 2560)]
)
def test_rates_follow_from_the_vocoder(sample_rate_hz: int, samples: int) -> None:
    params = published_params(sample_rate_hz)
    config = XyParameters.from_dict(params).codec_config(params)
    assert config.samples_per_frame == samples
    assert config.frame_rate_hz == 12.5
    assert config.max_frames == 375
    assert config.input_samples_per_frame == 1280
