# SPDX-License-Identifier: Apache-2.0
"""What speaks behind the gateway, as far as it changes the audio of a seed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

# Of what a server says of itself; the number of its slots changes no audio.
DECIDING = ("engine", "precision", "codec_engine", "codec_device")


class ModelIdentity:
    """Names the model that answers at present.

    The gateway is started before the model, which may come back as another one: each time it
    comes, what serves it says what it is. Where nobody says so, the name is one that no other
    run of a model has.

    Attributes:
        name: the same for models that make the same audio of a seed.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.name = ""
        self.note(None)

    def note(self, facts: Mapping[str, Any] | None) -> None:
        """Take in what a model is.

        Args:
            facts: "engine", "precision", "codec_engine" and "codec_device", among others; None
                where they are unknown.
        """
        deciding = {name: str(facts[name]) for name in DECIDING if name in facts} if facts else {}
        if not {"engine", "precision"} <= set(deciding):
            deciding["run"] = secrets.token_hex(16)
        self.name = json.dumps(deciding, sort_keys=True)
