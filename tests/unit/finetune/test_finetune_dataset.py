from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duologue.finetune.dataset import (
    DATASET_FILE,
    Example,
    SpeechDataset,
    write_description,
    write_shard,
)
from duologue.finetune.errors import DataError
from duologue.finetune.row_source import check_rows, open_rows, split_rows
from duologue.runtime.config import LmConfig

LM = LmConfig((30, 6), (0, 1), 8, 8, 1, 2, 1, 4)


def _example(length: int, frames: int) -> Example:
    return Example(np.arange(length * 2).reshape(length, 2) % 6, frames)


def _write(folder: Path, *shards: list[Example]) -> None:
    for place, examples in enumerate(shards):
        write_shard(folder, f"s{place}", examples)
    write_description(folder, [f"s{place}" for place in range(len(shards))], {})


def test_examples_come_back_in_order_over_all_shards(tmp_path: Path) -> None:
    examples = [_example(length, 2) for length in (4, 6, 5)]
    _write(tmp_path, examples[:1], [], examples[1:])
    dataset = SpeechDataset(tmp_path)
    assert dataset.lengths.tolist() == [4, 6, 5]
    for place, example in enumerate(examples):
        assert np.array_equal(dataset[place].input_ids, example.input_ids)
        assert int((dataset[place].labels[:, 1] >= 0).sum()) == 2


def test_a_shard_that_was_cut_off_is_named(tmp_path: Path) -> None:
    _write(tmp_path, [_example(4, 2)])
    np.save(tmp_path / "s0.npy", np.zeros((3, 2), np.int32))
    with pytest.raises(DataError, match=r"s0\.npy holds int32 \[3, 2\]; wanted: int32 \[4"):
        SpeechDataset(tmp_path)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    _write(tmp_path, [_example(4, 2)])
    np.save(tmp_path / "s0.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        SpeechDataset(tmp_path)


def test_folders_without_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training data"):
        open_rows(tmp_path)
    with pytest.raises(DataError, match=f"no {DATASET_FILE}"):
        SpeechDataset(tmp_path)
    _write(tmp_path, [])
    with pytest.raises(DataError, match="holds no example"):
        open_rows(tmp_path)


def test_a_split_shares_all_examples_between_its_parts(tmp_path: Path) -> None:
    _write(tmp_path, [_example(length, 2) for length in range(4, 14)])
    train, held_out = split_rows(open_rows(tmp_path), 0.3, seed=1)
    assert held_out is not None
    assert len(held_out) == 3
    assert sorted([*train.lengths, *held_out.lengths]) == list(range(4, 14))
    assert len(train[0].input_ids) == train.lengths[0]


def test_a_split_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, [_example(4, 2)])
    with pytest.raises(DataError, match=r"eval_fraction is 0\.5 of 1 examples"):
        split_rows(open_rows(tmp_path), 0.5, seed=1)


def test_data_of_another_model_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, [_example(4, 2)])
    rows = open_rows(tmp_path)
    check_rows(rows, LM)
    with pytest.raises(DataError, match="has 2 channels; wanted: 3"):
        check_rows(rows, LmConfig((30, 6, 6), (0, 1, 2), 8, 8, 1, 2, 1, 4))
    with pytest.raises(DataError, match="channel 1 of the data has the id 5; allowed: below 5"):
        check_rows(rows, LmConfig((30, 5), (0, 1), 8, 8, 1, 2, 1, 4))
