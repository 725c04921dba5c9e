# SPDX-License-Identifier: Apache-2.0
"""A `ranks_body.Body` whose layers run in a TensorRT-LLM engine.

The engine holds the Qwen3 body alone; slots, blocks of the KV cache and the batch of a step are
ours. One call of its `Session` per step: prompts and decoded rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from duologue.runtime.backbone.base import BackboneSpec, PrefixHandle
from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.backbone.trtllm_blocks import BlockTable, blocks_for
from duologue.runtime.backbone.trtllm_contract import HIDDEN_IN, HIDDEN_OUT, INPUTS, WORKSPACE
from duologue.runtime.backbone.trtllm_feed import FeedShape, make_feed, packing_order
from duologue.runtime.backbone.trtllm_torch import DTYPES, Placement, Tensor, TorchEnds
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import EngineError


class Session(Protocol):
    """A `tensorrt_llm.runtime.Session`."""

    def set_shapes(self, tensors: dict[str, Any]) -> None:
        """Tell the shapes of a step's inputs."""
        ...

    def run(self, inputs: dict[str, Any], outputs: dict[str, Any], stream: int) -> bool:
        """Put a step onto a CUDA stream; False if that failed."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSizes:
    """What an engine was built for.

    Attributes:
        dtype: "float32", "float16" or "bfloat16".
        max_batch_size: sequences in one step.
        max_num_tokens: rows in one step.
        max_seq_len: rows of one sequence.
        tokens_per_block: rows of a block of the KV cache.
        tensor_parallel: ranks over which it is split.
    """

    dtype: str
    max_batch_size: int
    max_num_tokens: int
    max_seq_len: int
    tokens_per_block: int
    tensor_parallel: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class TrtllmPrefix:
    """The blocks of a prefix, copied: [blocks, layers, 2, kv heads, rows of a block, head_dim]."""

    blocks: Tensor
    num_rows: int

    @property
    def num_bytes(self) -> int:
        """Memory that the handle holds."""
        return self.blocks.nbytes


class TrtllmBody:
    """Drives an engine.

    Args:
        lm: shape of the model.
        session: of the engine.
        input_names: that the engine has.
        ends: embeddings and heads.
        placement: where the tensors lie.
        sizes: what the engine was built for.
        max_slots, max_rows: size of the KV cache.
        workspace: for the sums over the ranks, when there are several.
    """

    def __init__(
        self,
        lm: LmConfig,
        session: Session,
        input_names: frozenset[str],
        ends: TorchEnds,
        placement: Placement,
        sizes: EngineSizes,
        *,
        max_slots: int,
        max_rows: int,
        workspace: Tensor | None = None,
    ) -> None:
        self._session, self._input_names = session, input_names
        self._ends, self._placement, self._sizes = ends, placement, sizes
        self._workspace = workspace
        self._dtype = DTYPES[sizes.dtype]
        num_blocks = max_slots * blocks_for(max_rows, sizes.tokens_per_block)
        num_kv_heads = max(1, lm.num_kv_heads // sizes.tensor_parallel)
        tile = (num_kv_heads, sizes.tokens_per_block, lm.head_dim)
        self._pool = placement.zeros((num_blocks, lm.num_layers, 2, *tile), self._dtype)
        self._table = BlockTable(num_blocks, sizes.tokens_per_block, max_slots, max_rows)
        self._shape = FeedShape(lm.num_layers, sizes.max_seq_len, self._pool.data_ptr())
        self._prompt_rows: dict[int, int] = {}
        self._in_flight: dict[str, Tensor] = {}
        self.spec = BackboneSpec(
            lm=lm,
            engine="trtllm",
            dtype=sizes.dtype,
            max_slots=max_slots,
            max_rows=max_rows,
            kv_bytes_per_row=self._pool[0].nbytes // sizes.tokens_per_block,
        )

    def step(self, pieces: Sequence[Piece]) -> Tensor:
        """Read pieces of different slots; the last rows [B, hidden size], normed.

        Raises:
            EngineError: the engine was built for less, or could not run.
        """
        self._check_fits(pieces)
        order = packing_order(pieces)
        packed = [pieces[i] for i in order]
        for piece in packed:
            self._table.reserve(piece.slot, piece.stop)
        hidden = self._run(packed)
        for piece in packed:
            if piece.is_prompt:
                self._prompt_rows[piece.slot] = piece.stop
        return hidden[np.argsort(order).tolist()]

    def logits(self, hidden: Tensor) -> FloatArray:
        """Logits [B, sum(V_c)]; waits for the device."""
        return self._ends.logits(hidden)

    def to_numpy(self, hidden: Tensor) -> FloatArray:
        """Hidden states [B, hidden size] float32; waits for the device."""
        values: FloatArray = hidden.float().cpu().numpy()
        return values

    def save(self, slot: int, num_rows: int) -> TrtllmPrefix:
        """Copy the blocks in which the first rows of a slot lie."""
        blocks = self._table.blocks(slot)[: blocks_for(num_rows, self._table.tokens_per_block)]
        return TrtllmPrefix(self._pool[blocks.tolist()].clone(), num_rows)

    def load(self, slot: int, handle: PrefixHandle) -> None:
        """Put saved blocks into an empty slot.

        Raises:
            EngineError: the handle is another engine's, or the pool is empty.
        """
        if not isinstance(handle, TrtllmPrefix):
            raise EngineError(f"slot {slot} takes a TrtllmPrefix; got {type(handle).__name__}")
        self._table.reserve(slot, handle.num_rows)
        self._pool[self._table.blocks(slot).tolist()] = handle.blocks
        self._prompt_rows[slot] = handle.num_rows

    def free(self, slot: int) -> None:
        """Take the blocks of a slot back."""
        self._table.release(slot)
        self._prompt_rows.pop(slot, None)

    def close(self) -> None:
        """Give the memory of the KV cache back."""
        self._in_flight.clear()
        self._pool = self._placement.zeros((0,), self._dtype)

    def _check_fits(self, pieces: Sequence[Piece]) -> None:
        num_rows, sizes = sum(len(piece.input_ids) for piece in pieces), self._sizes
        if len(pieces) > sizes.max_batch_size or num_rows > sizes.max_num_tokens:
            raise EngineError(
                f"a step of {len(pieces)} sequences and {num_rows} rows; the engine was built for "
                f"{sizes.max_batch_size} and {sizes.max_num_tokens}"
            )

    def _run(self, packed: Sequence[Piece]) -> Tensor:
        """Run the engine on pieces in packing order; [B, hidden size]."""
        place = self._placement
        feed = make_feed(packed, self._prompt_rows, self._table, self._shape)
        inputs = {
            name: (place.to_host if INPUTS[name].on_host else place.to_device)(values)
            for name, values in feed.items()
            if name in self._input_names
        }
        ids = np.concatenate([piece.input_ids for piece in packed])
        inputs[HIDDEN_IN] = self._ends.embed(ids)
        if self._workspace is not None:
            inputs[WORKSPACE] = self._workspace
        outputs = {
            HIDDEN_OUT: place.empty((len(packed), self.spec.lm.hidden_size), self._dtype),
        }
        self._session.set_shapes(inputs)
        # Kept until the next step: the device may read them after this call has returned.
        self._in_flight = inputs
        if not self._session.run(inputs, outputs, place.stream):
            raise EngineError("TensorRT-LLM could not run a step; its own log says why")
        return outputs[HIDDEN_OUT]
