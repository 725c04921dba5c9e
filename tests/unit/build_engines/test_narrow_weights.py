"""Weights in 8 bits with a scale per row: what is stored, and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from narrow_lms import E4M3, meaning
from random_lms import WEIGHTS, build_random_lm

from duologue.build_engines.narrow_weights import (
    LARGEST,
    NARROW_DTYPES,
    narrow_rows,
    row_scales,
    write_narrow_safetensors,
)
from duologue.runtime.backbone.layout import HEAD, head_name, lm_shapes, matrix_shapes, scales_name
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError


@given(
    dtype=st.sampled_from(list(NARROW_DTYPES)),
    width=st.integers(1, 100),
    seed=st.integers(0, 1000),
    magnitude=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
)
def test_every_number_becomes_the_nearest_that_there_is(
    dtype: str, width: int, seed: int, magnitude: float
) -> None:
    values = np.random.default_rng(seed).standard_normal((3, width)).astype(np.float32)
    values *= np.float32(magnitude)
    scales, numbers = row_scales(values, dtype), narrow_rows(values, dtype)
    assert numbers.shape == values.shape
    there_is = np.arange(-127, 128) if dtype == "int8" else E4M3[np.isfinite(E4M3)]
    wanted = values / np.where(scales == 0, 1, scales)[:, None]
    least = np.abs(wanted[..., None] - there_is).min(axis=-1)
    off = np.abs(meaning(numbers, dtype) - wanted)
    np.testing.assert_allclose(off, least, atol=1e-4)
    assert np.all(np.abs(meaning(numbers, dtype)).max(axis=1)[scales > 0] == LARGEST[dtype])


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("narrow")
    return build_random_lm(directory, "bfloat16", tied_heads=request.param), directory


@pytest.mark.parametrize("dtype", NARROW_DTYPES)
def test_matrices_and_heads_are_stored_narrow(built: tuple[LmConfig, Path], dtype: str) -> None:
    lm, directory = built
    path = directory / f"{dtype}.safetensors"
    write_narrow_safetensors(lm, directory / WEIGHTS, path, dtype)
    wide, narrow, matrices = TensorFile(directory / WEIGHTS), TensorFile(path), matrix_shapes(lm)
    scales = {scales_name(name) for name in matrices}
    assert set(narrow) == {*lm_shapes(lm), HEAD} | scales
    for name in set(narrow) - scales:
        if name not in matrices:
            assert narrow[name].dtype == "BF16"
            np.testing.assert_array_equal(narrow[name].data, wide[name].data)
            continue
        assert narrow[name].dtype == NARROW_DTYPES[dtype]
        source = wide[head_name(lm) if name == HEAD else name].float32()
        np.testing.assert_array_equal(narrow[name].data, narrow_rows(source, dtype))
        found = narrow.require(scales_name(name), source.shape[:1])
        np.testing.assert_array_equal(found.data, row_scales(source, dtype))


def test_what_cannot_be_written_is_refused(built: tuple[LmConfig, Path], tmp_path: Path) -> None:
    lm, directory = built
    path = tmp_path / "narrow.safetensors"
    with pytest.raises(ConfigError, match="dtype is 'int4'; allowed: int8, fp8"):
        write_narrow_safetensors(lm, directory / WEIGHTS, path, "int4")
    spoilt: Any = bytearray((directory / WEIGHTS).read_bytes())
    place = TensorFile(directory / WEIGHTS)["layers.1.o_proj.weight"].offset
    spoilt[place : place + 2] = b"\xc0\x7f"
    (tmp_path / WEIGHTS).write_bytes(spoilt)
    with pytest.raises(ConfigError, match=r"layers\.1\.o_proj\.weight.* holds what is no number"):
        write_narrow_safetensors(lm, tmp_path / WEIGHTS, path, "int8")
    assert not path.exists()
