# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation: figures, tables, samples and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.finetune.evaluate.card import (
    CARD_FILE,
    FIGURES_FILE,
    PICTURES_DIR,
    as_markdown,
    card_text,
    replace_measured,
)
from duologue.finetune.evaluate.evaluation import Evaluation, as_document
from duologue.finetune.evaluate.loss_curve import join_runs, plot_curve, read_curve, write_curve
from duologue.finetune.evaluate.measures import Generated, Rendering
from duologue.finetune.evaluate.report import plot_spectra
from duologue.finetune.evaluate.samples import Sample, write_samples

REPORT_FILE = "evaluation.md"
_SPECTRA, _LOSS, _POINTS = "spectra.png", "loss.png", "loss.json"


@dataclass(frozen=True, slots=True)
class Results:
    """What there is to write.

    Attributes:
        evaluation: the figures.
        samples: to listen to.
        spoken_samples: the samples, as the bundle speaks them.
        renderings: of what is drawn, by espeak-ng.
        spoken: the same, by the bundle.
        trainer_states: `trainer_state.json` of the runs that made the model, in their order;
            without them, points that lie in the folder are drawn again, if there are any.
    """

    evaluation: Evaluation
    samples: Sequence[Sample]
    spoken_samples: Sequence[Generated]
    renderings: Sequence[Rendering]
    spoken: Sequence[Generated]
    trainer_states: tuple[Path, ...] = ()


def write_results(results: Results, folder: Path) -> None:
    """Write `evaluation.json`, `evaluation.md`, `samples/` and `pictures/`.

    Raises:
        DataError: the state of a trainer cannot be read.
    """
    _write_beside(results, folder)
    (folder / REPORT_FILE).write_text(as_markdown(results.evaluation), encoding="utf-8")


def write_card(results: Results, folder: Path) -> None:
    """The same, with the tables in the model card of the folder.

    Raises:
        ConfigError: the card does not have its two marks.
        DataError: the state of a trainer cannot be read.
    """
    pictures = _write_beside(results, folder)
    text = card_text(results.evaluation, results.samples, pictures)
    replace_measured(folder / CARD_FILE, text)


def _write_beside(results: Results, folder: Path) -> list[str]:
    """Everything but the tables; returns the names of the pictures."""
    (folder / PICTURES_DIR).mkdir(parents=True, exist_ok=True)
    document = json.dumps(as_document(results.evaluation), ensure_ascii=False, indent=1) + "\n"
    (folder / FIGURES_FILE).write_text(document, encoding="utf-8")
    write_samples(folder, results.samples, results.spoken_samples)
    return _draw(results, folder / PICTURES_DIR)


def _draw(results: Results, folder: Path) -> list[str]:
    plot_spectra(results.renderings, results.spoken, folder / _SPECTRA)
    points = folder / _POINTS
    if results.trainer_states:
        write_curve(join_runs(results.trainer_states), points)
    if not points.is_file():
        return [_SPECTRA]
    plot_curve(read_curve(points), folder / _LOSS)
    return [_SPECTRA, _LOSS]
