"""The whole evaluation at tiny size: an untrained bundle, and vowels in the place of espeak-ng."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
from evaluation_standins import TEXTS, say_vowels
from typer.testing import CliRunner

from duologue.cli.main import app
from duologue.finetune.evaluate.card import BEGIN, END
from duologue.finetune.evaluate.door_clock import Door
from duologue.finetune.evaluate.espeak_cache import EspeakCache
from duologue.finetune.evaluate.evaluation import Evaluation
from duologue.finetune.evaluate.full_run import EvaluationPlan, evaluate_fully
from duologue.finetune.evaluate.shares import Share
from duologue.finetune.evaluate.speaking import SpeakingPlan
from duologue.finetune.evaluate.suites import Sizes
from duologue.runtime.errors import ConfigError

TINY = Sizes(*[2] * 4, unseen_references=2, per_preset=1, timed=2, per_voice=1)


@contextmanager
def _door() -> Iterator[Door]:
    yield Door("a door", lambda script, seed: 1000.0)


def _plan(folder: Path, card: Path | None = None, states: tuple[Path, ...] = ()) -> EvaluationPlan:
    speaking = SpeakingPlan("noise", folder / "speech", num_streams=2, max_frames=20)
    return EvaluationPlan(speaking, folder, TINY, states, card)


def _evaluate(plan: EvaluationPlan, told: list[tuple[str, int, int]]) -> Evaluation:
    cache = EspeakCache(plan.out_dir / "espeak", speak=say_vowels)
    return evaluate_fully(plan, TEXTS, cache, _door, lambda *now: told.append(now))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_suites_are_spoken_measured_and_written_once(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    card = tmp_path / "card"
    card.mkdir()
    (card / "README.md").write_text(f"# Noise\n\n{BEGIN}\n{END}\n", encoding="utf-8")
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"log_history": [{"step": 1, "loss": 2.0}]}), encoding="utf-8")
    told: list[tuple[str, int, int]] = []
    first = _evaluate(_plan(tmp_path / "out", card, (state,)), told)
    assert [suite.nearest.total for suite in first.suites] == [2] * 14
    assert first.word_errors is not None
    assert first.word_errors.num_words > 0
    assert first.real_time is not None
    assert first.chosen("dialogues-en")[0].clicks.total > 0
    for suite in first.suites:
        assert suite.codec_voices.total == suite.voices.total
        assert suite.behaved != Share(0, 0)
    num_spoken = told.count(("speaking", 31, 31))
    assert num_spoken == 1
    for folder, text in ((card, "README.md"), (tmp_path / "out", "evaluation.md")):
        assert "| English, everyday sentences |" in (folder / text).read_text(encoding="utf-8")
        figures = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        assert (figures["bundle"], len(figures["suites"])) == (first.bundle, 14)
        assert (folder / "pictures" / "loss.png").is_file()
        assert (folder / "pictures" / "spectra.png").is_file()
        for sample in (folder / "samples").glob("*.wav"):
            assert soundfile.info(sample).subtype == "PCM_16"
            assert sample.stat().st_size < 300_000
    _goes_on(tmp_path, card, first)


def _goes_on(folder: Path, card: Path, first: Evaluation) -> None:
    """What is kept is not made again, and the loss is drawn from its points."""
    (card / "pictures" / "loss.png").unlink()
    told: list[tuple[str, int, int]] = []
    again = _evaluate(_plan(folder / "out", card), told)
    assert again.suites == first.suites
    assert {stage for stage, *_ in told} == {"measuring", "recognising", "timing"}
    assert (card / "pictures" / "loss.png").is_file()


def test_a_card_without_marks_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with pytest.raises(ConfigError, match="does not hold the lines"):
        _evaluate(_plan(tmp_path / "out", tmp_path), told)
    assert told == []


def test_without_espeak_the_verb_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    failed = CliRunner().invoke(app, ["train", "eval", "--out", str(tmp_path)])
    assert failed.exit_code == 1
    assert "espeak-ng is not installed; on Debian and Ubuntu: apt-get install" in failed.stderr


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_itself_speaks_both_languages(tmp_path: Path) -> None:
    from duologue.finetune.evaluate.items import planned

    dialogues = [planned("a", "en", [(1, "Good morning.")]), planned("b", "cmn", [(2, "早上好。")])]
    cache = EspeakCache(tmp_path)
    cache.render(dialogues, lambda done, total: None)
    assert all(0.3 < cache.read(dialogue).duration_s < 3 for dialogue in dialogues)
