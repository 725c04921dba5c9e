# SPDX-License-Identifier: Apache-2.0
"""What stands around the engine in torch: where tensors lie, embeddings and heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from duologue.runtime.backbone.layout import EMBEDDING, head_name
from duologue.runtime.backbone.tensor_file import StoredTensor, TensorFile
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray, IntArray

Tensor = torch.Tensor
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Placement:
    """Puts arrays where the engine wants them.

    Args:
        device: "cuda:N"; "cpu" stands in for it in tests.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    @property
    def stream(self) -> int:
        """Handle of the CUDA stream on which everything runs."""
        if self.device == "cpu":
            return 0
        return int(torch.cuda.current_stream(self.device).cuda_stream)

    def to_device(self, values: npt.NDArray[Any]) -> Tensor:
        """A copy on the device; from pinned memory, so that it does not wait for the stream."""
        tensor = torch.from_numpy(values)
        if self.device == "cpu":
            return tensor.clone()
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def to_host(self, values: npt.NDArray[Any]) -> Tensor:
        """A tensor that the CPU reads."""
        return torch.from_numpy(np.ascontiguousarray(values))

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Room on the device."""
        return torch.empty(tuple(shape), dtype=dtype, device=self.device)

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Zeroed room on the device."""
        return torch.zeros(tuple(shape), dtype=dtype, device=self.device)


class TorchEnds:
    """The sum of K embeddings in front of the engine, and K heads behind it.

    Args:
        lm: shape of the model.
        weights_path: `lm.safetensors`.
        dtype: of the tables, as the engine's.
        placement: where they lie.
        has_heads: False on ranks that only follow.

    Raises:
        ConfigError: the file is damaged, or a table is missing or of another shape.
    """

    def __init__(
        self,
        lm: LmConfig,
        weights_path: Path,
        dtype: torch.dtype,
        placement: Placement,
        *,
        has_heads: bool = True,
    ) -> None:
        stored, shape = TensorFile(weights_path), (lm.logit_offsets[-1], lm.hidden_size)
        self._placement = placement
        self._embedding = _to_device(stored.require(EMBEDDING, shape), dtype, placement)
        self._head: Tensor | None = None
        if has_heads and head_name(lm) == EMBEDDING:
            self._head = self._embedding
        elif has_heads:
            self._head = _to_device(stored.require(head_name(lm), shape), dtype, placement)
        self._offsets = np.array(lm.logit_offsets[:-1])

    @torch.inference_mode()
    def embed(self, input_ids: IntArray) -> Tensor:
        """Summed embeddings [T, hidden size] of rows [T, K]."""
        ids = self._placement.to_device(input_ids + self._offsets)
        return F.embedding(ids, self._embedding).sum(dim=1)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> FloatArray:
        """Logits [B, sum(V_c)] of [B, hidden size]; waits for the device."""
        assert self._head is not None
        values: FloatArray = F.linear(hidden, self._head).float().cpu().numpy()
        return values


def _to_device(stored: StoredTensor, dtype: torch.dtype, placement: Placement) -> Tensor:
    tensor = placement.to_device(np.array(stored.data))
    if stored.dtype == "BF16":
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(dtype)
