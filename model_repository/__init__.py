# SPDX-License-Identifier: Apache-2.0
"""The Triton models, found through one function wherever the package is installed."""

from __future__ import annotations

from pathlib import Path


def repository_path() -> Path:
    """The folder to hand to tritonserver as its model repository."""
    return Path(__file__).parent
