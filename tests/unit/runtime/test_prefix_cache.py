from __future__ import annotations

import fakes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.runtime.prefix_cache import PrefixCache

BLOCK = 4


def prompt(*parts: int) -> np.ndarray:
    """A prompt of blocks, each filled with a number, and one row more."""
    rows = [np.full((BLOCK, fakes.NUM_CHANNELS), part) for part in parts]
    return np.concatenate([*rows, np.zeros((1, fakes.NUM_CHANNELS), int)])


class Reader:
    """Reads prompts as the engine does, one at a time."""

    def __init__(self, budget_bytes: int = 10**6) -> None:
        self.backbone = fakes.FakeBackbone()
        self.cache = PrefixCache(self.backbone, BLOCK, budget_bytes)

    def read(self, rows: np.ndarray, slot: int = 0) -> tuple[int, np.ndarray]:
        restored = self.cache.restore(slot, rows)
        for start in range(restored, len(rows), BLOCK):
            piece = rows[start : start + BLOCK]
            is_last = start + BLOCK >= len(rows)
            logits = self.backbone.prefill(slot, piece, start, is_last=is_last)
        self.cache.keep(slot)
        self.backbone.release(slot)
        assert logits is not None
        return restored, logits.values


def test_what_comes_a_third_time_is_restored_up_to_its_last_block() -> None:
    reader = Reader()
    restored = [reader.read(prompt(1, 2, 3))[0] for _ in range(3)]
    assert restored == [0, 0, 3 * BLOCK]
    assert reader.cache.stats.hits == 1
    assert reader.cache.stats.rows_restored == 3 * BLOCK


def test_a_common_beginning_is_shared_between_prompts_that_go_on_differently() -> None:
    reader = Reader()
    restored = [reader.read(prompt(1, 2, last))[0] for last in (3, 4, 5)]
    assert restored == [0, 0, 2 * BLOCK]


def test_equal_blocks_behind_a_different_beginning_are_not_shared() -> None:
    reader = Reader()
    for first in (1, 1, 2, 3):
        assert reader.read(prompt(first, 9, 9))[0] == 0


def test_a_prompt_that_comes_once_costs_no_memory() -> None:
    reader = Reader()
    for number in range(20):
        reader.read(prompt(number, number))
    assert reader.cache.stats.num_bytes == 0


def test_what_had_to_make_room_is_counted() -> None:
    reader = Reader(budget_bytes=2 * BLOCK * fakes.FakeBackbone().spec.kv_bytes_per_row)
    for number in (1, 1, 2, 2, 3, 3):
        reader.read(prompt(number))
    assert reader.cache.stats.evictions == 1
    assert (reader.cache.stats.hits, reader.cache.stats.misses) == (0, 6)


def test_no_budget_means_no_work() -> None:
    reader = Reader(budget_bytes=0)
    for _ in range(3):
        assert reader.read(prompt(1, 2))[0] == 0
    assert reader.cache.stats.lookups == 0


def test_a_slot_that_was_left_while_its_prompt_was_read_saves_nothing_for_the_next() -> None:
    reader = Reader()
    reader.read(prompt(1, 2))
    assert reader.cache.restore(0, prompt(1, 2)) == 0
    reader.read(prompt(7, 8))
    assert reader.cache.stats.num_bytes == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=4), max_size=25),
    st.integers(0, 40),
)
def test_results_are_those_without_a_cache_and_memory_stays_in_its_budget(
    prompts: list[list[int]], budget_bytes: int
) -> None:
    cached, plain = Reader(budget_bytes), Reader(0)
    for parts in prompts:
        np.testing.assert_array_equal(cached.read(prompt(*parts))[1], plain.read(prompt(*parts))[1])
        assert cached.cache.stats.num_bytes <= budget_bytes
