"""The body behind the stand-in's engine: numpy, on the paged memory that it is pointed at."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class PagedBody:
    """Reads and writes keys and values by addresses and offsets, as the attention plugin does."""

    def __init__(self, facts: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        config, self.weights = facts["config"], weights
        assert facts["steps"] == ["layers", "norm", "gather"]
        ranks = config["mapping"]["tp_size"]
        self.config, self.block_rows = config, facts["tokens_per_block"]
        self.heads = config["num_attention_heads"] // ranks
        self.kv_heads = max(1, config["num_key_value_heads"] // ranks)
        self.dim = config["head_size"]
        self.all_reduce: Any = lambda values: values

    def run(self, step: dict[str, np.ndarray]) -> np.ndarray:
        """[B, hidden size] of the last rows, behind the final norm."""
        rows, hidden = np.diff(step["last_token_ids"], prepend=0), step["hidden_states_input"]
        sequences = []
        for i, stop in enumerate(step["last_token_ids"]):
            places = np.arange(step["sequence_length"][i] - rows[i], step["sequence_length"][i])
            offsets = step["kv_cache_block_offsets"][0, i]
            sequences.append((slice(stop - rows[i], stop), places, offsets))
        for layer in range(self.config["num_hidden_layers"]):
            names = f"layers.{layer}."
            normed = self._norm(hidden, names + "input_layernorm.weight")
            parts = np.zeros_like(hidden)
            for span, places, offsets in sequences:
                parts[span] = self._attention(normed[span], places, offsets, layer, step)
            hidden = hidden + self.all_reduce(parts)
            normed = self._norm(hidden, names + "post_layernorm.weight")
            hidden = hidden + self.all_reduce(self._feed_forward(normed, names))
        return self._norm(hidden[step["last_token_ids"] - 1], "ln_f.weight")

    def _feed_forward(self, rows: np.ndarray, names: str) -> np.ndarray:
        """TensorRT-LLM's GatedMLP activates what comes out of `fc`."""
        activated = rows @ self.weights[names + "mlp.fc.weight"].T
        activated = activated / (1 + np.exp(-activated))
        gated = activated * (rows @ self.weights[names + "mlp.gate.weight"].T)
        return gated @ self.weights[names + "mlp.proj.weight"].T

    def _attention(
        self,
        rows: np.ndarray,
        places: np.ndarray,
        offsets: np.ndarray,
        layer: int,
        step: dict[str, np.ndarray],
    ) -> np.ndarray:
        names = f"layers.{layer}.attention."
        joined = (rows @ self.weights[names + "qkv.weight"].T).reshape(len(rows), -1, self.dim)
        query, key, value = np.split(joined, [self.heads, self.heads + self.kv_heads], axis=1)
        query = self._rotate(self._norm(query, names + "q_layernorm.weight"), places)
        key = self._rotate(self._norm(key, names + "k_layernorm.weight"), places)
        past = []
        for kind, new in enumerate((key, value)):
            tiles = [self._tile(step, layer, offset) for offset in offsets[kind]]
            for row, place in zip(new, places, strict=True):
                tiles[place // self.block_rows][:, place % self.block_rows] = row
            used = -(-(places[-1] + 1) // self.block_rows)
            past.append(np.concatenate(tiles[:used], axis=1)[:, : places[-1] + 1])
        sharers = self.heads // self.kv_heads
        keys, values = (np.repeat(table, sharers, axis=0) for table in past)
        scores = np.einsum("shd,hrd->hsr", query, keys) * self.dim**-0.5
        hides = np.arange(keys.shape[1]) > places[:, None]
        scores = np.where(hides, -np.inf, scores)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.einsum("hsr,hrd->shd", scores / scores.sum(axis=-1, keepdims=True), values)
        return mixed.reshape(len(rows), -1) @ self.weights[names + "dense.weight"].T

    def _tile(self, step: dict[str, np.ndarray], layer: int, offset: int) -> np.ndarray:
        """One [kv heads, rows, head_dim] tile of the pool; each layer has two per block."""
        pool, in_pool = step["host_kv_cache_pool_mapping"][layer]
        shape = (self.kv_heads, self.block_rows, self.dim)
        size = int(np.prod(shape)) * 4
        address = int(step["host_kv_cache_pool_pointers"][pool, 0])
        address += (int(offset) + 2 * int(in_pool)) * size
        memory = (ctypes.c_float * (size // 4)).from_address(address)
        return np.frombuffer(memory, np.float32).reshape(shape)

    def _norm(self, rows: np.ndarray, name: str) -> np.ndarray:
        mean_square = np.square(rows).mean(axis=-1, keepdims=True)
        return rows / np.sqrt(mean_square + self.config["norm_epsilon"]) * self.weights[name]

    def _rotate(self, heads: np.ndarray, places: np.ndarray) -> np.ndarray:
        exponents = np.arange(0, self.dim, 2) / self.dim
        angles = places[:, None] / self.config["rotary_base"] ** exponents
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        first, second = np.split(heads, 2, axis=-1)
        turned = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return turned.astype(np.float32)
