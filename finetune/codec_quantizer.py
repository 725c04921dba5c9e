# SPDX-License-Identifier: Apache-2.0
"""The residual quantizer while it learns: codebooks follow running means of what they stand for.

Letters: N vectors, D their channels, V codes of a codebook, K codebooks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duologue.runtime.codec.xy.quantizer import ResidualQuantizer

_DECAY = 0.99
_SMALLEST_COUNT = 1e-5
# A code used less than this share of the average is given to another vector.
_DEAD_SHARE = 0.03
_REVIVE_EVERY = 25
_KEPT_VECTORS = 8192


class Quantized(NamedTuple):
    """What comes out of a training step.

    Attributes:
        latents: [B, T, latent_dim], for the decoder; gradients pass straight through.
        commitment: mean squared distance between vectors and their codes, over the levels.
        usage: [K], share of the codes that are in use.
    """

    latents: Tensor
    commitment: Tensor
    usage: Tensor


class QuantizerTrainer(nn.Module):
    """Running means beside a `ResidualQuantizer`, whose codebooks it rewrites in place."""

    cluster_sizes: Tensor
    sums: Tensor

    def __init__(self, quantizer: ResidualQuantizer, *, dropout: float, seed: int) -> None:
        super().__init__()
        # Kept in a tuple so that its parameters are not counted twice.
        self._quantizer = (quantizer,)
        self._dropout = dropout
        self._random = torch.Generator().manual_seed(seed)
        tables = torch.stack(self._tables())
        self.register_buffer("cluster_sizes", torch.ones(tables.shape[:2]))
        self.register_buffer("sums", tables.clone())
        self.is_ready = False
        self._recent: list[list[Tensor]] = [[] for _ in tables]
        self._num_steps = 0

    def _tables(self) -> list[Tensor]:
        return self._quantizer[0]._codebooks()

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize [B, T, latent_dim]; codebooks learn while the module is in training mode.

        Until `fit` was called nothing is quantized.
        """
        quantizer = self._quantizer[0]
        z = quantizer.input_proj(latents.transpose(1, 2)).transpose(1, 2).float()
        zero = torch.zeros((), device=z.device)
        if not self.is_ready:
            return Quantized(self._project(z), zero, torch.zeros(len(self._tables())))
        is_kept = self._kept_levels(len(z)).to(z.device)
        residual, total, commitment = z, torch.zeros_like(z), zero
        for k, table in enumerate(self._tables()):
            flat = residual.detach().reshape(-1, z.shape[-1])
            codes = _nearest(flat, table)
            rows = table[codes].view_as(z)
            if self.training:
                self._learn(k, flat, codes)
            kept = is_kept[k][:, None, None]
            commitment = commitment + (F.mse_loss(residual, rows, reduction="none") * kept).mean()
            total = total + rows * kept
            residual = residual - rows
        if self.training:
            self._finish_step()
        straight_through = z + (total - z).detach()
        return Quantized(self._project(straight_through), commitment, self._usage())

    @torch.no_grad()
    def fit(self, vectors: Tensor, num_rounds: int = 8) -> None:
        """Start every codebook by k-means over what the levels before it left over.

        Args:
            vectors: [N, latent_dim] latents; N should be a few times the codebook size.
            num_rounds: of k-means.
        """
        quantizer = self._quantizer[0]
        residual = quantizer.input_proj(vectors.T[None])[0].T.float()
        for k, table in enumerate(self._tables()):
            order = torch.randperm(len(residual), generator=self._random)
            table.copy_(residual[order[torch.arange(len(table)) % len(order)]])
            for _ in range(num_rounds):
                counts, sums = _gather(residual, _nearest(residual, table), len(table))
                used = counts > 0
                table[used] = sums[used] / counts[used, None]
            codes = _nearest(residual, table)
            self.cluster_sizes[k] = torch.bincount(codes, minlength=len(table)).float()
            self.cluster_sizes[k] *= len(table) / len(residual)
            self.sums[k] = table * self.cluster_sizes[k][:, None]
            residual = residual - table[codes]
        self.is_ready = True

    @torch.no_grad()
    def adopt_tables(self) -> None:
        """Take the codebooks as they stand for fitted ones, every code as much used as another.

        Codebooks that were never fitted are zero; they wait for `fit`.
        """
        if not all(bool(table.any()) for table in self._tables()):
            return
        self.cluster_sizes.fill_(1.0)
        self.sums.copy_(torch.stack(self._tables()))
        self.is_ready = True

    def progress(self) -> dict[str, Any]:
        """What a run needs beside the `state_dict` to go on as if it had not been stopped."""
        return {
            "is_ready": self.is_ready,
            "random": self._random.get_state(),
            "recent": self._recent,
            "num_steps": self._num_steps,
        }

    def go_on(self, progress: dict[str, Any]) -> None:
        """Take up what `progress` has told; older states know of `is_ready` alone."""
        self.is_ready = progress["is_ready"]
        if "random" in progress:
            self._random.set_state(progress["random"].cpu())
            self._recent = [list(vectors) for vectors in progress["recent"]]
            self._num_steps = progress["num_steps"]

    def _project(self, z: Tensor) -> Tensor:
        out: Tensor = self._quantizer[0].output_proj(z.transpose(1, 2)).transpose(1, 2)
        return out

    def _kept_levels(self, num_rows: int) -> Tensor:
        """[K, B] of 0 and 1: some rows do with the first few levels, so those carry most."""
        num_levels = len(self._tables())
        kept = torch.full((num_rows,), num_levels)
        if self.training:
            is_cut = torch.rand(num_rows, generator=self._random) < self._dropout
            cut = torch.randint(1, num_levels, (num_rows,), generator=self._random)
            kept = torch.where(is_cut, cut, kept)
        return (torch.arange(num_levels)[:, None] < kept).float()

    @torch.no_grad()
    def _learn(self, k: int, vectors: Tensor, codes: Tensor) -> None:
        table = self._tables()[k]
        counts, sums = _gather(vectors, codes, len(table))
        # Scaled so that the average size is 1 whatever the batch.
        scale = len(table) / len(vectors)
        self.cluster_sizes[k].lerp_(counts * scale, 1 - _DECAY)
        self.sums[k].lerp_(sums * scale, 1 - _DECAY)
        table.copy_(self.sums[k] / self.cluster_sizes[k].clamp(min=_SMALLEST_COUNT)[:, None])
        recent = self._recent[k]
        recent.append(vectors)
        while sum(map(len, recent)) > _KEPT_VECTORS:
            recent.pop(0)

    def _finish_step(self) -> None:
        self._num_steps += 1
        if self._num_steps % _REVIVE_EVERY == 0:
            for k in range(len(self._recent)):
                self._revive(k)

    @torch.no_grad()
    def _revive(self, k: int) -> None:
        """Codes that nothing uses move to vectors seen lately."""
        dead = torch.nonzero(self.cluster_sizes[k] < _DEAD_SHARE)[:, 0]
        if len(dead) == 0:
            return
        vectors = torch.cat(self._recent[k])
        chosen = vectors[torch.randint(len(vectors), (len(dead),), generator=self._random)]
        self._tables()[k][dead] = chosen
        self.cluster_sizes[k][dead] = 0.5
        self.sums[k][dead] = 0.5 * chosen

    def _usage(self) -> Tensor:
        return (self.cluster_sizes > _DEAD_SHARE).float().mean(dim=1)


def _nearest(vectors: Tensor, table: Tensor) -> Tensor:
    """[N, D] and [V, D] -> [N]."""
    distances: Tensor = table.square().sum(1) - 2 * (vectors @ table.T)
    return distances.argmin(dim=1)


def _gather(vectors: Tensor, codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """How many vectors each code has, and their sums."""
    counts = torch.bincount(codes, minlength=num_codes).float()
    sums = torch.zeros(num_codes, vectors.shape[1], device=vectors.device)
    return counts, sums.index_add_(0, codes, vectors)
