from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.finetune.errors import DataError
from duologue.finetune.reference_files import metas_path, read_reference, write_reference
from duologue.finetune.rows import TrainingRow


def _write(path: Path, item: object, offset: int = 0) -> None:
    path.write_bytes(pickle.dumps(item))
    np.save(metas_path(path), np.array([[offset], [1], [1]]))


class _Harmful:
    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._place),))


def test_a_pickle_that_wants_to_act_is_refused_and_does_not_act(tmp_path: Path) -> None:
    path, harm = tmp_path / "a.pkl", tmp_path / "harm"
    _write(path, {"input_ids": [[1]], "labels": _Harmful(harm)})
    with pytest.raises(DataError, match="nothing was executed"):
        read_reference(path)
    assert not harm.exists()


@pytest.mark.parametrize(
    "item",
    [
        [[1]],
        {"input_ids": [[1]]},
        {"input_ids": [[1]], "labels": [[1]], "more": 1},
        {"input_ids": [[1, 2], [3]], "labels": [[1, 2], [3]]},
        {"input_ids": [[1.5]], "labels": [[1]]},
        {"input_ids": [[True]], "labels": [[1]]},
        {"input_ids": [["1"]], "labels": [[1]]},
        {"input_ids": [], "labels": []},
        {"input_ids": [[]], "labels": [[]]},
        {"input_ids": [[2**70]], "labels": [[1]]},
        {"input_ids": [[1]], "labels": [[1], [2]]},
        {"input_ids": np.array([[1]]), "labels": [[1]]},
    ],
)
def test_what_is_no_table_of_whole_numbers_is_refused(tmp_path: Path, item: object) -> None:
    _write(tmp_path / "a.pkl", item)
    with pytest.raises(DataError):
        read_reference(tmp_path / "a.pkl")


def test_a_place_behind_the_end_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.pkl", {"input_ids": [[1]], "labels": [[1]]}, offset=10_000)
    with pytest.raises(DataError, match="byte 10000"):
        read_reference(tmp_path / "a.pkl")


def test_a_missing_file_of_offsets_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"a_metas\.npy"):
        read_reference(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("metas", "message"),
    [
        ([[0], [2], [1]], "1 rows; the metas speak of 2, 1 of audio"),
        ([[0], [1], [2]], "1 rows; the metas speak of 1, 2 of audio"),
        ([[0], [1], [-1]], "-1 of audio"),
    ],
)
def test_metas_of_another_file_are_refused(
    tmp_path: Path, metas: list[list[int]], message: str
) -> None:
    path = tmp_path / "a.pkl"
    _write(path, {"input_ids": [[1]], "labels": [[1]]})
    np.save(metas_path(path), np.array(metas))
    with pytest.raises(DataError, match=message):
        read_reference(path)


def test_an_archive_is_no_file_of_offsets(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    _write(path, {"input_ids": [[1]], "labels": [[1]]})
    with metas_path(path).open("wb") as file:
        np.savez(file, np.zeros((3, 1), np.int64))
    with pytest.raises(DataError, match=r"a_metas\.npy cannot be read"):
        read_reference(path)


def test_examples_are_read_without_a_copy_of_the_file_for_each(tmp_path: Path) -> None:
    num_examples, num_rows = 40, 2000
    ids = np.full((num_rows, 1), 5)
    rows = [TrainingRow(ids, ids)] * num_examples
    write_reference(tmp_path / "a.pkl", rows)
    sizes: list[int] = []

    class _Stream(io.BytesIO):
        def __init__(self, content: bytes) -> None:
            sizes.append(len(content))
            super().__init__(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "BytesIO", _Stream)
        read = read_reference(tmp_path / "a.pkl")
    assert [len(row.input_ids) for row in read] == [num_rows] * num_examples
    assert sizes == [(tmp_path / "a.pkl").stat().st_size]
