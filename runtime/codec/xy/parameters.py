# SPDX-License-Identifier: Apache-2.0
"""Hyper-parameters of the XY-Tokenizer, read from the `generator_params` of its yaml file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from duologue.runtime.config import CodecConfig
from duologue.runtime.errors import ConfigError

KIND = "xy_tokenizer"


@dataclass(frozen=True, slots=True)
class StackShape:
    """A stack of Transformer layers.

    Attributes:
        input_dim, output_dim: channels before and after; d_model where nothing is projected.
        d_model: channels inside.
        num_layers, num_heads, ffn_dim: of the stack.
        max_positions: rows of the position table.
    """

    input_dim: int
    output_dim: int
    d_model: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    max_positions: int


@dataclass(frozen=True, slots=True)
class VocosShape:
    """The vocoder: a ConvNeXt backbone and an inverse Fourier head."""

    input_channels: int
    dim: int
    intermediate_dim: int
    num_layers: int
    n_fft: int
    hop: int


@dataclass(frozen=True, slots=True)
class XyParameters:
    """Everything that the classes of this package need to know.

    Attributes:
        input_rate_hz, sample_rate_hz: of audio in and out.
        input_samples_per_frame, samples_per_frame: samples behind one frame, in and out.
        window_samples: longest stretch that the encoder takes at once, at input_rate_hz.
        num_mels, mel_fft, mel_hop: of the mel spectrogram.
        downsample_factor: encoder positions per frame; also what the decoder upsamples.
        latent_dim: channels around the quantizer; rvq_dim: channels of a codebook row.
    """

    input_rate_hz: int
    sample_rate_hz: int
    input_samples_per_frame: int
    samples_per_frame: int
    window_samples: int
    num_mels: int
    mel_fft: int
    mel_hop: int
    semantic_encoder: StackShape
    semantic_encoder_adapter: StackShape
    acoustic_encoder: StackShape
    pre_rvq_adapter: StackShape
    downsample_factor: int
    latent_dim: int
    rvq_dim: int
    num_codebooks: int
    codebook_size: int
    post_rvq_adapter: StackShape
    acoustic_decoder: StackShape
    vocos: VocosShape

    @property
    def max_frames(self) -> int:
        """Longest stretch of frames that the decoder takes at once (its position tables)."""
        return min(
            self.post_rvq_adapter.max_positions,
            self.acoustic_decoder.max_positions // self.downsample_factor,
        )

    @staticmethod
    def from_dict(params: Mapping[str, Any]) -> XyParameters:
        """Read `generator_params`.

        Raises:
            ConfigError: a field is missing, or has a value that this code does not speak.
        """
        try:
            parameters = _read(params)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"codec.model lacks a field or has it malformed: {error}") from error
        _check(params, parameters)
        return parameters

    def codec_config(self, params: Mapping[str, Any]) -> CodecConfig:
        """Rates and limits for the bundle; `params` travels along as `CodecConfig.model`."""
        return CodecConfig(
            kind=KIND,
            input_rate_hz=self.input_rate_hz,
            sample_rate_hz=self.sample_rate_hz,
            input_samples_per_frame=self.input_samples_per_frame,
            samples_per_frame=self.samples_per_frame,
            num_codebooks=self.num_codebooks,
            codebook_size=self.codebook_size,
            max_frames=self.max_frames,
            model=dict(params),
        )


def _coder(params: Mapping[str, Any], side: str) -> StackShape:
    """One of the two encoders or the decoder; they see `stride_size` mel frames per row."""
    samples = params["max_audio_seconds"] * params["sampling_rate"]
    return StackShape(
        input_dim=params["num_mel_bins"],
        output_dim=params["num_mel_bins"] if side == "decoder" else params["d_model"],
        d_model=params["d_model"],
        num_layers=params[f"{side}_layers"],
        num_heads=params[f"{side}_attention_heads"],
        ffn_dim=params[f"{side}_ffn_dim"],
        max_positions=samples // params["hop_length"] // params["stride_size"],
    )


def _adapter(params: Mapping[str, Any]) -> StackShape:
    return StackShape(
        input_dim=params["input_dim"],
        output_dim=params["output_dim"],
        d_model=params["d_model"],
        num_layers=params["encoder_layers"],
        num_heads=params["encoder_attention_heads"],
        ffn_dim=params["encoder_ffn_dim"],
        max_positions=params["max_source_positions"],
    )


def _vocos(params: Mapping[str, Any]) -> VocosShape:
    return VocosShape(
        input_channels=params["input_channels"],
        dim=params["dim"],
        intermediate_dim=params["intermediate_dim"],
        num_layers=params["num_layers"],
        n_fft=params["n_fft"],
        hop=params["hop_size"],
    )


def _read(params: Mapping[str, Any]) -> XyParameters:
    mel, rvq = params["feature_extractor_kwargs"], params["quantizer_kwargs"]
    return XyParameters(
        input_rate_hz=params["input_sample_rate"],
        sample_rate_hz=params["output_sample_rate"],
        input_samples_per_frame=params["encoder_downsample_rate"],
        samples_per_frame=params["decoder_upsample_rate"],
        window_samples=mel["n_samples"],
        num_mels=mel["feature_size"],
        mel_fft=mel["n_fft"],
        mel_hop=mel["hop_length"],
        semantic_encoder=_coder(params["semantic_encoder_kwargs"], "encoder"),
        semantic_encoder_adapter=_adapter(params["semantic_encoder_adapter_kwargs"]),
        acoustic_encoder=_coder(params["acoustic_encoder_kwargs"], "encoder"),
        pre_rvq_adapter=_adapter(params["pre_rvq_adapter_kwargs"]),
        downsample_factor=params["downsample_kwargs"]["avg_pooler"],
        latent_dim=rvq["input_dim"],
        rvq_dim=rvq["rvq_dim"],
        num_codebooks=rvq["num_quantizers"],
        codebook_size=rvq["codebook_size"],
        post_rvq_adapter=_adapter(params["post_rvq_adapter_kwargs"]),
        acoustic_decoder=_coder(params["acoustic_decoder_kwargs"], "decoder"),
        vocos=_vocos(params["vocos_kwargs"]),
    )


def _check(params: Mapping[str, Any], read: XyParameters) -> None:
    """Refuse values whose arithmetic is not written here, and sizes that cannot meet."""
    stacks = ("semantic_encoder_kwargs", "acoustic_encoder_kwargs", "acoustic_decoder_kwargs")
    for name in stacks:
        _only(f"{name}.activation_function", params[name].get("activation_function"), "gelu")
        _only(f"{name}.scale_embedding", params[name].get("scale_embedding", False), False)
        _only(f"{name}.kernel_size", params[name]["kernel_size"], 3)
        _only(f"{name}.stride_size", params[name]["stride_size"], 2)
    rvq, d_model = params["quantizer_kwargs"], params["downsample_kwargs"]["d_model"]
    _only("quantizer_kwargs.codebook_dim", rvq["codebook_dim"], read.rvq_dim)
    _only("quantizer_kwargs.output_dim", rvq["output_dim"], read.latent_dim)
    _only("vocos_kwargs.padding", params["vocos_kwargs"]["padding"], "same")
    _only("vocos_kwargs.n_fft", read.vocos.n_fft, 4 * read.vocos.hop)
    _only("quantizer_kwargs.input_dim", read.latent_dim, d_model * read.downsample_factor)
    _only("upsample_kwargs.stride", params["upsample_kwargs"]["stride"], read.downsample_factor)
    frame = read.mel_hop * 2 * read.downsample_factor
    _only("encoder_downsample_rate", read.input_samples_per_frame, frame)
    frame = read.vocos.hop * 2 * read.downsample_factor
    _only("decoder_upsample_rate", read.samples_per_frame, frame)


def _only(name: str, value: object, allowed: object) -> None:
    if value != allowed:
        raise ConfigError(f"codec.model.{name} is {value!r}; allowed: {allowed!r}")
