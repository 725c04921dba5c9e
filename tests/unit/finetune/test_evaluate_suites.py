from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from evaluation_standins import TEXTS, say_vowels

from duologue.finetune.errors import DataError
from duologue.finetune.evaluate.cast import PRESETS, UNSEEN_VOICES, pairs_of
from duologue.finetune.evaluate.espeak_cache import RATE_HZ, EspeakCache
from duologue.finetune.evaluate.everyday_english import EVERYDAY_ENGLISH
from duologue.finetune.evaluate.everyday_mandarin import EVERYDAY_MANDARIN
from duologue.finetune.evaluate.items import Item, planned
from duologue.finetune.evaluate.samples import make_samples
from duologue.finetune.evaluate.suites import Sizes, make_suites
from duologue.finetune.speech_data import mandarin, templates
from duologue.finetune.speech_data.dialogues import PlannedDialogue
from duologue.finetune.speech_data.espeak import speak
from duologue.finetune.speech_data.voices import DEFAULT_VOICES, FURTHER_VOICES, OTHER_VOICES
from duologue.runtime.errors import EngineUnavailableError

SLOT = re.compile(r"(\{\w+\})")
SUITES = make_suites(TEXTS, Sizes(words=3), list(PRESETS))


@pytest.mark.parametrize("texts", [EVERYDAY_ENGLISH, EVERYDAY_MANDARIN], ids=["en", "cmn"])
def test_everyday_sentences_are_a_hundred_different_ones_without_digits(
    texts: tuple[str, ...],
) -> None:
    assert len(set(texts)) == len(texts) == 100
    assert not any(re.search(r"[\d\[\]-]", text) for text in texts)


def _literal(template: str) -> str:
    return re.sub(r"[\s.,?!。，？！、]+", " ", SLOT.sub(" ", template)).strip()


@pytest.mark.parametrize(
    ("texts", "kinds", "fewest"),
    [
        # A template that is nearly all slots is like any sentence.
        (EVERYDAY_ENGLISH, templates, 12),
        (EVERYDAY_MANDARIN, mandarin, 4),
    ],
    ids=["en", "cmn"],
)
def test_no_everyday_sentence_is_made_like_those_of_training(
    texts: tuple[str, ...], kinds: object, fewest: int
) -> None:
    names = ("STATEMENTS", "QUESTIONS", "REPLIES", "SHORT")
    known = [text for name in names for text in getattr(kinds, name)]
    checked = [text for text in known if len(_literal(text)) >= fewest]
    assert len(checked) > len(known) / 4
    for template in checked:
        parts = (".+" if SLOT.fullmatch(p) else re.escape(p) for p in SLOT.split(template))
        like = re.compile("".join(parts))
        assert [text for text in texts if like.fullmatch(text)] == [], template


def test_all_suites_are_there_in_both_languages_with_their_sizes() -> None:
    sizes = {suite.name: len(suite.items) for suite in SUITES}
    for language in ("en", "cmn"):
        assert sizes[f"dialogues-{language}"] == sizes[f"sentences-{language}"] == 100
        assert sizes[f"words-{language}"] == 3
        assert sizes[f"one-reference-trained-{language}"] == 24
        assert sizes[f"two-references-unseen-{language}"] == 16
        assert sizes[f"presets-{language}"] == 48
    assert len(sizes) == 16
    small = make_suites(TEXTS, Sizes.quick(3), [])
    assert not [suite for suite in small if suite.name.startswith("presets")]
    assert {len(suite.items) for suite in small} == {3}
    full = {item.key for suite in SUITES for item in suite.items}
    first = [item for suite in small for item in suite.items if "reference" not in item.id]
    assert all(item.key in full for item in first)


def test_items_name_their_voices_and_what_they_are_told_from() -> None:
    for suite in SUITES:
        assert len({item.id for item in suite.items}) == len(suite.items)
        for item in suite.items:
            assert set(item.wanted_voices) <= set(item.rivals), item.id
            said = [turn.text for turn in item.dialogue.turns]
            assert not any(text in clip for clip in item.clips.values() for text in said), item.id
            spoken = {turn.speaker for turn in item.dialogue.turns}
            if suite.name.startswith("presets"):
                assert set(item.presets) == spoken
            elif "reference" in suite.name:
                assert set(item.clips) == spoken


def test_unseen_voices_are_in_no_training_and_all_differ() -> None:
    trained = {
        (voice.variant, voice.accent) for voice in (*DEFAULT_VOICES, *OTHER_VOICES, *FURTHER_VOICES)
    }
    assert not {(voice.variant, voice.accent) for voice in UNSEEN_VOICES} & trained
    voices = DEFAULT_VOICES + OTHER_VOICES + FURTHER_VOICES + UNSEEN_VOICES
    assert len({voice.name for voice in voices}) == len(voices)
    for one, two in pairs_of(UNSEEN_VOICES, 30):
        assert one != two


def test_samples_of_missing_voices_are_left_out() -> None:
    assert len(make_samples(list(PRESETS), 12.5)) == 5
    assert len(make_samples(["gentle"], 12.5)) == 3
    assert all(sample.item.max_frames == 75 for sample in make_samples([], 12.5))


def test_keys_differ_where_something_can_be_heard() -> None:
    dialogue = planned("a", "en", [(1, "One."), (2, "Two.")])
    items = [
        Item(dialogue),
        Item(planned("a", "en", [(1, "One."), (2, "Too.")])),
        Item(dialogue, clips={1: "Three."}),
        Item(dialogue, presets={1: "gentle"}),
        Item(dialogue, max_frames=3),
    ]
    assert len({item.key for item in items}) == len(items)
    assert Item(planned("a", "en", [(1, "One."), (2, "Two.")])).key == items[0].key


@pytest.fixture
def dialogues() -> list[PlannedDialogue]:
    return [planned(f"d{n}", "en", [(1, f"say {n}"), (2, "no")]) for n in range(3)]


def test_renderings_are_made_once_and_keep_their_borders(
    tmp_path: Path, dialogues: list[PlannedDialogue]
) -> None:
    cache = EspeakCache(tmp_path / "kept", speak=say_vowels)
    told: list[tuple[int, int]] = []
    cache.render(dialogues[:2], lambda *now: told.append(now))
    assert told == [(1, 2), (2, 2)]
    cache.render([*dialogues, dialogues[0]], lambda *now: told.append(now))
    assert told[2:] == [(3, 3)]
    rendering = cache.read(dialogues[1])
    assert (rendering.id, rendering.voices) == ("d1", ("s1", "s2"))
    assert rendering.sample_rate_hz == RATE_HZ
    loud = np.abs(rendering.samples) > 0.01
    for turn in rendering.turns:
        assert loud[round(turn.start_s * RATE_HZ) : round(turn.end_s * RATE_HZ)].mean() > 0.5
    gap = slice(
        *(round(s * RATE_HZ) for s in (rendering.turns[0].end_s, rendering.turns[1].start_s))
    )
    assert loud[gap].mean() < 0.1


def test_damaged_and_missing_renderings_are_named(
    tmp_path: Path, dialogues: list[PlannedDialogue]
) -> None:
    cache = EspeakCache(tmp_path, speak=say_vowels)
    with pytest.raises(DataError, match="cannot be read"):
        cache.read(dialogues[0])
    cache.render(dialogues[:1], lambda done, total: None)
    (kept,) = tmp_path.glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(DataError, match=kept.name):
        cache.read(dialogues[0])


def test_without_espeak_only_what_is_kept_can_be_rendered(
    tmp_path: Path, dialogues: list[PlannedDialogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    EspeakCache(tmp_path, speak=say_vowels).render(dialogues[:1], lambda done, total: None)
    monkeypatch.setenv("PATH", "")
    cache = EspeakCache(tmp_path, speak=speak)
    cache.render(dialogues[:1], lambda done, total: None)
    with pytest.raises(EngineUnavailableError, match="apt-get install espeak-ng"):
        cache.render(dialogues, lambda done, total: None)
