# SPDX-License-Identifier: Apache-2.0
"""Places for uploads, so that their number is bounded wherever they wait.

An upload has its place from before its first byte is read until its audio is decoded: on its way,
in front of a decoder, and in it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from duologue.client.errors import CapacityError

# About as long as a decoder takes for one of those that wait.
RETRY_AFTER_S = 5.0


class UploadRoom:
    """Counts uploads, and refuses one too many at once.

    Attributes:
        num_places: in all.
        num_taken: at present.
    """

    def __init__(self, num_places: int) -> None:
        """Count from nothing."""
        self.num_places = num_places
        self.num_taken = 0

    def enter(self) -> UploadPlace:
        """Take a place.

        Raises:
            CapacityError: all are taken.
        """
        if self.num_taken >= self.num_places:
            raise CapacityError(
                f"{self.num_taken} uploads are on their way already; try again later", RETRY_AFTER_S
            )
        return UploadPlace(self)


class UploadPlace(AbstractContextManager["UploadPlace"]):
    """One of the places; taken when this is made, free after `leave` or the `with` block."""

    def __init__(self, room: UploadRoom) -> None:
        """Take it."""
        self._room: UploadRoom | None = room
        room.num_taken += 1

    def leave(self) -> None:
        """Make room for another upload. Idempotent."""
        room, self._room = self._room, None
        if room is not None:
            room.num_taken -= 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave."""
        self.leave()
