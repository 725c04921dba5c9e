"""Triton's interpreter for the tests of kernels."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

import pytest

_loaded: list[str] = []


def interpret_triton() -> Iterator[None]:
    """Have kernels interpreted that are imported meanwhile; skip where that cannot be.

    Triton's own library is interpreted or not from the moment of its import.
    """
    if importlib.util.find_spec("triton") is None:
        pytest.skip("torch's CUDA wheels bring triton, its CPU wheels do not")
    if "triton" in sys.modules and not _loaded:
        pytest.skip("triton was loaded for a GPU: run this file alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        _loaded.append("triton")
        yield
