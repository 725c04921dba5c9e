# SPDX-License-Identifier: Apache-2.0
"""What the models of a server are told of the bundle that they serve."""

from __future__ import annotations

from pathlib import Path

from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle


def bundle_parameters(bundle: str | Path) -> dict[str, str]:
    """Values for the model parameters; paths are made whole, the server runs elsewhere.

    Args:
        bundle: its name or folder.

    Raises:
        ConfigError: no such bundle.
    """
    directory = resolve_bundle(str(bundle)).resolve()
    rate_hz = Bundle.load(directory).codec.sample_rate_hz
    return {"bundle": str(directory), "sample_rate_hz": str(rate_hz)}
