from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.finetune.batching import LengthBatches
from duologue.finetune.errors import DataError


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    max_rows=st.integers(1, 200),
    max_examples=st.integers(1, 8),
    shuffle=st.booleans(),
)
def test_an_epoch_shows_every_example_once_and_keeps_to_the_limits(
    lengths: list[int], max_rows: int, max_examples: int, shuffle: bool
) -> None:
    batches = LengthBatches(
        np.array(lengths),
        max_rows=max_rows,
        max_examples=max_examples,
        seed=3,
        shuffle=shuffle,
    )
    shown = list(batches)
    assert len(shown) == len(batches)
    assert sorted(index for batch in shown for index in batch) == list(range(len(lengths)))
    for batch in shown:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) <= max_examples
        assert len(batch) == 1 or padded <= max_rows


@given(groups=st.lists(st.integers(0, 2), min_size=1, max_size=60), shuffle=st.booleans())
def test_a_batch_holds_examples_of_one_group(groups: list[int], shuffle: bool) -> None:
    lengths = np.arange(len(groups)) % 7 + 1
    batches = LengthBatches(
        lengths, groups=np.array(groups), max_rows=20, max_examples=5, seed=1, shuffle=shuffle
    )
    shown = list(batches)
    assert sorted(index for batch in shown for index in batch) == list(range(len(groups)))
    assert all(len({groups[index] for index in batch}) == 1 for batch in shown)


def _batches(rank: int = 0, num_ranks: int = 1) -> LengthBatches:
    lengths = np.random.default_rng(0).integers(1, 40, 100)
    return LengthBatches(
        lengths, max_rows=80, max_examples=100, seed=5, rank=rank, num_ranks=num_ranks
    )


def test_processes_share_an_epoch_in_equal_parts() -> None:
    alone, shares = list(_batches()), [list(_batches(rank, 3)) for rank in range(3)]
    assert {len(share) for share in shares} == {len(alone) // 3}
    together = [batch for share in shares for batch in share]
    assert all(batch in alone for batch in together)
    assert len({tuple(batch) for batch in together}) == len(together)


def test_epochs_differ_but_have_the_same_number_of_batches() -> None:
    batches = _batches()
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert len(first) == len(second)
    assert first != second
    batches.set_epoch(0)
    assert list(batches) == first


def test_fewer_batches_than_processes_are_refused() -> None:
    with pytest.raises(DataError, match="too few for 3 processes"):
        LengthBatches(np.array([4, 4]), max_rows=4, max_examples=1, seed=0, num_ranks=3)


def test_nothing_is_left_out_of_an_evaluation() -> None:
    shares = [
        list(
            LengthBatches(
                np.array([3, 4, 5]),
                max_rows=5,
                max_examples=1,
                seed=0,
                rank=rank,
                num_ranks=2,
                shuffle=False,
            )
        )
        for rank in range(2)
    ]
    assert shares == [[[0], [2]], [[1], [0]]]
