# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, generator_params
from duologue.finetune.codec_quantizer import QuantizerTrainer
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.codec.xy.quantizer import ResidualQuantizer

NUM_CODES = 16


@pytest.fixture
def quantizer() -> ResidualQuantizer:
    torch.manual_seed(0)
    sizes = RandomCodecSizes(num_codebooks=3, codebook_size=NUM_CODES, rvq_dim=4, d_model=8)
    return ResidualQuantizer(XyParameters.from_dict(generator_params(sizes)))


def latents(num_rows: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, 20, 32, generator=torch.Generator().manual_seed(seed))


def test_nothing_is_quantized_before_the_codebooks_are_fitted(quantizer: ResidualQuantizer) -> None:
    trainer = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    z = quantizer.input_proj(latents(2).transpose(1, 2))
    expected = quantizer.output_proj(z).transpose(1, 2)
    torch.testing.assert_close(trainer(latents(2)).latents, expected)


def test_each_level_brings_codes_closer_after_fitting(quantizer: ResidualQuantizer) -> None:
    trainer = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    trainer.fit(latents(20).flatten(0, 1))
    vectors = quantizer.input_proj(latents(20).transpose(1, 2)).transpose(1, 2).detach()
    residual, errors = vectors, [float(vectors.square().mean())]
    codes = quantizer.encode(latents(20))
    for k, level in enumerate(quantizer.quantizers):
        residual = residual - level.codebook[codes[:, k]]
        errors.append(float(residual.square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.6 * errors[0]


def test_training_and_runtime_quantize_alike(quantizer: ResidualQuantizer) -> None:
    trainer = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    trainer.fit(latents(20).flatten(0, 1))
    trainer.eval()
    expected = quantizer.decode(quantizer.encode(latents(3, seed=1)))
    torch.testing.assert_close(trainer(latents(3, seed=1)).latents, expected, rtol=1e-4, atol=1e-5)


def test_gradients_pass_straight_through(quantizer: ResidualQuantizer) -> None:
    trainer = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    trainer.fit(latents(20).flatten(0, 1))
    x = latents(2).requires_grad_()
    trainer(x).latents.sum().backward()
    assert x.grad is not None
    plain = latents(2).requires_grad_()
    quantizer.output_proj(quantizer.input_proj(plain.transpose(1, 2))).sum().backward()
    torch.testing.assert_close(x.grad, plain.grad)


def test_codes_that_nothing_uses_come_back_to_life(quantizer: ResidualQuantizer) -> None:
    trainer = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    trainer.fit(latents(20).flatten(0, 1))
    table = trainer._tables()[0]
    table[5:] = 1000.0
    trainer.sums[0, 5:] = 1000.0 * trainer.cluster_sizes[0, 5:, None]
    for step in range(500):
        usage = trainer(latents(4, seed=step)).usage
    assert float(usage[0]) > 0.9
    assert float(table.abs().max()) < 100


def test_dropout_cuts_only_the_later_levels_of_some_rows(quantizer: ResidualQuantizer) -> None:
    trainer = QuantizerTrainer(quantizer, dropout=0.5, seed=0)
    kept = trainer._kept_levels(400)
    assert bool((kept[0] == 1).all())
    assert 0.35 < float((kept[-1] == 0).float().mean()) < 0.65
    assert bool((kept[:-1] >= kept[1:]).all())
    trainer.eval()
    assert bool((trainer._kept_levels(50) == 1).all())
