"""The contract of the engine's tensors, and the blocks of its KV cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from trtllm_standin import standin

from duologue.runtime.backbone import trtllm_require
from duologue.runtime.backbone.ranks_body import Piece
from duologue.runtime.backbone.trtllm_blocks import BlockTable, blocks_for
from duologue.runtime.backbone.trtllm_contract import (
    INPUTS,
    OUTPUTS,
    WORKSPACE,
    compare_names,
    require_names,
)
from duologue.runtime.backbone.trtllm_feed import FeedShape, make_feed, packing_order
from duologue.runtime.errors import EngineError, EngineUnavailableError

GOLDEN = Path(__file__).parents[3] / "golden" / "data" / "tensorrt_llm_inputs.json"
LETTERS = {
    "T": "num_tokens",
    "B": "batch",
    "layers": "num_layers",
    "max_blocks": "max_blocks_per_seq",
}


def test_the_contract_is_the_recorded_one() -> None:
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert list(INPUTS) == list(recorded["design_A2_inputs"])
    for name, wanted in recorded["design_A2_inputs"].items():
        ours = INPUTS[name]
        shape = [LETTERS.get(size, size) if isinstance(size, str) else size for size in ours.shape]
        assert (ours.dtype, shape) == (wanted["dtype"], wanted["shape"]), name
        assert ours.on_host == (wanted["device"] == "cpu"), name
    assert list(OUTPUTS) == list(recorded["design_A2_outputs"])


def test_differences_of_names_are_told() -> None:
    names = {*INPUTS, *OUTPUTS}
    assert not compare_names(names, 1)
    assert not compare_names(names - {"position_ids"}, 1)
    assert compare_names(names, 2).missing == (WORKSPACE,)
    assert compare_names(names | {"logits"}, 1).extra == ("logits",)
    with pytest.raises(EngineUnavailableError, match=r"missing \['sequence_length'\]"):
        require_names(names - {"sequence_length"}, 1)


class Blocks(RuleBasedStateMachine):
    """Slots that grow and are released in any order never share a block."""

    SLOTS, BLOCK_ROWS, ROWS, BLOCKS = 4, 8, 40, 12

    def __init__(self) -> None:
        super().__init__()
        self.table = BlockTable(self.BLOCKS, self.BLOCK_ROWS, self.SLOTS, self.ROWS)
        self.rows = dict.fromkeys(range(self.SLOTS), 0)

    @rule(slot=st.integers(0, SLOTS - 1), more=st.integers(0, 25))
    def grow(self, slot: int, more: int) -> None:
        wanted = self.rows[slot] + more
        before = self.table.blocks(slot).tolist()
        lacking = blocks_for(wanted, self.BLOCK_ROWS) - len(before)
        if wanted > self.ROWS or lacking > self.table.num_free:
            with pytest.raises(EngineError):
                self.table.reserve(slot, wanted)
            assert self.table.blocks(slot).tolist() == before
            return
        self.table.reserve(slot, wanted)
        self.rows[slot] = wanted
        assert self.table.blocks(slot).tolist()[: len(before)] == before

    @rule(slot=st.integers(0, SLOTS - 1))
    def release(self, slot: int) -> None:
        self.table.release(slot)
        self.rows[slot] = 0

    @invariant()
    def no_block_twice_and_none_lost(self) -> None:
        held = [block for slot in self.rows for block in self.table.blocks(slot).tolist()]
        assert len(held) == len(set(held))
        assert set(held) <= set(range(self.BLOCKS))
        assert len(held) + self.table.num_free == self.BLOCKS
        for slot, rows in self.rows.items():
            assert len(self.table.blocks(slot)) == blocks_for(rows, self.BLOCK_ROWS)


TestBlocks = Blocks.TestCase


def test_offsets_count_tiles_of_layer_0() -> None:
    table = BlockTable(6, 8, 3, 16)
    table.reserve(1, 3)
    table.reserve(0, 16)
    offsets = table.offsets([0, 1], num_layers=5)
    assert (offsets.shape, offsets.dtype) == ((1, 2, 2, 2), np.int32)
    keys = np.array([[*table.blocks(0)], [*table.blocks(1), 0]]) * 10
    assert (offsets[0, :, 0] == keys).all()
    assert (offsets[0, :, 1] == keys + 1).all()


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_prompts_are_packed_first_and_order_is_kept_among_equals(kinds: list[bool]) -> None:
    ids = np.zeros((1, 2), np.int64)
    pieces = [Piece(i, 0, ids, is_prompt=kind) for i, kind in enumerate(kinds)]
    order = packing_order(pieces)
    assert sorted(order) == list(range(len(kinds)))
    assert [kinds[i] for i in order] == sorted(kinds, reverse=True)
    for kind in (True, False):
        alike = [i for i in order if kinds[i] == kind]
        assert alike == sorted(alike)


def test_every_input_but_embeddings_is_fed_with_its_type() -> None:
    table = BlockTable(4, 8, 2, 16)
    table.reserve(0, 9)
    piece = Piece(0, 4, np.zeros((5, 2), np.int64), is_prompt=True)
    feed = make_feed([piece], {}, table, FeedShape(3, 16, 4096))
    assert {"hidden_states_input", *feed} == set(INPUTS)
    for name, values in feed.items():
        assert values.dtype == np.dtype(INPUTS[name].dtype), name
    assert feed["host_kv_cache_pool_pointers"].tolist() == [[4096, 0]]
    assert feed["host_kv_cache_pool_mapping"].tolist() == [[0, 0], [0, 1], [0, 2]]


def test_a_missing_wheel_says_what_to_install() -> None:
    with pytest.raises(EngineUnavailableError, match=r"pip install 'duologue\[trtllm\]'.*25\.12"):
        trtllm_require.require_tensorrt_llm()


@pytest.mark.parametrize("version", ["0.21.0", "1.3.0rc2", "2.0", "an unknown version"])
def test_a_version_without_engines_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    with standin():
        assert trtllm_require.require_tensorrt_llm() == "1.2.1"
        monkeypatch.setattr(trtllm_require, "_version", lambda: version)
        with pytest.raises(EngineUnavailableError, match=f"but {version} is installed"):
            trtllm_require.require_tensorrt_llm()
