# SPDX-License-Identifier: Apache-2.0
"""Places for uploads, so that their number is bounded wherever they wait.

An upload has its place from before its first byte is read until its audio is decoded: on its way,
in front of a decoder, and in it. One that comes slowly keeps it for long, so nobody gets them all.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from types import TracebackType

from duologue.client.errors import CapacityError
from duologue.runtime.gateway.faults import RateLimitError
from duologue.runtime.gateway.keys import Visitor
from duologue.runtime.gateway.setting_groups import StorageSettings

# About as long as a decoder takes for one of those that wait.
RETRY_AFTER_S = 5.0
# Where no setting says more, one caller gets one of so many places.
_USUAL_CALLERS = 4


class UploadRoom:
    """Counts uploads, and refuses one too many at once.

    Attributes:
        num_places: in all.
        num_places_per_caller: of them for one key, or one address where no key is asked for.
        num_taken: at present.
    """

    def __init__(self, num_places: int, num_places_per_caller: int) -> None:
        """Count from nothing."""
        self.num_places = num_places
        self.num_places_per_caller = num_places_per_caller
        self.num_taken = 0
        self._by_caller: Counter[str] = Counter()

    @classmethod
    def of(cls, storage: StorageSettings) -> UploadRoom:
        """As large as the settings want it."""
        usual = max(1, storage.max_uploads // _USUAL_CALLERS)
        return cls(storage.max_uploads, storage.max_uploads_per_caller or usual)

    def enter(self, visitor: Visitor) -> UploadPlace:
        """Take a place.

        Raises:
            RateLimitError: the caller has as many as it may have.
            CapacityError: all are taken.
        """
        if self._by_caller[visitor.name] >= self.num_places_per_caller:
            raise RateLimitError(
                f"{self.num_places_per_caller} uploads at a time are allowed; end one first",
                RETRY_AFTER_S,
            )
        if self.num_taken >= self.num_places:
            raise CapacityError(
                f"{self.num_taken} uploads are on their way already; try again later", RETRY_AFTER_S
            )
        return UploadPlace(self, visitor)

    def count(self, visitor: Visitor, change: int) -> None:
        """Note that places were taken or left; callers without any are forgotten."""
        self.num_taken += change
        self._by_caller[visitor.name] += change
        if not self._by_caller[visitor.name]:
            del self._by_caller[visitor.name]


class UploadPlace(AbstractContextManager["UploadPlace"]):
    """One of the places; taken when this is made, free after `leave` or the `with` block."""

    def __init__(self, room: UploadRoom, visitor: Visitor) -> None:
        """Take it."""
        self._room: UploadRoom | None = room
        self._visitor = visitor
        room.count(visitor, 1)

    def leave(self) -> None:
        """Make room for another upload. Idempotent."""
        room, self._room = self._room, None
        if room is not None:
            room.count(self._visitor, -1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave."""
        self.leave()
