# SPDX-License-Identifier: Apache-2.0
"""Write a small random XY-Tokenizer in the reference's own format.

It makes audible noise at a sane level, and its codes are diverse: the codebooks are drawn to
fit what its own encoder leaves over at each level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from duologue.build_engines.codec_checkpoint import write_torch_checkpoint
from duologue.runtime.codec.xy.layers import Stack
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.codec.xy.quantizer import ResidualQuantizer
from duologue.runtime.codec.xy.tokenizer import XyTokenizer

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "xy_tokenizer.ckpt"

_INPUT_RATE_HZ = 16_000
_MEL_HOP = 160
_WINDOW_S = 30
_FACTOR = 4
_PEAK = 0.4
_PHASE_SPREAD = 30.0


@dataclass(frozen=True, slots=True)
class RandomCodecSizes:
    """Sizes of a random codec; the defaults make a file of about 1 MB in float16."""

    num_codebooks: int = 8
    codebook_size: int = 1024
    rvq_dim: int = 16
    d_model: int = 32
    num_layers: int = 1
    num_heads: int = 4
    ffn_dim: int = 64
    vocos_dim: int = 24
    vocos_intermediate_dim: int = 48
    vocos_layers: int = 3
    sample_rate_hz: int = 24_000


def write_random_codec(
    directory: Path, *, seed: int = 0, sizes: RandomCodecSizes | None = None
) -> Path:
    """Write `config.yaml` and `xy_tokenizer.ckpt`.

    Args:
        directory: is made if it does not exist.
        seed: the same seed and torch version give the same weights.
        sizes: of the model; None takes the defaults.

    Returns:
        The directory.
    """
    params = generator_params(sizes or RandomCodecSizes())
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        model = XyTokenizer(XyParameters.from_dict(params)).eval()
        _set_positions(model)
        _spread_vocoder(model)
        _fit_codebooks(model)
        _set_level(model)
    directory.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"generator_params": params}, sort_keys=False)
    (directory / CONFIG_FILE).write_text(text, encoding="utf-8")
    write_torch_checkpoint(model.state_dict(), directory / WEIGHTS_FILE)
    return directory


def generator_params(sizes: RandomCodecSizes) -> dict[str, Any]:
    """The reference's configuration at other sizes."""
    latent_dim, hop = sizes.d_model * _FACTOR, sizes.sample_rate_hz // 100
    return {
        "input_sample_rate": _INPUT_RATE_HZ,
        "output_sample_rate": sizes.sample_rate_hz,
        "encoder_downsample_rate": _MEL_HOP * 2 * _FACTOR,
        "decoder_upsample_rate": hop * 2 * _FACTOR,
        "feature_extractor_kwargs": {
            "chunk_length": _WINDOW_S,
            "feature_size": 80,
            "hop_length": _MEL_HOP,
            "n_fft": 400,
            "n_samples": _WINDOW_S * _INPUT_RATE_HZ,
            "nb_max_frames": _WINDOW_S * _INPUT_RATE_HZ // _MEL_HOP,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": False,
            "sampling_rate": _INPUT_RATE_HZ,
        },
        "semantic_encoder_kwargs": _coder(sizes, "encoder"),
        "semantic_encoder_adapter_kwargs": _adapter(sizes, sizes.d_model, sizes.d_model, 1500),
        "acoustic_encoder_kwargs": _coder(sizes, "encoder"),
        "pre_rvq_adapter_kwargs": _adapter(sizes, 2 * sizes.d_model, sizes.d_model, 1500),
        "downsample_kwargs": {"d_model": sizes.d_model, "avg_pooler": _FACTOR},
        "quantizer_kwargs": {
            "input_dim": latent_dim,
            "rvq_dim": sizes.rvq_dim,
            "output_dim": latent_dim,
            "num_quantizers": sizes.num_codebooks,
            "codebook_size": sizes.codebook_size,
            "codebook_dim": sizes.rvq_dim,
            "quantizer_dropout": 0.0,
            "commitment": 1,
        },
        "post_rvq_adapter_kwargs": _adapter(sizes, latent_dim, latent_dim, 375),
        "upsample_kwargs": {"d_model": sizes.d_model, "stride": _FACTOR},
        "acoustic_decoder_kwargs": _coder(sizes, "decoder"),
        "vocos_kwargs": {
            "input_channels": 80,
            "dim": sizes.vocos_dim,
            "intermediate_dim": sizes.vocos_intermediate_dim,
            "num_layers": sizes.vocos_layers,
            "n_fft": 4 * hop,
            "hop_size": hop,
            "padding": "same",
        },
    }


def _coder(sizes: RandomCodecSizes, side: str) -> dict[str, Any]:
    return {
        "num_mel_bins": 80,
        "sampling_rate": _INPUT_RATE_HZ,
        "hop_length": _MEL_HOP,
        "stride_size": 2,
        "kernel_size": 3,
        "d_model": sizes.d_model,
        "scale_embedding": False,
        "max_audio_seconds": _WINDOW_S,
        f"{side}_layers": sizes.num_layers,
        f"{side}_attention_heads": sizes.num_heads,
        f"{side}_ffn_dim": sizes.ffn_dim,
        "activation_function": "gelu",
    }


def _adapter(
    sizes: RandomCodecSizes, input_dim: int, output_dim: int, max_positions: int
) -> dict[str, Any]:
    return {
        "input_dim": input_dim,
        "output_dim": output_dim,
        "d_model": sizes.d_model,
        "max_source_positions": max_positions,
        "encoder_layers": sizes.num_layers,
        "encoder_attention_heads": sizes.num_heads,
        "encoder_ffn_dim": sizes.ffn_dim,
    }


def _set_positions(model: nn.Module) -> None:
    """Sines and cosines of geometrically falling frequency, as in Whisper."""
    for stack in (m for m in model.modules() if isinstance(m, Stack)):
        length, dim = stack.positional_embedding.shape
        exponents = torch.arange(dim // 2) / (dim // 2 - 1)
        angles = torch.arange(length)[:, None] * torch.exp(-math.log(1e4) * exponents)
        stack.positional_embedding.copy_(torch.cat([angles.sin(), angles.cos()], dim=1))


def _spread_vocoder(model: XyTokenizer) -> None:
    """Give the spectrum a falling slope and phases that differ, so that noise comes out."""
    vocos = model.enhanced_vocos
    for block in vocos.backbone.convnext:
        block.gamma.fill_(1.0 / len(vocos.backbone.convnext))  # type: ignore[operator]
    out, bins = vocos.head.out, vocos.head.istft.n_fft // 2 + 1
    out.weight[bins:] *= _PHASE_SPREAD
    out.bias[bins:].uniform_(-math.pi, math.pi)
    out.bias[:bins] = -torch.log(1.0 + torch.arange(bins) / 10.0)


def _test_audio(num_samples: int, num_rows: int) -> Tensor:
    """[num_rows, num_samples]: noise and gliding tones whose level changes all the time."""
    time_s = torch.arange(num_samples) / _INPUT_RATE_HZ
    knots = torch.rand(num_rows, 1, num_samples // 3200 + 2)
    level = nn.functional.interpolate(knots, size=num_samples, mode="linear")[:, 0] ** 2
    rate_hz = 100 + 1500 * torch.rand(num_rows, 1)
    tones = torch.sin(2 * math.pi * (rate_hz * time_s + 200 * torch.sin(time_s)))
    return 0.3 * level * (tones + 0.5 * torch.randn(num_rows, num_samples))


def _fit_codebooks(model: XyTokenizer) -> None:
    """Draw each level's codes like the residuals that reach it: same mean, same covariance."""
    quantizer: ResidualQuantizer = model.quantizer
    num_samples = 10 * _INPUT_RATE_HZ
    audio = _test_audio(num_samples, num_rows=6)
    latents = model.latents(audio, torch.full((len(audio),), num_samples))
    residual = quantizer.input_proj(latents.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
    for level in quantizer.quantizers:
        table: Tensor = level.codebook  # type: ignore[assignment]
        centred = residual - residual.mean(0)
        _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
        scale = singular / math.sqrt(len(residual))
        table.copy_(residual.mean(0) + (torch.randn_like(table) * scale) @ directions)
        residual = residual - table[torch.cdist(residual, table).argmin(1)]


def _set_level(model: XyTokenizer) -> None:
    """Scale all magnitudes so that speech of random codes peaks well below full scale."""
    quantizer = model.quantizer
    size = len(quantizer.quantizers[0].codebook)  # type: ignore[arg-type]
    codes = torch.randint(size, (4, len(quantizer.quantizers), 50))
    peak = float(model.decode(codes).abs().max())
    head = model.enhanced_vocos.head
    head.out.bias[: head.istft.n_fft // 2 + 1] += math.log(_PEAK / peak)
