# SPDX-License-Identifier: Apache-2.0
"""The language model as it is trained: K embeddings, a Qwen3 body, K heads, a weighted loss.

Parameter names are those of a reference checkpoint. Sources: OpenMOSS/MOSS-TTSD v0.7,
`modeling_asteroid.py`; huggingface/transformers, `models/qwen3/modeling_qwen3.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from duologue.finetune.body import Body, rotary
from duologue.finetune.errors import TrainingError
from duologue.finetune.rows import IGNORED
from duologue.runtime.config import LmConfig

Tensor = torch.Tensor
_INIT_STD = 0.02


class Embeddings(nn.Module):
    """The part of the model below the heads, named as in a reference checkpoint."""

    def __init__(self, lm: LmConfig) -> None:
        super().__init__()
        sizes = lm.vocab_sizes
        self.embedding_list = nn.ModuleList(nn.Embedding(size, lm.hidden_size) for size in sizes)
        self.language_model = Body(lm)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Sum the embeddings of all channels: [B, S, K] -> [B, S, hidden]."""
        columns = input_ids.unbind(dim=-1)
        embedded = [table(ids) for table, ids in zip(self.embedding_list, columns, strict=True)]
        return torch.stack(embedded).sum(dim=0)


class TrainableLm(nn.Module):
    """A dialogue speech model with a loss.

    Args:
        lm: shape of the model.
        channel_weights: how much each channel's loss counts; None weighs all alike.
        recomputes: compute activations again in the backward pass instead of keeping them.
        num_voices: voices that linear probes on the two middle layers learn to tell; 0: none.
        voice_loss_weight: how much the loss of the probes counts.

    Raises:
        TrainingError: not one weight per channel, or weights that are not positive.
    """

    # The Trainer asks for it when a checkpoint has not all parameters, as ours have no probes.
    _keys_to_ignore_on_save = None

    def __init__(
        self,
        lm: LmConfig,
        channel_weights: Sequence[float] | None = None,
        *,
        recomputes: bool = False,
        num_voices: int = 0,
        voice_loss_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.model = Embeddings(lm)
        if not lm.tied_heads:
            heads = (nn.Linear(lm.hidden_size, size, bias=False) for size in lm.vocab_sizes)
            self.lm_heads = nn.ModuleList(heads)
        self.channel_weights = _normalized(channel_weights, lm.num_channels)
        self._recomputes = recomputes
        self._voice_loss_weight = voice_loss_weight
        if num_voices:
            probes = [nn.Linear(lm.hidden_size, num_voices, bias=False) for _ in self._probed]
            self.voice_probes = nn.ModuleList(probes)
            for probe in probes:
                # No chance: a run is the same again, whatever was drawn before it.
                nn.init.zeros_(probe.weight)

    @property
    def _probed(self) -> range:
        """Layers behind which it is asked who will speak: the middle one and its successor."""
        middle = (self.lm.num_layers - 1) // 2
        return range(middle, min(middle + 2, self.lm.num_layers))

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """Read delayed rows, padded on the right: [B, S, K] -> [B, S, hidden].

        A row sees only rows before it, so padding behind it needs no mask.
        """
        return self._read(input_ids)[0]

    def _read(self, input_ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Hidden states behind the last layer, normed, and those behind the probed ones."""
        hidden = self.model.embed(input_ids)
        body = self.model.language_model
        tables = rotary(self.lm, input_ids.shape[1], hidden.device)
        probed = []
        for place, layer in enumerate(body.layers):
            if self._recomputes and self.training:
                hidden = checkpoint(layer, hidden, tables, use_reentrant=False)
            else:
                hidden = layer(hidden, tables)
            if place in self._probed:
                probed.append(hidden)
        normed: Tensor = body.norm(hidden)
        return normed, probed

    def head(self, channel: int) -> Tensor:
        """Weights [V_c, hidden] of a channel's head."""
        tables = self.model.embedding_list if self.lm.tied_heads else self.lm_heads
        weight = tables[channel].weight
        assert isinstance(weight, Tensor)
        return weight

    def logits(self, input_ids: Tensor) -> list[Tensor]:
        """Scores of every row: K tensors [B, S, V_c]."""
        hidden = self.hidden_states(input_ids)
        return [F.linear(hidden, self.head(c)) for c in range(self.lm.num_channels)]

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        voices: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            input_ids: delayed rows [B, S, K], padded on the right.
            labels: [B, S, K]; row s is what the rows before s are to say.
            attention_mask: taken for the sake of the batch's format; see `hidden_states`.
            voices: [B, S], who speaks each row; read where there are probes.

        Returns:
            `loss`, the weighted mean, `channel_losses` [K], 0 where nothing is labelled, and
            with probes `voice_loss`, their mean cross-entropy.
        """
        read, probed = self._read(input_ids)
        hidden = read[:, :-1].flatten(0, 1)
        targets = labels[:, 1:].flatten(0, 1)
        losses = [self._channel_loss(c, hidden, targets[:, c]) for c in range(targets.shape[1])]
        stacked = torch.stack(losses)
        loss = weigh(stacked, self.channel_weights)
        if not hasattr(self, "voice_probes"):
            return {"loss": loss, "channel_losses": stacked.detach()}
        voice_loss = self._voice_loss(probed, voices)
        return {
            "loss": loss + self._voice_loss_weight * voice_loss,
            "channel_losses": stacked.detach(),
            "voice_loss": voice_loss.detach(),
        }

    def _voice_loss(self, probed: Sequence[Tensor], voices: Tensor | None) -> Tensor:
        """How badly the probes tell from a row who speaks the next one."""
        if voices is None or bool((voices[:, 1:] == IGNORED).all()):
            # All parameters take part in every step, which several processes rely on.
            return torch.stack([probe.weight[0, 0] * 0 for probe in self._probes]).sum().float()
        targets = voices[:, 1:].flatten()
        losses = [
            F.cross_entropy(probe(hidden[:, :-1]).float().flatten(0, 1), targets)
            for probe, hidden in zip(self._probes, probed, strict=True)
        ]
        return torch.stack(losses).mean()

    @property
    def _probes(self) -> list[nn.Linear]:
        return [probe for probe in self.voice_probes if isinstance(probe, nn.Linear)]

    def _channel_loss(self, channel: int, hidden: Tensor, targets: Tensor) -> Tensor:
        # Rows without a label, which are all of the text, never meet the large matrix.
        labelled = (targets != IGNORED).nonzero().squeeze(1)
        weight = self.head(channel)
        if len(labelled) == 0:
            return (weight[0, 0] * 0).float()
        scores = F.linear(hidden.index_select(0, labelled), weight)
        return F.cross_entropy(scores.float(), targets[labelled])


def weigh(channel_losses: Tensor, weights: Sequence[float]) -> Tensor:
    """The total loss: sum over channels of weight / sum of weights * loss.

    Args:
        channel_losses: [K].
        weights: K positive numbers.

    >>> round(float(weigh(torch.tensor([1.0, 3.0]), [3, 1])), 4)
    1.5
    """
    shares = torch.tensor(weights, dtype=channel_losses.dtype, device=channel_losses.device)
    return (channel_losses * (shares / shares.sum())).sum()


def initialize(model: TrainableLm, seed: int) -> None:
    """Draw the weights of a model that is trained from nothing.

    What writes into the residual stream is drawn smaller, the deeper the model.
    """
    generator = torch.Generator().manual_seed(seed)
    deep_std = _INIT_STD / math.sqrt(2 * model.lm.num_layers)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.ones_(parameter)
            continue
        is_deep = name.endswith(("o_proj.weight", "down_proj.weight"))
        nn.init.normal_(parameter, std=deep_std if is_deep else _INIT_STD, generator=generator)


def _normalized(weights: Sequence[float] | None, num_channels: int) -> tuple[float, ...]:
    chosen = tuple(float(weight) for weight in weights or [1.0] * num_channels)
    if len(chosen) != num_channels or min(chosen) <= 0:
        raise TrainingError(
            f"channel_weights is {list(chosen)}; allowed: {num_channels} positive numbers"
        )
    return chosen
