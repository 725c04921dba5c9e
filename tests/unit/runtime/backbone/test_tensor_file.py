"""Reading safetensors files, sound and damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from duologue.runtime.backbone.tensor_file import (
    TensorFile,
    bfloat16_to_float32,
    float32_to_bfloat16,
)
from duologue.runtime.errors import ConfigError


def _write(path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 3, generator=generator)
    save_file(
        {
            "wide": values,
            "half": values.half(),
            "brain": values.bfloat16(),
            "codes": torch.arange(4, dtype=torch.int64),
        },
        path,
    )
    return path


def test_tensors_are_read_as_they_were_saved(tmp_path: Path) -> None:
    file = TensorFile(_write(tmp_path / "a.safetensors"))
    assert sorted(file) == ["brain", "codes", "half", "wide"]
    wide = torch.from_numpy(np.array(file["wide"].float32()))
    assert torch.equal(torch.from_numpy(file["half"].float32()), wide.half().float())
    assert torch.equal(torch.from_numpy(file["brain"].float32()), wide.bfloat16().float())
    np.testing.assert_array_equal(file["codes"].data, np.arange(4))
    np.testing.assert_array_equal(file["half"].float32(slice(1, 3)), file["half"].float32()[1:3])


def test_offset_is_the_place_in_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.safetensors")
    tensor = TensorFile(path)["wide"]
    raw = path.read_bytes()[tensor.offset : tensor.offset + tensor.data.nbytes]
    np.testing.assert_array_equal(np.frombuffer(raw, np.float32).reshape(5, 3), tensor.data)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stored as I64; allowed: F32, F16, BF16"):
        TensorFile(_write(tmp_path / "a.safetensors"))["codes"].float32()


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = _write(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"a\.safetensors"):
        _read_all(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 16]},
        {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]},
        {"shape": [4]},
        [1, 2],
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "b.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(ConfigError, match=r"b\.safetensors"):
        _read_all(path)


def test_require_names_what_was_found_and_wanted(tmp_path: Path) -> None:
    file = TensorFile(_write(tmp_path / "a.safetensors"))
    with pytest.raises(ConfigError, match=r"wide has shape \[5, 3\]; wanted: \[3, 5\]"):
        file.require("wide", (3, 5))
    with pytest.raises(ConfigError, match=r"no tensor deep; wanted: shape \[2\]"):
        file.require("deep", (2,))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.safetensors is missing"):
        TensorFile(tmp_path / "none.safetensors")


@given(st.lists(st.floats(width=32, min_value=-(2.0**120), max_value=2.0**120)))
def test_bfloat16_rounds_as_torch_does(values: list[float]) -> None:
    array = np.array(values, np.float32)
    wanted = torch.from_numpy(array).bfloat16()
    bits = float32_to_bfloat16(array)
    np.testing.assert_array_equal(bits, wanted.view(torch.uint16).numpy())
    np.testing.assert_array_equal(bfloat16_to_float32(bits), wanted.float().numpy())


def _read_all(path: Path) -> None:
    file = TensorFile(path)
    for name in file:
        assert file[name].data.size >= 0
