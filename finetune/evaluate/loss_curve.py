# SPDX-License-Identifier: Apache-2.0
"""Loss over the steps of a training, in one run or in several that went on from each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.finetune.errors import DataError

_CURVES = ("loss", "eval_loss", "loss_channel_0", "eval_loss_channel_0")
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class LossCurve:
    """Points of several curves.

    Attributes:
        curves: name -> (step, loss in nats), steps counted from the first run's beginning.
        run_starts: step at which every run but the first begins.
    """

    curves: dict[str, list[tuple[int, float]]]
    run_starts: tuple[int, ...]


def join_runs(trainer_states: Sequence[Path]) -> LossCurve:
    """Join the histories of runs.

    Args:
        trainer_states: `trainer_state.json` of each run, or of a checkpoint of it, in order.

    Raises:
        DataError: a state cannot be read.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    starts: list[int] = []
    offset = 0
    for path in trainer_states:
        starts.append(offset)
        last = 0
        try:
            for entry in json.loads(path.read_text(encoding="utf-8"))["log_history"]:
                last = max(last, int(entry["step"]))
                for name in _CURVES:
                    if name in entry:
                        point = (offset + int(entry["step"]), round(float(entry[name]), _DIGITS))
                        curves.setdefault(name, []).append(point)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} cannot be read: {error!r}") from error
        offset += last
    return LossCurve(curves, tuple(starts[1:]))


def write_curve(curve: LossCurve, path: Path) -> None:
    """Keep the points, so that the picture can be drawn again without the runs."""
    document = {"curves": curve.curves, "run_starts": curve.run_starts}
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")


def read_curve(path: Path) -> LossCurve:
    """The points that `write_curve` has kept.

    Raises:
        DataError: they cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        curves = {
            str(name): [(int(step), float(loss)) for step, loss in points]
            for name, points in document["curves"].items()
        }
        return LossCurve(curves, tuple(int(start) for start in document["run_starts"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error!r}") from error


def plot_curve(curve: LossCurve, picture: Path) -> None:
    """Draw all curves; a line stands where a run went on from another.

    Args:
        curve: see there.
        picture: the file, e.g. a `.png`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in curve.curves.items():
        axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), linewidth=1)
    for start in curve.run_starts:
        axes.axvline(start, color="grey", linewidth=0.6, linestyle=":")
    axes.set(xlabel="step", ylabel="loss in nats")
    if curve.curves:
        axes.legend()
    figure.savefig(picture)
