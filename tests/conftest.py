# SPDX-License-Identifier: Apache-2.0
"""Settings for all tests."""

from __future__ import annotations

import importlib.util
import sys

from hypothesis import HealthCheck, settings

# No test judges by the clock: on a busy machine an example may take any time.
settings.register_profile(
    "duologue", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("duologue")

# The folder tests/triton stands on the path as a package, and torch would take it for the
# compiler of that name.
found = importlib.util.find_spec("triton")
if found is not None and found.origin is None:
    sys.modules["triton"] = None  # type: ignore[assignment]
