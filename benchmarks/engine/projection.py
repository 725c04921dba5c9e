# SPDX-License-Identifier: Apache-2.0
"""On which machine a model of this size speaks in real time, from steps measured on this one.

    python -m duologue.benchmarks.engine.projection int8.json int4.json

At batch 1 a step reads every weight once and does little with it, so its time is bytes over
bandwidth, over the share of the bandwidth that the engine reaches (measured here). A frame takes
one step of the language model and its part of the codec; real time is a frame per 80 ms.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FRAME_S = 0.08
"""Of audio per frame: MOSS-TTSD's 12.5 frames per second."""
CODEC_FLOP_PER_FRAME = 2.8e9
"""Of the full codec: 35 GFLOP per audio second, recomputed context not counted."""
WINDOW_FACTOR = 1.5
"""Frames that the codec decodes per frame in the last rung of the window ladder."""
CODEC_SHARE = 0.5
"""Of a core's peak that the codec is taken to reach; an assumption, not a measurement."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of CPU.

    Attributes:
        name: for people.
        cores: that work.
        gb_per_s: memory bandwidth of all cores together.
        gflop_per_core: float32 peak of a core.
    """

    name: str
    cores: int
    gb_per_s: float
    gflop_per_core: float


MACHINES = (
    Machine("laptop, 8 cores, DDR5", 8, 70.0, 80.0),
    Machine("server, 16 cores, 8 channels DDR4", 16, 150.0, 80.0),
    Machine("server, 32 cores, 8 channels DDR5", 32, 250.0, 90.0),
    Machine("server, 64 cores, 12 channels DDR5", 64, 400.0, 90.0),
)


@dataclass(frozen=True, slots=True)
class Projection:
    """One model on one machine.

    Attributes:
        step_s: of the language model per frame.
        codec_s: of the codec per frame.
    """

    step_s: float
    codec_s: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio, codec and model one after the other."""
        return (self.step_s + self.codec_s) / FRAME_S


def project(num_bytes: int, bandwidth_share: float, machine: Machine) -> Projection:
    """Scale a measured step to another machine.

    Args:
        num_bytes: that a step reads.
        bandwidth_share: of the memory's bandwidth that the engine reached where it was measured.
        machine: where it is to run.

    >>> laptop = Machine("", 8, 70.0, 80.0)
    >>> round(project(1_750_000_000, 0.7, laptop).real_time_factor, 2)
    0.61
    """
    step_s = num_bytes / (machine.gb_per_s * 1e9 * bandwidth_share)
    flop_per_s = machine.cores * machine.gflop_per_core * 1e9 * CODEC_SHARE
    return Projection(step_s, WINDOW_FACTOR * CODEC_FLOP_PER_FRAME / flop_per_s)


def projection_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: rows of `bench engine` at batch 1 against the machines."""
    lines = [
        "| weights | share of bandwidth here | machine | step ms | codec ms | RTF |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        share = min(1.0, row["floor_bytes_ms"] / row["step_ms"])
        for machine in MACHINES:
            found = project(row["bytes"], share, machine)
            lines.append(
                f"| {row['dtype']} | {share:.0%} | {machine.name} | {1e3 * found.step_s:.1f} | "
                f"{1e3 * found.codec_s:.1f} | {found.real_time_factor:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main(paths: list[str]) -> None:
    """Print the table of some results of `bench engine`."""
    from duologue.benchmarks.reports.document import read_document

    rows = [row for path in paths for row in read_document(Path(path))["rows"]]
    sys.stdout.write(projection_table([row for row in rows if row["batch"] == 1]))


if __name__ == "__main__":
    main(sys.argv[1:])
