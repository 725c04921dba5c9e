# SPDX-License-Identifier: Apache-2.0
"""Muon for the matrices of the body, AdamW for all else, as one optimizer.

Muon makes the update of a matrix orthogonal, so that rare directions learn as fast as frequent
ones. Scaled to the size of AdamW's updates, it shares its learning rate. Sources: KellerJordan/Muon
for the polynomial; MoonshotAI/Moonlight for the scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5
_ADAMW_SCALE = 0.2


class Muon(torch.optim.Optimizer):
    """Updates matrices by momentum made orthogonal, everything else as AdamW does.

    Args:
        named: parameters with their names; matrices of layers go by Muon.
        lr: learning rate of both.
        weight_decay: of all matrices and tables.
        momentum: of Muon.
        betas: of AdamW.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        learnt = [(name, value) for name, value in named if value.requires_grad]
        matrices = [v for n, v in learnt if v.ndim == 2 and ".layers." in n]
        tables = [v for n, v in learnt if v.ndim == 2 and ".layers." not in n]
        scales = [v for _, v in learnt if v.ndim != 2]
        groups = [
            {"params": matrices, "orthogonal": True, "weight_decay": weight_decay},
            {"params": tables, "orthogonal": False, "weight_decay": weight_decay},
            {"params": scales, "orthogonal": False, "weight_decay": 0.0},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            {"lr": lr, "momentum": momentum, "betas": betas, "eps": 1e-8},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            update = self._muon if group["orthogonal"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, group)
        return loss

    def _muon(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = orthogonalize(gradient.lerp(momentum, group["momentum"]))
        scale = _ADAMW_SCALE * max(parameter.shape) ** 0.5
        parameter.add_(direction.to(parameter.dtype), alpha=-group["lr"] * scale)

    def _adamw(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - first)
        square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        steps = float(state["step"])
        spread = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, spread, value=-group["lr"] / (1 - first**steps))


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Bring all singular values of a matrix near one, by Newton-Schulz iterations.

    Args:
        matrix: [M, N].

    Returns:
        [M, N] in bfloat16, singular values between about 0.7 and 1.2.
    """
    first, third, fifth = _POLYNOMIAL
    tall = matrix.shape[0] > matrix.shape[1]
    values = (matrix.T if tall else matrix).bfloat16()
    values = values / (values.norm() + 1e-7)
    for _ in range(_NUM_ITERATIONS):
        square = values @ values.T
        weights = torch.addmm(square, square, square, beta=third, alpha=fifth)
        values = torch.addmm(values, weights, values, beta=first)
    oriented: torch.Tensor = values.T if tall else values
    return oriented
