# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
from torch import Tensor

from duologue.finetune.codec_losses import PitchHint, ReconstructionLoss, Ripples

RATE_HZ = 24_000


def pulses(rate_hz: float, length_s: float = 1.0) -> Tensor:
    """[1, N]: harmonics of one voice, all equally strong."""
    time_s = torch.arange(round(length_s * RATE_HZ)) / RATE_HZ
    return sum(torch.cos(2 * math.pi * rate_hz * k * time_s) for k in range(1, 30))[None] * 0.02  # type: ignore[index]


def test_equal_audio_has_no_loss() -> None:
    audio = 0.1 * torch.randn(2, 8000)
    assert all(float(value) < 1e-5 for value in ReconstructionLoss(RATE_HZ)(audio, audio).values())


def test_half_the_level_is_ln_2_away_in_every_log_spectrum() -> None:
    audio = 0.1 * torch.randn(1, 24_000)
    terms = ReconstructionLoss(RATE_HZ)(audio / 2, audio)
    assert abs(float(terms["mel"]) - math.log(2)) < 0.01
    assert abs(float(terms["stft"]) - math.log(2)) < 0.01
    assert abs(float(terms["convergence"]) - 0.5) < 0.01
    assert float(terms["harmonics"]) < 0.05


def test_wrong_pitch_costs_harmonics_more_than_wrong_phase() -> None:
    loss, voice = ReconstructionLoss(RATE_HZ), pulses(100)
    shifted = float(loss(voice.roll(77, dims=1), voice)["harmonics"])
    detuned = float(loss(pulses(112), voice)["harmonics"])
    assert detuned > 4 * shifted


def test_ripples_tell_harmonics_of_a_low_voice_apart() -> None:
    ripples = Ripples(RATE_HZ, 480)
    middle = ripples(pulses(100))[0, 25]
    hertz = torch.arange(ripples.num_bins) * RATE_HZ / ripples.size
    on = middle[(hertz % 100 < 12) & (hertz > 150)].mean()
    between = middle[((hertz - 50) % 100 < 12) & (hertz > 150)].mean()
    assert float(on - between) > 1.0


def test_hint_learns_to_read_pitch_from_latents() -> None:
    torch.manual_seed(0)
    hint = PitchHint(latent_dim=2, sample_rate_hz=RATE_HZ, samples_per_frame=1920)
    wanted = torch.cat([pulses(120, 0.8), pulses(210, 0.8)])
    latents = torch.eye(2)[:, None].expand(2, 10, 2)
    optimizer = torch.optim.Adam(hint.parameters(), 0.05)
    first = float(hint(latents, wanted).detach())
    for _ in range(80):
        optimizer.zero_grad()
        loss = hint(latents, wanted)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.4 * first
