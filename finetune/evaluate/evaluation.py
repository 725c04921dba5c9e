# SPDX-License-Identifier: Apache-2.0
"""All figures of a bundle, and the goals that they are held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duologue.finetune.evaluate.items import LANGUAGE_NAMES
from duologue.finetune.evaluate.shares import Share
from duologue.finetune.evaluate.suite_figures import SuiteFigures
from duologue.finetune.evaluate.word_errors import WordErrors

_LEAST_NEAREST = {"en": 0.98, "cmn": 0.95}
_LEAST_WORDS = 0.85
_LEAST_VOICE = 0.98
_LEAST_REFERENCE_VOICE = 0.90
_LEAST_BEHAVED = 0.99
_MOST_MORE_WORD_ERRORS = 0.05
_MOST_REAL_TIME = 0.15


@dataclass(frozen=True, slots=True)
class RealTime:
    """How fast a bundle speaks.

    Attributes:
        door: what was asked, e.g. "embedded" for a Triton server on this machine.
        num_cores: that could be used.
        audio_s: seconds of speech, of all dialogues.
        wall_s: seconds until each was spoken to its end, one after the other.
    """

    door: str
    num_cores: int
    audio_s: float
    wall_s: float

    @property
    def factor(self) -> float:
        """Seconds of work per second of speech."""
        return self.wall_s / self.audio_s


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, and how.

    Attributes:
        bundle: its name.
        settings: seed, way to sample, engine.
        suites: figures of each.
        word_errors: of English sentences; None without pocketsphinx.
        real_time: None where it was not taken.
    """

    bundle: str
    settings: dict[str, Any]
    suites: tuple[SuiteFigures, ...]
    word_errors: WordErrors | None = None
    real_time: RealTime | None = None

    def chosen(self, prefix: str) -> list[SuiteFigures]:
        """Suites whose names begin so."""
        return [suite for suite in self.suites if suite.name.startswith(prefix)]


@dataclass(frozen=True, slots=True)
class GoalRow:
    """A promise and what came of it.

    Attributes:
        what: is promised.
        goal: as text.
        figure: as text.
        interval: 95 %, as text; "" where there is none.
        is_met: by the figure itself, not by the whole interval.
    """

    what: str
    goal: str
    figure: str
    interval: str
    is_met: bool


def goal_rows(evaluation: Evaluation) -> list[GoalRow]:
    """Every goal that was measured, in the order of the promises."""
    rows = []
    for suite in evaluation.chosen("sentences-"):
        what = f"{LANGUAGE_NAMES[suite.language]}: everyday sentence nearest to its own text"
        rows.append(_at_least(what, suite.nearest, _LEAST_NEAREST[suite.language]))
    for suite in evaluation.chosen("words-"):
        what = f"{LANGUAGE_NAMES[suite.language]}: single unseen word nearest to itself"
        rows.append(_at_least(what, suite.nearest, _LEAST_WORDS))
    rows += _word_errors(evaluation.word_errors)
    for suite in evaluation.chosen("dialogues-"):
        what = f"{LANGUAGE_NAMES[suite.language]}: turn in the right one of the default voices"
        rows.append(_at_least(what, suite.voices, _LEAST_VOICE))
    for prefix in ("one-reference-", "two-references-", "presets-"):
        for suite in evaluation.chosen(prefix):
            what = f"{LANGUAGE_NAMES[suite.language]}: turn in the right voice, {suite.title}"
            rows.append(_at_least(what, suite.voices, _LEAST_REFERENCE_VOICE))
    rows += _behaviour(evaluation)
    if evaluation.real_time is not None:
        factor, where = evaluation.real_time.factor, evaluation.real_time.door
        cores = evaluation.real_time.num_cores
        rows.append(GoalRow(f"real-time factor ({where}, {cores} cores)", f"< {_MOST_REAL_TIME}",
                            f"{factor:.3f}", "", factor < _MOST_REAL_TIME))  # fmt: skip
    return rows


def as_document(evaluation: Evaluation) -> dict[str, Any]:
    """Everything as it is written to JSON; shares with their value and interval."""
    document: dict[str, Any] = _plain(evaluation)
    document["goals"] = [dataclasses.asdict(row) for row in goal_rows(evaluation)]
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, Share):
        low, high = value.interval
        return {"hits": value.hits, "total": value.total, "share": round(value.value, 4),
                "interval_95": [round(low, 4), round(high, 4)]}  # fmt: skip
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def _behaviour(evaluation: Evaluation) -> list[GoalRow]:
    dialogues = evaluation.chosen("dialogues-")
    if not dialogues:
        return []
    behaved = _sum([suite.behaved for suite in dialogues])
    order = _sum([suite.order for suite in dialogues])
    clicks = _sum([suite.clicks for suite in evaluation.suites])
    return [
        _at_least("dialogue without runaway and early stop", behaved, _LEAST_BEHAVED),
        _at_least("dialogue with its turns in order", order, 1.0),
        GoalRow("clicks where chunks of a stream meet", "none",
                f"{clicks.hits} of {clicks.total}", "", clicks.hits == 0),
    ]  # fmt: skip


def _word_errors(errors: WordErrors | None) -> list[GoalRow]:
    if errors is None:
        return []
    more = errors.model_rate - errors.reference_rate
    figure = (
        f"{100 * more:+.1f} points: {errors.model_rate:.1%} of {errors.num_words} words, "
        f"espeak-ng {errors.reference_rate:.1%}"
    ).replace("%", " %")
    goal = f"≤ {100 * _MOST_MORE_WORD_ERRORS:.0f} points"
    return [
        GoalRow("English: more word errors than espeak-ng's own", goal, figure, "",
                more <= _MOST_MORE_WORD_ERRORS)
    ]  # fmt: skip


def _at_least(what: str, share: Share, least: float) -> GoalRow:
    goal = "all" if least == 1 else f"≥ {least:.0%}".replace("%", " %")
    return GoalRow(what, goal, str(share), as_interval(share), share.value >= least)


def as_interval(share: Share) -> str:
    """The 95 % interval as text.

    >>> as_interval(Share(99, 100))
    '94.6 to 99.8 %'
    """
    low, high = share.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _sum(shares: Sequence[Share]) -> Share:
    return sum(shares, Share(0, 0))
