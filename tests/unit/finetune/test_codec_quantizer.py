# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor

from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, generator_params
from duologue.finetune import codec_quantizer
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


@pytest.mark.parametrize("is_older", [False, True])
def test_a_run_that_goes_on_draws_what_an_unbroken_one_draws(
    is_older: bool, quantizer: ResidualQuantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_quantizer, "_REVIVE_EVERY", 5)
    whole = QuantizerTrainer(quantizer, dropout=0.5, seed=0)
    whole.fit(latents(20).flatten(0, 1))
    learn(whole, range(7))
    # Through a file, as a run that was stopped has it.
    file = io.BytesIO()
    torch.save((quantizer.state_dict(), whole.state_dict(), whole.progress()), file)
    file.seek(0)
    tables, state, progress = torch.load(file, weights_only=True)
    again = copy.deepcopy(quantizer)
    again.load_state_dict(tables)
    resumed = QuantizerTrainer(again, dropout=0.5, seed=0)
    resumed.load_state_dict(state)
    resumed.go_on({"is_ready": True} if is_older else progress)
    learn(whole, range(7, 15))
    learn(resumed, range(7, 15))
    assert resumed.is_ready
    for wanted, found in zip(whole._tables(), resumed._tables(), strict=True):
        assert torch.equal(wanted, found) != is_older


def learn(trainer: QuantizerTrainer, seeds: range) -> None:
    """Steps in which the later half of the codes dies, so that chance revives it."""
    for seed in seeds:
        trainer.cluster_sizes[:, NUM_CODES // 2 :] = 0.0
        trainer(latents(4, seed))


def test_codebooks_as_they_stand_are_learned_on(quantizer: ResidualQuantizer) -> None:
    first = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    first.fit(latents(20).flatten(0, 1))
    before = [table.clone() for table in first._tables()]
    trainer = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    trainer.adopt_tables()
    trainer(latents(4))
    assert trainer.is_ready
    for old, new in zip(before, trainer._tables(), strict=True):
        assert not torch.equal(old, new)
        torch.testing.assert_close(old, new, rtol=0.0, atol=0.2)


def test_codebooks_that_were_never_fitted_are_not_adopted(quantizer: ResidualQuantizer) -> None:
    trainer = QuantizerTrainer(quantizer, dropout=0.0, seed=0)
    trainer.adopt_tables()
    assert not trainer.is_ready
