# SPDX-License-Identifier: Apache-2.0
"""Settings for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No test judges by the clock: on a busy machine an example may take any time.
settings.register_profile(
    "duologue", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("duologue")
