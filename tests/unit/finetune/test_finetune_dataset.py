from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_datasets import small_example, write_dataset

from duologue.finetune.collate import Collator
from duologue.finetune.dataset import (
    DATASET_FILE,
    SpeechDataset,
)
from duologue.finetune.errors import DataError
from duologue.finetune.row_source import check_rows, open_parts, open_rows, split_rows
from duologue.runtime.lm.delay import DelayPattern


def test_examples_come_back_in_order_over_all_shards(tmp_path: Path) -> None:
    examples = [small_example(length, 2) for length in (4, 6, 5)]
    write_dataset(tmp_path, examples[:1], [], examples[1:])
    dataset = SpeechDataset(tmp_path)
    assert dataset.lengths.tolist() == [4, 6, 5]
    for place, example in enumerate(examples):
        assert np.array_equal(dataset[place].input_ids, example.input_ids)
        assert int((dataset[place].labels[:, 1] >= 0).sum()) == 2


def test_a_shard_that_was_cut_off_is_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small_example(4, 2)])
    np.save(tmp_path / "s0.npy", np.zeros((3, 2), np.int32))
    with pytest.raises(DataError, match=r"s0\.npy holds int32 \[3, 2\]; wanted: int32 \[4"):
        SpeechDataset(tmp_path)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small_example(4, 2)])
    np.save(tmp_path / "s0.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        SpeechDataset(tmp_path)


def test_folders_without_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training data"):
        open_rows(tmp_path)
    with pytest.raises(DataError, match=f"no {DATASET_FILE}"):
        SpeechDataset(tmp_path)
    write_dataset(tmp_path, [])
    with pytest.raises(DataError, match="holds no example"):
        open_rows(tmp_path)


def test_a_split_shares_all_examples_between_its_parts(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small_example(length, 2) for length in range(4, 14)])
    train, held_out = split_rows(open_rows(tmp_path), 0.3, seed=1)
    assert held_out is not None
    assert len(held_out) == 3
    assert sorted([*train.lengths, *held_out.lengths]) == list(range(4, 14))
    assert len(train[0].input_ids) == train.lengths[0]


def test_a_split_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small_example(4, 2)])
    with pytest.raises(DataError, match=r"eval_fraction is 0\.5 of 1 examples"):
        split_rows(open_rows(tmp_path), 0.5, seed=1)


def test_a_folder_that_is_named_twice_holds_the_same_examples_out_of_both(tmp_path: Path) -> None:
    for place, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        lengths = range(4 + 20 * place, 14 + 20 * place)
        write_dataset(tmp_path / name, [small_example(length, 2) for length in lengths])
    first, second = tmp_path / "a", tmp_path / "b"
    train, held_out = open_parts([first, second, first], 0.3, seed=1)
    assert held_out is not None
    assert (len(train), len(held_out)) == (21, 6)
    assert not set(train.lengths) & set(held_out.lengths)
    assert train.groups.tolist() == [0] * 7 + [1] * 7 + [2] * 7


def _collator(vocab_sizes: tuple[int, ...], max_length: int = 100) -> Collator:
    delays = DelayPattern(tuple(range(len(vocab_sizes))), (0,) * len(vocab_sizes))
    return Collator(delays, max_length, vocab_sizes)


def test_data_of_another_model_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small_example(4, 2)])
    rows = open_rows(tmp_path)
    check_rows(rows, _collator((30, 6)))
    with pytest.raises(DataError, match="has 2 channels; wanted: 3"):
        check_rows(rows, _collator((30, 6, 6)))
    with pytest.raises(DataError, match="channel 1 of the data has the id 5; allowed: 0 to 4"):
        check_rows(rows, _collator((30, 5)))


def test_each_part_is_looked_at(tmp_path: Path) -> None:
    for name, examples in (("fit", [small_example(4, 2)]), ("unfit", [small_example(4, 2)])):
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name, examples)
    np.save(tmp_path / "unfit" / "s0.npy", np.full((4, 2), -3, np.int32))
    with pytest.raises(DataError, match="channel 0 of the data has the id -3"):
        check_rows(open_rows(tmp_path / "fit", tmp_path / "unfit"), _collator((30, 6)))


def test_data_that_teaches_nothing_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small_example(12, 2), small_example(14, 3)])
    rows = open_rows(tmp_path)
    check_rows(rows, _collator((30, 6), max_length=11))
    with pytest.raises(DataError, match="of the first 2 examples are all ignored within 9 rows"):
        check_rows(rows, _collator((30, 6), max_length=9))
