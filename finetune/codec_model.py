# SPDX-License-Identifier: Apache-2.0
"""A fresh XY-Tokenizer to be trained, and the reconstruction of a crop with gradients."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from duologue.finetune.codec_options import Positions
from duologue.finetune.codec_quantizer import Quantized, QuantizerTrainer
from duologue.runtime.codec.xy.layers import Stack
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.codec.xy.tokenizer import XyTokenizer

# So that an untrained vocoder whispers instead of shouting.
_FIRST_LOG_MAGNITUDE = -3.0


class Reconstruction(NamedTuple):
    """A crop after encoder, quantizer and decoder.

    Attributes:
        samples: [B, N'] at the output rate.
        first_frame: what they begin with, counted in frames of the crop.
        quantized: what the quantizer did.
    """

    samples: Tensor
    first_frame: int
    quantized: Quantized


def new_codec(parameters: XyParameters, positions: Positions, seed: int) -> XyTokenizer:
    """Random weights to begin with.

    Args:
        parameters: sizes.
        positions: what the position tables hold. "sinusoidal" as in the published codecs;
            "none" leaves them zero, so that a frame sounds the same wherever in a window it
            stands, which streaming windows need and a short training cannot learn.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        codec = XyTokenizer(parameters)
    if positions == "sinusoidal":
        for stack in (m for m in codec.modules() if isinstance(m, Stack)):
            _write_sinusoids(stack.positional_embedding)
    vocos = codec.enhanced_vocos
    with torch.no_grad():
        for block in vocos.backbone.convnext:
            gamma: Tensor = block.gamma  # type: ignore[assignment]
            gamma.fill_(1 / len(vocos.backbone.convnext))
        num_bins = vocos.head.istft.n_fft // 2 + 1
        vocos.head.out.bias[:num_bins] = _FIRST_LOG_MAGNITUDE
    return codec


def freeze_encoder(codec: XyTokenizer) -> None:
    """Leave only what turns codes into samples to be learned."""
    learned = (
        codec.quantizer.output_proj,
        codec.post_rvq_adapter,
        codec.upsample,
        codec.acoustic_decoder,
        codec.enhanced_vocos,
    )
    codec.requires_grad_(False)
    for module in learned:
        module.requires_grad_(True)


def latents_of(codec: XyTokenizer, samples: Tensor, max_samples: int) -> Tensor:
    """Latents [B, T, latent_dim] of crops [B, N] of T whole frames, N at most `max_samples`.

    They equal those of the same audio padded with silence to the encoder's whole window of
    `max_samples`: one frame of silence is as good as many, for what lies beyond is masked.
    """
    num_samples = samples.shape[1]
    frame = codec.mel.hop * 2 * codec.downsample.factor
    padding = min(frame, max_samples - num_samples)
    lengths = torch.full((len(samples),), num_samples, device=samples.device)
    latents = codec.latents(F.pad(samples, (0, padding)), lengths)
    return latents[:, : num_samples // frame]


def reconstruct(
    codec: XyTokenizer,
    quantizer: QuantizerTrainer,
    samples: Tensor,
    window: slice,
    max_samples: int,
) -> Reconstruction:
    """Encode and quantize whole crops, decode a window of their frames.

    Args:
        codec: its quantizer is the one that `quantizer` trains.
        quantizer: quantizes.
        samples: [B, N] at the input rate.
        window: of frames; the decoder sees nothing else, as in streaming.
        max_samples: of the encoder's whole window.
    """
    quantized = quantizer(latents_of(codec, samples, max_samples))
    x = quantized.latents[:, window]
    x = codec.upsample(codec.post_rvq_adapter(x))
    decoded: Tensor = codec.enhanced_vocos(codec.acoustic_decoder(x))
    return Reconstruction(decoded.float(), window.start, quantized)


def _write_sinusoids(table: Tensor) -> None:
    """Sines and cosines of geometrically falling frequency, as in Whisper."""
    length, dim = table.shape
    exponents = torch.arange(dim // 2) / max(1, dim // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-math.log(1e4) * exponents)
    table.copy_(torch.cat([angles.sin(), angles.cos()], dim=1))
