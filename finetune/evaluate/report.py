# SPDX-License-Identifier: Apache-2.0
"""The measures as JSON, as a table, and as pictures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from duologue.finetune.evaluate.measures import Generated, Measures, Rendering
from duologue.finetune.evaluate.spectrum import HOP_S, log_mel


def write_report(folder: Path, measures: Measures) -> str:
    """Write `measures.json` and `measures.md`.

    Returns:
        The table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = json.dumps(dataclasses.asdict(measures), indent=2) + "\n"
    (folder / "measures.json").write_text(values, encoding="utf-8")
    table = as_table(measures)
    (folder / "measures.md").write_text(table, encoding="utf-8")
    return table


def as_table(measures: Measures) -> str:
    """The measures as a Markdown table."""
    low, middle, high = measures.duration_ratios
    rows = [
        ("dialogues", f"{measures.num_dialogues}"),
        ("identified by DTW, out of all", f"{measures.share_identified:.1%}"),
        ("turns in the right voice", f"{measures.share_right_speaker:.1%}"),
        ("runaway", f"{measures.share_runaway:.1%}"),
        ("shorter than 0.6 of the reference", f"{measures.share_early:.1%}"),
        ("duration / reference, 5 %, 50 %, 95 %", f"{low:.2f}, {middle:.2f}, {high:.2f}"),
        ("clicks at borders of chunks", f"{measures.num_clicks} of {measures.num_borders}"),
    ]
    lines = ["| measure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def plot_spectra(
    references: Sequence[Rendering], generated: Sequence[Generated], picture: Path
) -> None:
    """Draw spectrograms of the model's speech beside the reference's.

    Args:
        references: one row each.
        generated: the same dialogues in the same order.
        picture: the file, e.g. a `.png`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.8 * len(references)), layout="constrained")
    rows = figure.subplots(len(references), 2, squeeze=False, sharey=True)
    for axes, reference, speech in zip(rows, references, generated, strict=True):
        waves = (
            ("reference", reference.samples, reference.sample_rate_hz),
            ("model", speech.samples, speech.sample_rate_hz),
        )
        for axis, (name, samples, rate_hz) in zip(axes, waves, strict=True):
            mel = log_mel(samples, rate_hz)
            axis.imshow(mel.T, origin="lower", aspect="auto",
                        extent=(0, len(mel) * HOP_S, 0, mel.shape[1]))  # fmt: skip
            axis.set_title(f"{reference.id}: {name}", fontsize=8)
            axis.set(xlabel="seconds", ylabel="mel band")
    figure.savefig(picture)
