"""Files written piece by piece are read by the safetensors library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from duologue.build_engines.safetensors_writer import (
    ALIGNMENT,
    TensorEntry,
    row_blocks,
    write_arrays,
    write_safetensors,
)
from duologue.runtime.backbone.tensor_file import TensorFile


def test_arrays_come_back(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "odd": np.arange(7, dtype=np.float32),
        "even": np.arange(32, dtype=np.float16).reshape(2, 16),
        "bytes": np.arange(5, dtype=np.uint8),
    }
    write_arrays(tmp_path / "a.safetensors", arrays)
    got = load_file(tmp_path / "a.safetensors")
    assert set(got) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(got[name], values)


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_tensors_of_whole_lines_begin_on_a_line(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("aligned") / "a.safetensors"
    write_arrays(path, {f"t{i}": np.ones(size, np.float32) for i, size in enumerate(sizes)})
    file = TensorFile(path)
    assert len(file) == len(sizes)
    for name in file:
        whole = file[name].data.nbytes % ALIGNMENT == 0
        assert file[name].offset % (ALIGNMENT if whole else 4) == 0


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"a": np.ones(3, np.float32)})
    before = path.read_bytes()

    def fail(name: str) -> list[Any]:
        raise ValueError(name)

    with pytest.raises(ValueError, match="b"):
        write_safetensors(path, [TensorEntry("b", "F32", (2,))], fail)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@given(rows=st.integers(1, 50), width=st.sampled_from([1, 1_000_000, 9_000_000]))
def test_row_blocks_cover_every_row_once(rows: int, width: int) -> None:
    covered = [row for block in row_blocks((rows, width)) for row in range(rows)[block]]
    assert covered == list(range(rows))
