# SPDX-License-Identifier: Apache-2.0
"""A second door of the backbone room: engines that choose ids and write rows on their own device.

Beside `Backbone`, and optional. The host says once what a sequence wants and where it stands in
the delay pattern; from then on the device takes steps in blocks, and the host reads the ids when
a block is over. The rules are those of `runtime.lm`, to which tests hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from duologue.runtime.core import IntArray

BoolArray = npt.NDArray[np.bool_]
WideArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceSequence:
    """What a device must know of a sequence to write its rows.

    Attributes:
        last_row: [K], the row that is read next.
        num_steps: rows written so far, at least one.
        max_steps: rows at which the sequence ends at the latest.
        rows_to_drain: None before the trigger; then rows that are still to be written.
        forced: [max_delay, K], what stands above the staircase.
        fills: [K], what a drained channel writes.
        speech_start, speech_stop: ids of channel 0 that are speech, half open.
        end_of_speech: not chosen in channel 0 before `max_delay` rows are written.
        sampling: [K, 5], per channel: repetition penalty, temperature, top-k, top-p, and whether
            it samples; a neutral number stands for "left out".
        seen: [sum(V_c)], whether an id stands in the history of its channel; None if no channel
            penalises repetition.
    """

    last_row: IntArray
    num_steps: int
    max_steps: int
    rows_to_drain: int | None
    forced: IntArray
    fills: IntArray
    speech_start: int
    speech_stop: int
    end_of_speech: int
    sampling: WideArray
    seen: BoolArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BlockIds:
    """What the sequences of a block chose.

    Attributes:
        chosen: [n, B, K], ids before forcing and draining. Behind a sequence's end they mean
            nothing.
        is_sound: [n, B], False where scores were no numbers; such a sequence takes no more steps.
    """

    chosen: IntArray
    is_sound: BoolArray


class Block(Protocol):
    """Steps that the device is taking."""

    def wait(self) -> BlockIds:
        """Wait until the steps are done."""
        ...


@runtime_checkable
class DecodesOnDevice(Protocol):
    """A `Backbone` that also takes steps without the host.

    Everything runs in the order of the calls, those of `Backbone` included: a slot may be
    released and filled anew while a block that holds it has not been waited for.
    """

    @property
    def max_block_steps(self) -> int:
        """Steps of the longest block."""
        ...

    def can_seat(self, sampling: WideArray) -> bool:
        """Whether the device can choose by these settings [K, 5]; if not, the host does."""
        ...

    def seat(self, slot: int, sequence: DeviceSequence) -> None:
        """Tell the device about the sequence in a slot, whose prompt has been read.

        Until `Backbone.release`, the slot takes rows by `launch` alone.
        """
        ...

    def launch(self, slots: Sequence[int], uniforms: WideArray) -> Block:
        """Begin n steps of B seated sequences; a sequence that ends meanwhile rests.

        Args:
            slots: B different seats.
            uniforms: [n, B, K] in [0, 1): the random numbers of each step.

        Returns:
            The block at once, before the device has done it.
        """
        ...
