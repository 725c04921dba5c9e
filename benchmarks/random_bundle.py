# SPDX-License-Identifier: Apache-2.0
"""Says of a bundle that its weights are random, so that reports and `say` tell so.

    python -m duologue.benchmarks.random_bundle BUNDLE

`duologue build` cannot see that in a checkpoint, and takes every one for a trained one.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from duologue.runtime.config import BUNDLE_FILE, Bundle


def call_random(directory: Path) -> None:
    """Write into a bundle's description that its model makes noise.

    Args:
        directory: of the bundle.

    Raises:
        ConfigError: it holds no bundle.
    """
    bundle = dataclasses.replace(Bundle.load(directory), trained=False)
    (directory / BUNDLE_FILE).write_text(bundle.to_json(), encoding="utf-8")


if __name__ == "__main__":
    call_random(Path(sys.argv[1]))
