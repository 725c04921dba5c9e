# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while a model is trained."""

from __future__ import annotations

from duologue.runtime.errors import DuologueError


class DataError(DuologueError):
    """Training data is missing, damaged or does not fit the model; names the place."""


class TrainingError(DuologueError):
    """A training run cannot start or cannot go on."""
