from __future__ import annotations

from typing import Any

from tensorrt_llm.network import default_net


class Tensor:
    """A symbol of the network; one with a name is an input."""

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        shape: list[int] | None = None,
        dim_range: Any = None,
    ) -> None:
        self.name = name
        if name is not None:
            assert dtype is not None
            assert shape is not None
            dynamic = sum(1 for size in shape if size == -1)
            assert dim_range is None or len(dim_range) == len(shape) >= dynamic
            for ranges in (dim_range or {}).values():
                assert len(ranges) == 1, "one range per optimisation profile"
            net = default_net()
            assert name not in net.inputs, f"{name} is declared twice"
            net.inputs[name] = {"dtype": dtype.removeprefix("trt."), "shape": shape}

    def mark_output(self, name: str, dtype: str) -> None:
        default_net().outputs[name] = dtype.removeprefix("trt.")


def gather_last_token_logits(
    hidden_states: Tensor, last_token_ids: Tensor, remove_input_padding: bool
) -> Tensor:
    assert remove_input_padding
    assert last_token_ids.name == "last_token_ids"
    default_net().steps.append("gather")
    return Tensor()
