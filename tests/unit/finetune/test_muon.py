from __future__ import annotations

import pytest
import torch
from torch import nn

from duologue.finetune.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_an_update_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    # A direction that is a hundred times weaker than the others is brought up as well.
    matrix = torch.linalg.qr(torch.randn(24, 24, generator=generator)).Q[: shape[0], : shape[1]]
    matrix[0] *= 0.05
    values = torch.linalg.svdvals(orthogonalize(1e-3 * matrix).float())
    assert values.max() < 1.4
    assert (values > 0.4).sum() >= min(shape) - 1


def test_everything_but_the_matrices_of_layers_goes_as_adamw_does() -> None:
    first, second = (nn.Parameter(torch.arange(4.0)) for _ in range(2))
    ours = Muon([("norm.weight", first)], lr=0.1, weight_decay=0.5, betas=(0.9, 0.98))
    # Scales of norms do not decay.
    theirs = torch.optim.AdamW([second], lr=0.1, weight_decay=0.0, betas=(0.9, 0.98))
    for step in range(4):
        for parameter, optimizer in ((first, ours), (second, theirs)):
            parameter.grad = torch.tensor([1.0, -2.0, 0.5, float(step)])
            optimizer.step()
    assert torch.allclose(first, second, atol=1e-6)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped() -> None:
    def optimizer(matrix: nn.Parameter) -> Muon:
        return Muon([("model.layers.0.q_proj.weight", matrix)], lr=0.1)

    def steps(matrix: nn.Parameter, used: Muon, seeds: range) -> None:
        for seed in seeds:
            matrix.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
            used.step()

    whole, broken = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(4, 6))
    steps(whole, optimizer(whole), range(4))
    first = optimizer(broken)
    steps(broken, first, range(2))
    second = optimizer(broken)
    second.load_state_dict(first.state_dict())
    steps(broken, second, range(2, 4))
    assert torch.equal(whole, broken)


def test_weights_without_a_gradient_stay() -> None:
    frozen = nn.Parameter(torch.ones(2, 2))
    free = nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([("a.layers.0.x", frozen), ("a.layers.1.x", free)], lr=0.1)
    free.grad = torch.eye(2)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(2, 2))
    assert not torch.equal(free, torch.ones(2, 2))
