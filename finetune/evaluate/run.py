# SPDX-License-Identifier: Apache-2.0
"""Let a bundle speak a set of dialogues, and measure what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.finetune.evaluate.chunks import join_chunks
from duologue.finetune.evaluate.loss_curve import join_runs, plot_curve
from duologue.finetune.evaluate.measures import Measures, fit_speakers, measure
from duologue.finetune.evaluate.measures import Rendering as Reference
from duologue.finetune.evaluate.renderings import (
    has_generated,
    read_generated,
    read_renderings,
    write_generated,
)
from duologue.finetune.evaluate.report import plot_spectra, write_report
from duologue.runtime.core import SamplingOverrides
from duologue.runtime.synthesizer import Synthesizer

_NUM_PICTURES = 4


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """What to measure.

    Attributes:
        bundle: "default" or a folder.
        references: folder that `speech_data` has filled.
        out_dir: speech in `speech/`, numbers and pictures.
        prefix: only dialogues whose id begins with it, e.g. "test-".
        limit: at most so many dialogues.
        voices: only dialogues in these voices; None: all.
        greedy: the most likely id everywhere, instead of the bundle's sampling.
        seed: of the first dialogue; the next ones count on.
        trainer_state: `trainer_state.json` of the training, for the loss curve.
    """

    bundle: str | Path
    references: Path
    out_dir: Path
    prefix: str = ""
    limit: int | None = None
    voices: tuple[str, ...] | None = None
    greedy: bool = False
    seed: int = 1
    trainer_state: Path | None = None


def evaluate(run: EvaluationRun, on_progress: Callable[[int, int], None]) -> Measures:
    """Speak, measure, and write the report; speech that is there already is not made again.

    Args:
        run: see there.
        on_progress: told how many dialogues of how many have been spoken.

    Raises:
        DataError: the references cannot be read.
        ConfigError: no such bundle.
    """
    references = read_renderings(run.references, run.prefix, run.limit, run.voices)
    speech_dir = run.out_dir / "speech"
    _speak_missing(run, references, speech_dir, on_progress)
    generated = read_generated(speech_dir, [reference.id for reference in references])
    measures = measure(references, generated, fit_speakers(references))
    write_report(run.out_dir, measures)
    shown = slice(_NUM_PICTURES)
    plot_spectra(references[shown], generated[shown], run.out_dir / "spectra.png")
    if run.trainer_state is not None:
        plot_curve(join_runs([run.trainer_state]), run.out_dir / "loss.png")
    return measures


def _speak_missing(
    run: EvaluationRun,
    references: Sequence[Reference],
    speech_dir: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    missing = [
        (place, reference)
        for place, reference in enumerate(references)
        if not has_generated(speech_dir, reference.id)
    ]
    if not missing:
        return
    with Synthesizer.load(run.bundle, max_slots=1) as synthesizer:
        for done, (place, reference) in enumerate(missing, start=1):
            chunks = synthesizer.stream(
                reference.text,
                seed=run.seed + place,
                sampling=SamplingOverrides(greedy=run.greedy),
            )
            write_generated(speech_dir, reference.id, join_chunks(list(chunks)))
            on_progress(done, len(missing))
