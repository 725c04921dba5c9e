# SPDX-License-Identifier: Apache-2.0
"""The measured part of a model card: tables, samples and pictures, made anew with one command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from duologue.finetune.evaluate.evaluation import Evaluation, goal_rows
from duologue.finetune.evaluate.items import LANGUAGE_NAMES
from duologue.finetune.evaluate.samples import SAMPLES_DIR, Sample
from duologue.finetune.evaluate.suite_figures import SuiteFigures
from duologue.runtime.errors import ConfigError

CARD_FILE = "README.md"
PICTURES_DIR = "pictures"
FIGURES_FILE = "evaluation.json"
BEGIN = "<!-- measured: begin; written by `duologue train eval --card` -->"
END = "<!-- measured: end -->"

_MOST_CONFUSED = 12


def as_markdown(evaluation: Evaluation) -> str:
    """Goals beside figures, then every suite, then what was said wrong."""
    parts = [_goals(evaluation), _suites(evaluation)]
    presets = [suite for suite in evaluation.suites if suite.name.startswith("presets-")]
    if presets:
        parts.append(_by_voice(presets))
    parts.append(_confused(evaluation.suites))
    return "\n\n".join(part for part in parts if part) + "\n"


def card_text(evaluation: Evaluation, samples: Sequence[Sample], pictures: Sequence[str]) -> str:
    """The same for a card, with links to samples and pictures beside it.

    Args:
        evaluation: see there.
        samples: that lie in `samples/`.
        pictures: names of files in `pictures/`.
    """
    links = [
        f"- [{sample.file}]({SAMPLES_DIR}/{sample.file}): {_said(sample)}" for sample in samples
    ]
    parts = [as_markdown(evaluation).rstrip(), "To listen to:\n\n" + "\n".join(links)]
    parts += [f"![{Path(name).stem}]({PICTURES_DIR}/{name})" for name in pictures]
    parts.append(f"All figures: [{FIGURES_FILE}]({FIGURES_FILE}).")
    return "\n\n".join(parts) + "\n"


def replace_measured(card: Path, text: str) -> None:
    """Put text in the place of what stands between the two marks of a card.

    Raises:
        ConfigError: the card is missing or does not have both marks.
    """
    before, after = _around(card)
    card.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def check_card(folder: Path) -> None:
    """See, before anything is measured, that the card can take the figures.

    Raises:
        ConfigError: see `replace_measured`.
    """
    _around(folder / CARD_FILE)


def _around(card: Path) -> tuple[str, str]:
    """What stands before and behind the measured part."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{card} does not hold the lines {BEGIN!r} and {END!r}")
    return before, after


def _goals(evaluation: Evaluation) -> str:
    rows = [
        (row.what, row.goal, row.figure, row.interval, "met" if row.is_met else "**not met**")
        for row in goal_rows(evaluation)
    ]
    return _table(("promise", "goal", "measured", "95 % interval (Wilson)", ""), rows)


def _suites(evaluation: Evaluation) -> str:
    rows = []
    for suite in evaluation.suites:
        low, middle, high = suite.durations[1:4]
        rows.append(
            (
                f"{LANGUAGE_NAMES[suite.language]}, {suite.title}",
                str(suite.nearest),
                str(suite.voices),
                f"{suite.codec_voices.value:.0%}".replace("%", " %"),
                f"{suite.any_voices.value:.0%}".replace("%", " %"),
                f"{suite.runaway.hits}, {suite.early.hits}",
                f"{low:.2f}, {middle:.2f}, {high:.2f}",
            )
        )
    heads = ("suite", "nearest to its own text", "right voice", "the codec alone",
             "of all voices", "runaway, early stop",
             "length against espeak-ng's: 5, 50, 95 %")  # fmt: skip
    return _table(heads, rows)


def _by_voice(suites: Sequence[SuiteFigures]) -> str:
    names = list(dict.fromkeys(name for suite in suites for name in suite.by_voice))
    rows = [(name, *(str(suite.by_voice[name]) for suite in suites)) for name in names]
    heads = [f"in {LANGUAGE_NAMES[suite.language]}" for suite in suites]
    return _table(("voice by name", *heads), rows)


def _confused(suites: Sequence[SuiteFigures]) -> str:
    """What was nearer to another text; the gist, since all of it stands in the JSON document."""
    pairs = [pair for suite in suites for pair in suite.confused]
    if not pairs:
        return ""
    lines = [f"- {asked} → {heard}" for asked, heard in pairs[:_MOST_CONFUSED]]
    more = f"\n- and {len(pairs) - _MOST_CONFUSED} more" if len(pairs) > _MOST_CONFUSED else ""
    return "Nearer to another text (asked → nearest):\n\n" + "\n".join(lines) + more


def _said(sample: Sample) -> str:
    return f"{sample.caption}: {sample.item.dialogue.transcript}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
