# SPDX-License-Identifier: Apache-2.0
"""The Qwen3 body in plain numpy, split over ranks: the engine "numpy".

Written to be read and to be split, not to be fast: it stands in for TensorRT-LLM where there is no
GPU, with the same split of heads and feed-forward rows and the same two sums per layer.
Source: huggingface/transformers, `models/qwen3/modeling_qwen3.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duologue.runtime.backbone.base import BackboneSpec, PrefixHandle
from duologue.runtime.backbone.layout import EMBEDDING, FINAL_NORM, head_name, lm_shapes
from duologue.runtime.backbone.numpy_layer import LayerWeights, attend, rms_norm, rotate
from duologue.runtime.backbone.ranks import Alone, RankGroup, Share, share_of
from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.backbone.rotary import rotary_tables
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineError


@dataclass(frozen=True, slots=True, eq=False)
class NumpyPrefix:
    """Keys and values [2, layers, kv heads of this rank, rows, head_dim] of a prefix."""

    cache: FloatArray

    @property
    def num_rows(self) -> int:
        """Rows of the prefix."""
        return int(self.cache.shape[3])

    @property
    def num_bytes(self) -> int:
        """Memory that the handle holds."""
        return self.cache.nbytes


class NumpyBody:
    """A `ranks_body.Body` in numpy; each sequence is computed on its own.

    Args:
        lm: shape of the model.
        weights_path: `lm.safetensors`.
        max_slots: sequences at the same time.
        max_rows: rows per sequence.
        ranks: with whom the layers are shared.

    Raises:
        ConfigError: the model does not divide over the ranks, or the weights do not fit it.
    """

    def __init__(
        self,
        lm: LmConfig,
        weights_path: Path,
        *,
        max_slots: int,
        max_rows: int,
        ranks: RankGroup | None = None,
    ) -> None:
        self._ranks = Alone() if ranks is None else ranks
        share = share_of(lm, self._ranks.world)
        self._layers, tables = _read(lm, weights_path, share)
        self._embedding, self._norm, self._head = tables
        self._offsets = np.array(lm.logit_offsets[:-1])
        self._cos, self._sin = rotary_tables(lm, max_rows)
        num_kv_heads = share.kv_heads.stop - share.kv_heads.start
        # Zeroed memory is taken from the system when it is first written.
        self._cache = np.zeros(
            (max_slots, 2, lm.num_layers, num_kv_heads, max_rows, lm.head_dim), np.float32
        )
        self.spec = BackboneSpec(
            lm=lm,
            engine="numpy",
            dtype="float32",
            max_slots=max_slots,
            max_rows=max_rows,
            kv_bytes_per_row=self._cache[0, :, :, :, 0].nbytes,
        )

    def step(self, pieces: Sequence[Piece]) -> FloatArray:
        """Read pieces of different slots; the last rows [B, hidden size], normed.

        Raises:
            EngineError: another rank has died.
        """
        rows = [self._embed(piece) for piece in pieces]
        for layer, weights in enumerate(self._layers):
            parts = [self._attention(layer, *each) for each in zip(pieces, rows, strict=True)]
            rows = self._add(rows, parts)
            rows = self._add(rows, [weights.feed_forward(block) for block in rows])
        last = np.stack([block[-1] for block in rows])
        return rms_norm(last, self._norm, self.spec.lm.rms_norm_eps)

    def logits(self, hidden: FloatArray) -> FloatArray:
        """Logits [B, sum(V_c)]; row by row, so that a sequence does not depend on the others."""
        return np.stack([self._head @ row for row in hidden])

    def to_numpy(self, hidden: FloatArray) -> FloatArray:
        """The hidden states themselves."""
        return hidden

    def save(self, slot: int, num_rows: int) -> NumpyPrefix:
        """Copy the keys and values of the first rows of a slot."""
        return NumpyPrefix(self._cache[slot, :, :, :, :num_rows].copy())

    def load(self, slot: int, handle: PrefixHandle) -> None:
        """Put a saved prefix into an empty slot.

        Raises:
            EngineError: the handle is another engine's.
        """
        if not isinstance(handle, NumpyPrefix):
            raise EngineError(f"slot {slot} takes a NumpyPrefix; got {type(handle).__name__}")
        self._cache[slot, :, :, :, : handle.num_rows] = handle.cache

    def free(self, slot: int) -> None:
        """Nothing to do: rows are overwritten by the next sequence."""

    def close(self) -> None:
        """Give the memory of the KV cache back."""
        self._cache = np.zeros((0, 2, 0, 0, 0, 0), np.float32)

    def _embed(self, piece: Piece) -> FloatArray:
        summed: FloatArray = self._embedding[piece.input_ids + self._offsets].sum(axis=1)
        return summed

    def _add(self, rows: Sequence[FloatArray], parts: Sequence[FloatArray]) -> list[FloatArray]:
        """Add to each piece what all ranks computed of it; one sum over the ranks for all."""
        total = self._ranks.all_reduce(np.concatenate(parts))
        borders = np.cumsum([len(block) for block in rows])[:-1]
        return [block + part for block, part in zip(rows, np.split(total, borders), strict=True)]

    def _attention(self, layer: int, piece: Piece, rows: FloatArray) -> FloatArray:
        """This rank's part of the attention of [S, hidden size] over what the slot holds."""
        weights = self._layers[layer]
        query, key, value = weights.project(rows)
        cos, sin = self._cos[piece.start : piece.stop], self._sin[piece.start : piece.stop]
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        keys, values = self._cache[piece.slot, :, layer]
        keys[:, piece.start : piece.stop] = key
        values[:, piece.start : piece.stop] = value
        mixed = attend(query, keys[:, : piece.stop], values[:, : piece.stop])
        return mixed @ weights.output.T


def _read(
    lm: LmConfig, path: Path, share: Share
) -> tuple[list[LayerWeights], tuple[FloatArray, FloatArray, FloatArray]]:
    """This rank's layers, and embedding, final norm and heads, which every rank holds."""
    stored, shapes = TensorFile(path), lm_shapes(lm)

    def read(name: str) -> FloatArray:
        return stored.require(name, shapes[name]).float32()

    def read_layer(layer: int) -> Callable[[str], FloatArray]:
        return lambda name: read(f"layers.{layer}.{name}")

    layers = [LayerWeights.cut(lm, share, read_layer(i)) for i in range(lm.num_layers)]
    embedding = read(EMBEDDING)
    head = embedding if head_name(lm) == EMBEDDING else read(head_name(lm))
    return layers, (embedding, read(FINAL_NORM), head)
