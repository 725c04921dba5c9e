# SPDX-License-Identifier: Apache-2.0
"""The XY-Tokenizer in torch: waveform to codes and back, one window at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from duologue.runtime.codec.xy.layers import Adapter, AudioDecoder, AudioEncoder
from duologue.runtime.codec.xy.mel import FLOOR, RANGE, mel_filters
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.codec.xy.quantizer import DownConv, ResidualQuantizer, UpConv
from duologue.runtime.codec.xy.vocoder import Vocos


class MelSpectrogram(nn.Module):
    """Whisper's log-mel features, 100 frames per second. Holds nothing of the checkpoint."""

    window: Tensor
    filters: Tensor

    def __init__(self, parameters: XyParameters) -> None:
        super().__init__()
        self.n_fft = parameters.mel_fft
        self.hop = parameters.mel_hop
        filters = mel_filters(parameters.num_mels, self.n_fft, parameters.input_rate_hz)
        # "cpu": building on the meta device would otherwise load torch's compiler for a window.
        window = torch.hann_window(self.n_fft, device="cpu")
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """[B, N] -> [B, num_mels, N / hop]; each row is scaled by its own loudest value."""
        spectrum = torch.stft(
            samples.float(), self.n_fft, self.hop, window=self.window.float(), return_complex=True
        )
        power = spectrum[..., :-1].abs() ** 2
        log_mel = (self.filters.float() @ power).clamp(min=FLOOR).log10()
        loudest = log_mel.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(log_mel, loudest - RANGE) + 4.0) / 4.0


class XyTokenizer(nn.Module):
    """All modules under the names of the published checkpoints."""

    def __init__(self, parameters: XyParameters) -> None:
        super().__init__()
        self.mel = MelSpectrogram(parameters)
        self.semantic_encoder = AudioEncoder(parameters.semantic_encoder)
        self.semantic_encoder_adapter = Adapter(parameters.semantic_encoder_adapter)
        self.acoustic_encoder = AudioEncoder(parameters.acoustic_encoder)
        self.pre_rvq_adapter = Adapter(parameters.pre_rvq_adapter)
        factor = parameters.downsample_factor
        self.downsample = DownConv(parameters.latent_dim // factor, factor)
        self.quantizer = ResidualQuantizer(parameters)
        self.post_rvq_adapter = Adapter(parameters.post_rvq_adapter)
        self.upsample = UpConv(parameters.acoustic_decoder.d_model, factor)
        self.acoustic_decoder = AudioDecoder(parameters.acoustic_decoder)
        self.enhanced_vocos = Vocos(parameters.vocos)

    def latents(self, samples: Tensor, num_samples: Tensor) -> Tensor:
        """What the quantizer is given.

        Args:
            samples: [B, N] at the input rate, N whole frames, zero from `num_samples` on.
            num_samples: [B], how many samples of each row are audio.

        Returns:
            [B, N / input_samples_per_frame, latent_dim].
        """
        mel = self.mel(samples).to(self.downsample.down_proj.weight.dtype)
        hop = self.mel.hop
        lengths = (num_samples + hop - 1) // hop // 2
        semantic = self.semantic_encoder(mel, lengths)
        semantic = self.semantic_encoder_adapter(semantic, lengths)
        both = torch.cat([semantic, self.acoustic_encoder(mel, lengths)], dim=-1)
        out: Tensor = self.downsample(self.pre_rvq_adapter(both, lengths))
        return out

    def encode(self, samples: Tensor, num_samples: Tensor) -> Tensor:
        """Codes [B, K, N / input_samples_per_frame] of a window; arguments as in `latents`.

        Codes that lie beyond a row's own length mean nothing.
        """
        return self.quantizer.encode(self.latents(samples, num_samples))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, L] -> samples [B, L * samples_per_frame] in float32."""
        x = self.upsample(self.post_rvq_adapter(self.quantizer.decode(codes)))
        samples: Tensor = self.enhanced_vocos(self.acoustic_decoder(x))
        return samples
