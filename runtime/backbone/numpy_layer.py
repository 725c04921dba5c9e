# SPDX-License-Identifier: Apache-2.0
"""One decoder layer of Qwen3 in numpy: a rank's weights, and the arithmetic on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from duologue.runtime.backbone.ranks import Share
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """What one rank holds of a layer.

    Attributes:
        eps: of every norm.
        input_norm, post_norm: [hidden size].
        query, key, value: [heads of this rank, head_dim, hidden size].
        query_norm, key_norm: [head_dim].
        output: columns [hidden size, query heads of this rank * head_dim].
        gate, up: rows [feed-forward rows of this rank, hidden size].
        down: columns [hidden size, feed-forward rows of this rank].
    """

    eps: float
    input_norm: FloatArray
    post_norm: FloatArray
    query: FloatArray
    key: FloatArray
    value: FloatArray
    query_norm: FloatArray
    key_norm: FloatArray
    output: FloatArray
    gate: FloatArray
    up: FloatArray
    down: FloatArray

    @staticmethod
    def cut(lm: LmConfig, share: Share, read: Callable[[str], FloatArray]) -> LayerWeights:
        """Cut a rank's share out of a layer.

        Args:
            lm: shape of the model.
            share: heads and rows of the rank.
            read: gives a tensor of the layer by its name in `layout`.
        """
        hidden, dim = lm.hidden_size, lm.head_dim
        joined = read("qkv_proj.weight").reshape(-1, dim, hidden)
        kinds = (lm.num_heads, lm.num_heads + lm.num_kv_heads)
        query, key, value = np.split(joined, kinds)
        gate, up = np.split(read("gate_up_proj.weight"), 2)
        output = read("o_proj.weight").reshape(hidden, lm.num_heads, dim)[:, share.heads]
        return LayerWeights(
            eps=lm.rms_norm_eps,
            input_norm=read("input_layernorm.weight"),
            post_norm=read("post_attention_layernorm.weight"),
            query=query[share.heads].copy(),
            key=key[share.kv_heads].copy(),
            value=value[share.kv_heads].copy(),
            query_norm=read("q_norm.weight"),
            key_norm=read("k_norm.weight"),
            output=output.reshape(hidden, -1).copy(),
            gate=gate[share.inner].copy(),
            up=up[share.inner].copy(),
            down=read("down_proj.weight")[:, share.inner].copy(),
        )

    def project(self, rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Query, key and value of [S, hidden size]: [heads of this rank, S, head_dim] each."""
        normed = rms_norm(rows, self.input_norm, self.eps)
        query, key, value = (
            np.matmul(normed, heads.transpose(0, 2, 1))
            for heads in (self.query, self.key, self.value)
        )
        return (
            rms_norm(query, self.query_norm, self.eps),
            rms_norm(key, self.key_norm, self.eps),
            value,
        )

    def feed_forward(self, rows: FloatArray) -> FloatArray:
        """This rank's part of the feed-forward of [S, hidden size]."""
        normed = rms_norm(rows, self.post_norm, self.eps)
        return (silu(normed @ self.gate.T) * (normed @ self.up.T)) @ self.down.T


def rms_norm(rows: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Scale [..., N] to a mean square of one, then by `weight` [N]."""
    mean_square = np.square(rows).mean(axis=-1, keepdims=True)
    normed: FloatArray = weight * (rows / np.sqrt(mean_square + np.float32(eps)))
    return normed


def silu(values: FloatArray) -> FloatArray:
    """The sigmoid linear unit, x * sigmoid(x), without overflow.

    >>> silu(np.array([-200.0, 0.0, 20.0], np.float32)).round(3).tolist()
    [-0.0, 0.0, 20.0]
    """
    sigmoid = np.float32(0.5) * (np.tanh(np.float32(0.5) * values) + np.float32(1))
    activated: FloatArray = values * sigmoid
    return activated


def rotate(heads: FloatArray, cos: FloatArray, sin: FloatArray) -> FloatArray:
    """Rotate [heads, S, head_dim] by tables [S, head_dim / 2]: the first half against the second.

    Returns:
        [heads, S, head_dim].
    """
    first, second = np.split(heads, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(query: FloatArray, keys: FloatArray, values: FloatArray) -> FloatArray:
    """Causal attention of the last S of R rows.

    Args:
        query: [heads, S, head_dim].
        keys: [kv heads, R, head_dim]; neighbouring query heads share one of them.
        values: like the keys.

    Returns:
        [S, heads * head_dim].
    """
    num_heads, num_rows, dim = query.shape
    grouped = query.reshape(len(keys), -1, num_rows, dim)
    scores = grouped @ keys[:, None].transpose(0, 1, 3, 2) * np.float32(dim**-0.5)
    longest = keys.shape[1]
    places = np.arange(longest - num_rows, longest)
    scores = np.where(np.arange(longest) <= places[:, None], scores, np.float32(-np.inf))
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = scores / scores.sum(axis=-1, keepdims=True)
    mixed = (weights @ values[:, None]).reshape(num_heads, num_rows, dim)
    joined: FloatArray = mixed.transpose(1, 0, 2).reshape(num_rows, num_heads * dim)
    return joined
