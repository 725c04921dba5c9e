"""Runs a recorded engine: checks every tensor of a step, then computes the body in numpy."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tensorrt_llm.runtime.body import PagedBody

GOLDEN = Path(__file__).parents[4] / "golden" / "data" / "tensorrt_llm_inputs.json"
RANK_INPUTS = {"all_reduce_workspace"}


class DeviceTensor(torch.Tensor):
    """A tensor that stands for one in GPU memory."""


class _Tensors:
    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._names = [*facts["inputs"], *facts["outputs"]]
        self.num_io_tensors = len(self._names)

    def get_tensor_dtype(self, name: str) -> str:
        inputs = self._facts["inputs"]
        return f"DataType.{inputs[name]['dtype'] if name in inputs else 'float'}"

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self._facts["inputs"].get(name, {"shape": [-1]})["shape"])

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]


class Session:
    """As TensorRT-LLM's, for one engine."""

    def __init__(self, data: bytes) -> None:
        stored = dict(np.load(io.BytesIO(data)))
        self.facts: dict[str, Any] = json.loads(stored.pop("header").tobytes())
        self.rules = json.loads(GOLDEN.read_text(encoding="utf-8"))["design_A2_inputs"]
        self.engine = _Tensors(self.facts)
        self.body = PagedBody(self.facts, stored)
        self.steps: list[dict[str, np.ndarray]] = []
        self.succeeds = True
        self._shapes: dict[str, tuple[int, ...]] = {}

    @staticmethod
    def from_serialized_engine(data: bytes) -> Session:
        return Session(data)

    def set_shapes(self, tensors: dict[str, torch.Tensor]) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def run(
        self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor], stream: int
    ) -> bool:
        assert isinstance(stream, int)
        assert self._shapes == {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        assert set(inputs) == set(self.facts["inputs"]), "TensorRT refuses a missing address"
        assert set(outputs) == {"hidden_states_output"}
        self._check_tensors(inputs)
        step = {name: tensor.detach().numpy() for name, tensor in inputs.items()}
        self._check_values(step)
        self.steps.append(step)
        if not self.succeeds:
            return False
        out = outputs["hidden_states_output"]
        hidden = self.body.run(step)
        assert isinstance(out, DeviceTensor)
        assert tuple(out.shape) == hidden.shape
        out.copy_(torch.from_numpy(hidden))
        return True

    def _check_tensors(self, inputs: dict[str, torch.Tensor]) -> None:
        config = self.facts["config"]
        sizes = {
            "num_tokens": len(inputs["hidden_states_input"]),
            "batch": len(inputs["last_token_ids"]),
            "hidden": config["hidden_size"],
            "num_layers": config["num_hidden_layers"],
            "max_seq_len": self.facts["limits"]["max_seq_len"],
            "max_blocks_per_seq": inputs["kv_cache_block_offsets"].shape[-1],
        }
        for name in set(inputs) - RANK_INPUTS:
            rule, tensor = self.rules[name], inputs[name]
            dtype = config["dtype"] if rule["dtype"] == "model" else rule["dtype"]
            assert tensor.dtype == getattr(torch, dtype), name
            shape = [size if isinstance(size, int) else sizes[size] for size in rule["shape"]]
            assert list(tensor.shape) == shape, name
            assert isinstance(tensor, DeviceTensor) == (rule["device"] == "gpu"), name
            assert tensor.is_contiguous(), name
        assert sizes["num_tokens"] <= self.facts["limits"]["max_num_tokens"]
        assert sizes["batch"] <= self.facts["limits"]["max_batch_size"]

    def _check_values(self, step: dict[str, np.ndarray]) -> None:
        """What the attention plugin takes for granted."""
        kinds, after = step["host_request_types"], step["sequence_length"]
        assert (np.sort(kinds) == kinds).all(), "contexts come first"
        assert (step["host_context_lengths"] == step["context_lengths"]).all()
        assert (step["host_kv_cache_block_offsets"] == step["kv_cache_block_offsets"]).all()
        rows = np.diff(step["last_token_ids"], prepend=0)
        assert (rows[kinds == 1] == 1).all()
        assert (rows[kinds == 0] == step["context_lengths"][kinds == 0]).all()
        past = step["host_past_key_value_lengths"]
        assert (past == after - (kinds == 1)).all()
        assert (step["context_lengths"] <= after).all()
        assert (after <= self.facts["limits"]["max_seq_len"]).all()
        keys, values = step["kv_cache_block_offsets"][0].transpose(1, 0, 2)
        assert (values == keys + 1).all()
        assert not step["cache_indirection"].any()
        assert step["host_sink_token_length"][0] == 0
        assert step["host_context_progress"][0] == 0
