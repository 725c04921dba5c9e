# SPDX-License-Identifier: Apache-2.0
"""What one would write with transformers in an afternoon: the loop that ours must beat.

A Qwen3 body with a dynamic cache between K embeddings and K heads, and the processors of
transformers per channel, on the bundle's own weights. Straightforward, and not slowed down: no
work that a step does not need, batches as one tensor, inference mode.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen3Config, Qwen3Model
from transformers.generation import logits_process as processors

from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.samples import LoopTimes
from duologue.runtime.backbone.layout import EMBEDDING, FINAL_NORM, HEAD
from duologue.runtime.backbone.torch_weights import read_weights
from duologue.runtime.config import Bundle, LmConfig
from duologue.runtime.core import ChannelSampling, FloatArray, IntArray


class PlainLoop:
    """Runs rounds of steps with transformers.

    Args:
        bundle: description of the model.
        weights_path: its `lm.safetensors`, or the torch engine's copy in 8 bits, which is widened.
        plan: sizes.
        device: "cpu" or "cuda".
        dtype: of weights, activations and cache.

    Raises:
        ConfigError: the weights do not fit the model.
    """

    def __init__(
        self,
        bundle: Bundle,
        weights_path: Path,
        plan: EnginePlan,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._plan, self._device = plan, device
        place = torch.device(device)
        read = read_weights(bundle.lm, weights_path, dtype, place, keeps_narrow=False)
        matrices = {name: w for name, w in read.matrices.items() if isinstance(w, Tensor)}
        weights = {**read.tensors, **matrices}
        sizes = list(bundle.lm.vocab_sizes)
        self._embeddings = torch.split(weights[EMBEDDING], sizes)
        self._heads = torch.split(weights[HEAD], sizes)
        self._body = _body(bundle.lm, weights)
        self._processors = [_processors(channel) for channel in bundle.sampling]
        self._does_sample = [channel.do_sample for channel in bundle.sampling]
        self._cache: Any = None

    def run_round(self, prompt: IntArray, cell: Cell, times: LoopTimes) -> None:
        """Read a prompt [S, K] for each sequence, take the plan's steps, and note the times.

        The time of the prefill is that of one prompt; the batch is filled by copies of it.
        """
        one = torch.from_numpy(prompt).to(self._device)[None]
        started_s = self._now_s()
        hidden = self.read(one)
        times.prefill_s.append(self._now_s() - started_s)
        self._cache.batch_repeat_interleave(cell.batch)
        history = one.repeat(cell.batch, 1, 1)
        ids = self._choose(hidden.repeat(cell.batch, 1), history)
        for step in range(self._plan.warmup_steps + self._plan.steps):
            history = torch.cat([history, ids[:, None]], dim=1)
            noted = times if step >= self._plan.warmup_steps else LoopTimes()
            ids = self._step(ids, history, noted)
        self._cache = None

    def logits(self, rows: IntArray) -> FloatArray:
        """Scores [sum(V_c)] behind the last of the rows [S, K], for a test against our engines."""
        hidden = self.read(torch.from_numpy(rows).to(self._device)[None])
        scores = torch.cat([hidden @ head.T for head in self._heads], dim=1)
        found: FloatArray = scores[0].float().cpu().numpy()
        return found

    @torch.inference_mode()
    def read(self, input_ids: Tensor) -> Tensor:
        """Read rows [B, S, K] into an empty cache; returns the last hidden state [B, hidden]."""
        self._cache = DynamicCache()
        return self._forward(input_ids)

    @torch.inference_mode()
    def _forward(self, input_ids: Tensor) -> Tensor:
        channels = enumerate(self._embeddings)
        embedded = sum(table[input_ids[..., channel]] for channel, table in channels)
        output = self._body(inputs_embeds=embedded, past_key_values=self._cache, use_cache=True)
        last: Tensor = output.last_hidden_state[:, -1]
        return last

    @torch.inference_mode()
    def _choose(self, hidden: Tensor, history: Tensor) -> Tensor:
        """Ids [B, K] of the next row, behind the rows [B, S, K]."""
        chosen = []
        for channel, head in enumerate(self._heads):
            scores = (hidden @ head.T).float()
            scores = self._processors[channel](history[..., channel], scores)
            if self._does_sample[channel]:
                probabilities = torch.softmax(scores, dim=-1)
                chosen.append(torch.multinomial(probabilities, num_samples=1)[:, 0])
            else:
                chosen.append(scores.argmax(dim=-1))
        return torch.stack(chosen, dim=1)

    def _step(self, ids: Tensor, history: Tensor, times: LoopTimes) -> Tensor:
        started_s = self._now_s()
        hidden = self._forward(ids[:, None])
        decoded_s = self._now_s()
        ids = self._choose(hidden, history)
        ended_s = self._now_s()
        times.step_s.append(ended_s - started_s)
        times.sampling_s.append(ended_s - decoded_s)
        return ids

    def _now_s(self) -> float:
        if self._device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()


def _body(lm: LmConfig, weights: dict[str, Tensor]) -> Any:
    """A `Qwen3Model` that holds the weights, its own embedding unread."""
    # The rope is given under the names of transformers 4 and of transformers 5.
    settings: dict[str, Any] = {
        "vocab_size": 1,
        "hidden_size": lm.hidden_size,
        "intermediate_size": lm.intermediate_size,
        "num_hidden_layers": lm.num_layers,
        "num_attention_heads": lm.num_heads,
        "num_key_value_heads": lm.num_kv_heads,
        "head_dim": lm.head_dim,
        "rms_norm_eps": lm.rms_norm_eps,
        "rope_theta": lm.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": lm.rope_theta},
        "max_position_embeddings": lm.max_position_embeddings,
    }
    some = weights[FINAL_NORM]
    body: Any = Qwen3Model(Qwen3Config(**settings))
    body = body.to(some.device, some.dtype).eval()
    state = {"embed_tokens.weight": body.embed_tokens.weight, "norm.weight": some}
    for layer in range(lm.num_layers):
        state.update(_layer(lm, weights, f"layers.{layer}."))
    body.load_state_dict(state, assign=True)
    return body


def _layer(lm: LmConfig, weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights of one layer under the names of transformers: our joined ones are cut again."""
    query, key = lm.num_heads * lm.head_dim, lm.num_kv_heads * lm.head_dim
    qkv = torch.split(weights[f"{prefix}qkv_proj.weight"], [query, key, key])
    gate_up = weights[f"{prefix}gate_up_proj.weight"].chunk(2)
    named = {
        **dict(zip(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), qkv, strict=True)),
        **dict(zip(("mlp.gate_proj", "mlp.up_proj"), gate_up, strict=True)),
        "self_attn.o_proj": weights[f"{prefix}o_proj.weight"],
        "self_attn.q_norm": weights[f"{prefix}q_norm.weight"],
        "self_attn.k_norm": weights[f"{prefix}k_norm.weight"],
        "mlp.down_proj": weights[f"{prefix}down_proj.weight"],
        "input_layernorm": weights[f"{prefix}input_layernorm.weight"],
        "post_attention_layernorm": weights[f"{prefix}post_attention_layernorm.weight"],
    }
    return {f"{prefix}{name}.weight": tensor for name, tensor in named.items()}


def _processors(channel: ChannelSampling) -> Any:
    """The chain that `generate` would build from the same settings."""
    chain = processors.LogitsProcessorList()
    if channel.repetition_penalty is not None:
        chain.append(processors.RepetitionPenaltyLogitsProcessor(channel.repetition_penalty))
    if channel.do_sample:
        if channel.temperature is not None:
            chain.append(processors.TemperatureLogitsWarper(channel.temperature))
        if channel.top_k is not None:
            chain.append(processors.TopKLogitsWarper(channel.top_k))
        if channel.top_p is not None:
            chain.append(processors.TopPLogitsWarper(channel.top_p))
    return chain
