from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from evaluation_standins import TEXTS, say_vowels
from hypothesis import given
from hypothesis import strategies as st

from duologue.finetune.errors import DataError
from duologue.finetune.evaluate.card import (
    BEGIN,
    CARD_FILE,
    END,
    as_markdown,
    card_text,
    check_card,
    replace_measured,
)
from duologue.finetune.evaluate.door_clock import Door, time_door
from duologue.finetune.evaluate.espeak_cache import EspeakCache
from duologue.finetune.evaluate.evaluation import Evaluation, RealTime, as_document, goal_rows
from duologue.finetune.evaluate.items import Item, Suite, planned
from duologue.finetune.evaluate.loss_curve import join_runs, plot_curve, read_curve, write_curve
from duologue.finetune.evaluate.measures import Generated, Rendering, fit_speakers
from duologue.finetune.evaluate.samples import make_samples
from duologue.finetune.evaluate.shares import Share
from duologue.finetune.evaluate.suite_figures import SuiteFigures, measure_suite
from duologue.finetune.evaluate.suites import Sizes, make_suites
from duologue.finetune.evaluate.word_errors import WordErrors
from duologue.runtime.errors import ConfigError


@given(total=st.integers(1, 400), data=st.data())
def test_an_interval_holds_its_share_and_narrows_with_more(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    low, high = Share(hits, total).interval
    assert 0 <= low <= hits / total + 1e-9
    assert hits / total - 1e-9 <= high <= 1
    wide = high - low
    low, high = Share(10 * hits, 10 * total).interval
    assert high - low < wide


def test_nothing_counted_says_nothing() -> None:
    assert (Share(0, 0).value, Share(0, 0).interval) == (0.0, (0.0, 1.0))
    assert Share(1, 2) + Share(3, 4) == Share(4, 6)


ITEMS = tuple(
    Item(planned(f"d{n}", "en", [(1, f"bar {n} zog"), (2, f"quix {9 - n}"), (1, "fed up")]))
    for n in range(4)
)
SUITE = Suite("dialogues-en", "dialogues", "en", ITEMS)


@pytest.fixture(scope="module")
def renderings(tmp_path_factory: pytest.TempPathFactory) -> list[Rendering]:
    cache = EspeakCache(tmp_path_factory.mktemp("kept"), speak=say_vowels)
    cache.render([item.dialogue for item in ITEMS], lambda done, total: None)
    return [cache.read(item.dialogue) for item in ITEMS]


def _perfect(renderings: Sequence[Rendering]) -> list[Generated]:
    return [Generated(0.8 * r.samples, r.sample_rate_hz, False, (0, 9000)) for r in renderings]


def _measure(renderings: Sequence[Rendering], spoken: Sequence[Generated]) -> SuiteFigures:
    known = fit_speakers(renderings)
    return measure_suite(SUITE, renderings, spoken, _perfect(renderings), known)


def test_a_perfect_bundle_has_perfect_figures(renderings: list[Rendering]) -> None:
    figures = _measure(renderings, _perfect(renderings))
    assert figures.nearest == figures.behaved == figures.order == Share(4, 4)
    assert figures.voices == figures.codec_voices == figures.any_voices == Share(12, 12)
    assert figures.by_voice == {"s1": Share(8, 8), "s2": Share(4, 4)}
    assert figures.runaway == figures.early == Share(0, 4)
    assert figures.clicks == Share(0, 4)
    assert figures.durations == (1, 1, 1, 1, 1)
    assert figures.confused == ()


def test_every_fault_of_a_bundle_is_counted(renderings: list[Rendering]) -> None:
    spoken = _perfect(renderings)
    spoken[0] = spoken[1]
    first, second = (r.turns for r in (renderings[2], renderings[3]))
    rate_hz = renderings[2].sample_rate_hz
    border = round(first[1].start_s * rate_hz)
    end = round(first[2].start_s * rate_hz)
    whole = renderings[2].samples
    swapped = np.concatenate([whole[border:end], whole[:border], whole[end:]])
    spoken[2] = Generated(swapped, rate_hz, is_runaway=True)
    half = round(second[1].start_s * rate_hz)
    spoken[3] = Generated(renderings[3].samples[:half], rate_hz)
    figures = _measure(renderings, spoken)
    assert (ITEMS[0].dialogue.transcript, ITEMS[1].dialogue.transcript) in figures.confused
    assert figures.order.hits < 4
    assert figures.runaway == figures.early == Share(1, 4)
    assert figures.behaved == Share(2, 4)
    assert figures.voices.hits < 12
    assert figures.codec_voices == Share(12, 12)


def _evaluation(figures: SuiteFigures, **parts: object) -> Evaluation:
    names = {"sentences-en": "en", "words-cmn": "cmn", "dialogues-en": "en",
             "one-reference-unseen-cmn": "cmn", "presets-en": "en"}  # fmt: skip
    suites = tuple(
        dataclasses.replace(figures, name=name, language=language)
        for name, language in names.items()
    )
    return dataclasses.replace(Evaluation("default", {"seed": 1}, suites), **parts)  # type: ignore[arg-type]


def test_goals_stand_beside_figures_and_a_missed_one_is_seen(renderings: list[Rendering]) -> None:
    good = _measure(renderings, _perfect(renderings))
    real_time, errors = RealTime("through Triton", 2, 100.0, 14.0), WordErrors(100, 12, 8)
    evaluation = _evaluation(good, real_time=real_time, word_errors=errors)
    rows = goal_rows(evaluation)
    assert len(rows) == 10
    assert all(row.is_met for row in rows)
    text = as_markdown(evaluation)
    assert (
        "| English: everyday sentence nearest to its own text | ≥ 98 % | 100.0 % (4 of 4) |" in text
    )
    assert "+4.0 points: 12.0 % of 100 words, espeak-ng 8.0 %" in text
    assert "| real-time factor (through Triton, 2 cores) | < 0.15 | 0.140 |  | met |" in text
    assert "not met" not in text
    bad = dataclasses.replace(
        good, nearest=Share(1, 4), voices=Share(1, 4), behaved=Share(3, 4), order=Share(3, 4),
        clicks=Share(1, 9), confused=(("[S1]a", "[S1]b"),) * 20,
    )  # fmt: skip
    missed = _evaluation(
        bad, real_time=RealTime("x", 2, 1.0, 0.2), word_errors=WordErrors(100, 14, 8)
    )
    assert not any(row.is_met for row in goal_rows(missed))
    assert "**not met**" in as_markdown(missed)
    assert "- and 88 more" in as_markdown(missed)


def test_the_document_is_json_and_holds_shares_with_their_intervals(
    renderings: list[Rendering],
) -> None:
    evaluation = _evaluation(_measure(renderings, _perfect(renderings)))
    read = json.loads(json.dumps(as_document(evaluation)))
    assert read["suites"][0]["nearest"] == {
        "hits": 4, "total": 4, "share": 1.0, "interval_95": [0.5101, 1.0],
    }  # fmt: skip
    assert read["suites"][0]["by_voice"]["s1"]["hits"] == 8
    assert read["word_errors"] is None
    assert [row["what"] for row in read["goals"]] == [row.what for row in goal_rows(evaluation)]


def test_a_card_keeps_what_people_wrote_around_the_figures(
    tmp_path: Path, renderings: list[Rendering]
) -> None:
    evaluation = _evaluation(_measure(renderings, _perfect(renderings)))
    text = card_text(evaluation, make_samples([], 12.5), ["spectra.png"])
    card = tmp_path / CARD_FILE
    card.write_text(f"# A model\n\n{BEGIN}\nold\n{END}\n\n## More\n", encoding="utf-8")
    check_card(tmp_path)
    for _ in range(2):
        replace_measured(card, text)
        written = card.read_text(encoding="utf-8")
        assert written.startswith("# A model\n\n" + BEGIN)
        assert written.endswith(END + "\n\n## More\n")
        assert "old" not in written
        assert written.count("(samples/english.wav)") == 1
        assert "![spectra](pictures/spectra.png)" in written
    card.write_text("# No marks\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="does not hold the lines"):
        check_card(tmp_path)


def _state(path: Path, *entries: dict[str, float]) -> Path:
    path.write_text(json.dumps({"log_history": entries}), encoding="utf-8")
    return path


def test_runs_that_went_on_from_each_other_are_one_curve(tmp_path: Path) -> None:
    one = _state(tmp_path / "1.json", {"step": 1, "loss": 3.0}, {"step": 20, "eval_loss": 2.5})
    two = _state(tmp_path / "2.json", {"step": 5, "loss": 2.0}, {"step": 9, "runtime": 1.0})
    curve = join_runs([one, two])
    assert curve.curves == {"loss": [(1, 3.0), (25, 2.0)], "eval_loss": [(20, 2.5)]}
    assert curve.run_starts == (20,)
    write_curve(curve, tmp_path / "points.json")
    assert read_curve(tmp_path / "points.json") == curve
    plot_curve(curve, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    for broken in ("none.json", "points.json"):
        with pytest.raises(DataError, match="cannot be read"):
            join_runs([tmp_path / broken])
    with pytest.raises(DataError, match="cannot be read"):
        read_curve(one)


def test_a_door_is_timed_after_a_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, int]] = []
    clock = iter([10.0, 13.0])
    monkeypatch.setattr("duologue.finetune.evaluate.door_clock.time.monotonic", lambda: next(clock))

    def say(script: str, seed: int) -> float:
        said.append((script, seed))
        return 10.0

    @contextmanager
    def open_door() -> Iterator[Door]:
        yield Door("a door", say)

    timed = time_door(open_door, ["a", "b"], lambda done, total: None)
    assert said == [("a", 0), ("a", 1), ("b", 2)]
    assert (timed.door, timed.audio_s, timed.wall_s) == ("a door", 20.0, 3.0)
    assert math.isclose(timed.factor, 0.15)


def test_measured_suites_need_no_more_than_a_few_items() -> None:
    suites = make_suites(TEXTS, Sizes.quick(2), [])
    assert {len(suite.items) for suite in suites} == {2}
