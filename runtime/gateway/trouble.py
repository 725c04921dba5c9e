# SPDX-License-Identifier: Apache-2.0
"""A bell that a failing request rings, so that the monitor looks at once."""

from __future__ import annotations

import asyncio

from duologue.client.patience import within


class Trouble:
    """Rung by requests, waited for by the monitor; all in one event loop."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Say that the model failed."""
        self._rung.set()

    async def wait_for(self, timeout_s: float) -> None:
        """Wait until it rings, or for so many seconds."""
        try:
            await within(self._rung.wait(), timeout_s)
        except asyncio.TimeoutError:
            return
        finally:
            self._rung.clear()
