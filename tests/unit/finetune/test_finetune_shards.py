from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_datasets import small_example, write_dataset

from duologue.finetune.dataset import (
    Example,
    SpeechDataset,
    read_shard,
    write_shard,
)
from duologue.finetune.errors import DataError
from duologue.runtime.core import IntArray


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff"])
def test_a_damaged_array_is_named(tmp_path: Path, content: bytes) -> None:
    write_dataset(tmp_path, [small_example(4, 2)])
    (tmp_path / "s0.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"s0\.npy cannot be read"):
        SpeechDataset(tmp_path)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="tells what is open on Unix only")
def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    write_dataset(tmp_path, *([small_example(4, 2)] for _ in range(20)))
    before = len(os.listdir("/dev/fd"))
    dataset = SpeechDataset(tmp_path)
    rows = [dataset[place] for place in range(20)]
    assert len(os.listdir("/dev/fd")) == before
    assert len(rows) == 20


def test_a_shard_that_is_replaced_under_an_open_dataset_is_told(tmp_path: Path) -> None:
    write_dataset(tmp_path, [small_example(4, 2)])
    dataset = SpeechDataset(tmp_path)
    write_shard(tmp_path, "s0", [small_example(3, 2), small_example(4, 2)])
    with pytest.raises(DataError, match=r"s0\.npy holds int32 \[7, 2\]; wanted: int32 \[4"):
        dataset[0]


@pytest.mark.parametrize("voices", [None, np.array([-100, 0, 1, 1])])
def test_a_shard_is_read_as_it_was_written(tmp_path: Path, voices: IntArray | None) -> None:
    rows = np.arange(8).reshape(4, 2)
    write_shard(
        tmp_path, "s0", [Example(rows, 2, False, voices), Example(rows + 1, 1, True, voices)]
    )
    first, second = read_shard(tmp_path, "s0")
    assert np.array_equal(first.input_ids, rows)
    assert np.array_equal(second.input_ids, rows + 1)
    assert [(e.num_frames, e.has_end) for e in (first, second)] == [(2, False), (1, True)]
    assert all(
        (e.voices is None) if voices is None else (e.voices == voices).all()
        for e in (first, second)
    )
    write_shard(tmp_path, "s1", [])
    assert read_shard(tmp_path, "s1") == []
