# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

# ruff: noqa: SIM905
import re
from pathlib import Path
from random import Random

import pytest

from duologue.finetune.speech_data import inflection
from duologue.finetune.speech_data.dialogues import plan_dialogue
from duologue.finetune.speech_data.english import SentenceMaker
from duologue.finetune.speech_data.held_out import is_held_out_text, is_held_out_word
from duologue.finetune.speech_data.lexicon import Lexicon, WordBag, has_held_out_word
from duologue.finetune.speech_data.templates import HELD_OUT, QUESTIONS, REPLIES, SHORT, STATEMENTS
from duologue.finetune.speech_data.voices import (
    DEFAULT_VOICES,
    FURTHER_VOICES,
    MANDARIN_ACCENT,
    OTHER_VOICES,
    voice_for_language,
)
from duologue.runtime.errors import ConfigError
from duologue.runtime.text.normalize import normalize_text

CATEGORIES = (
    "act animal thing body idea message event feeling food spot object person phenomenon plant "
    "state substance transitive intransitive adjective adverb word name place"
).split()


@pytest.fixture
def lexicon() -> Lexicon:
    words = {f"{name}{ending}": 3 for name in ("bel", "rom", "tav") for ending in ("o", "a", "um")}
    proper = {word.capitalize(): 1 for word in words}
    bags = {name: WordBag(proper if name in ("name", "place") else words) for name in CATEGORIES}
    examples = tuple(f"She saw {count} cats in a row." for count in "abcdefghijklmnopqrstuvwxyz")
    return Lexicon(bags, {"romo": ("romoing", "ramo")}, {"belo": "beli"}, examples)


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """Three synsets in the format of wndb(5WN), and empty files beside them."""
    noun = '00000010 05 n 02 cat 0 kitty 0 001 @ 00000099 n 0000 | a pet; "the cat ran up a tree"\n'
    verb = '00000020 30 v 01 go 0 000 02 + 02 00 + 08 01 | move; "We went home early"; "go!"\n'
    place = '00000030 15 n 01 Rome 0 000 | a city; "shoot-out; at the corral"\n'
    files = {
        "data.noun": "  1 licence\n" + noun + place,
        "data.verb": verb,
        "index.noun": "cat n 2 1 @ 2 1 00000010 00000099\nkitty n 1 0 1 0 00000099\n"
        "rome n 1 0 1 0 00000030\n",
        "index.verb": "go v 1 0 1 1 00000020\n",
        "noun.exc": "kine cat\n",
        "verb.exc": "going go\nwent go\n",
        "cntlist.rev": "cat%1:05:00:: 1 18\ncat%1:06:00:: 2 2\n",
    }
    for name in ("data.adj", "data.adv", "index.adj", "index.adv"):
        files[name] = ""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "words").write_text("cat\ngo\nRome\nBert\nkitty\nBert's\n")
    return tmp_path


def test_wordnet_files_become_bags_forms_and_examples(wordnet: Path) -> None:
    lexicon = Lexicon.load(wordnet, wordnet / "words")
    assert lexicon.bags["animal"].words == ["cat"]
    assert lexicon.bags["transitive"].words == lexicon.bags["intransitive"].words == ["go"]
    assert lexicon.bags["place"].words == ["Rome"]
    assert lexicon.bags["name"].words == ["Bert"]
    assert lexicon.irregular_verbs == {"go": ("going", "went")}
    assert lexicon.irregular_nouns == {"cat": "kine"}
    assert lexicon.examples == (
        "Shoot out, at the corral.",
        "The cat ran up a tree.",
        "We went home early.",
    )


def test_missing_word_lists_say_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wordnet-base"):
        Lexicon.load(tmp_path, tmp_path / "words")


def test_irregular_forms_come_before_rules(lexicon: Lexicon) -> None:
    assert inflection.past("romo", lexicon) == "ramo"
    assert inflection.past("carry", lexicon) == "carried"
    assert inflection.past("stop", lexicon) == "stopped"
    assert inflection.past("agree", lexicon) == "agreed"
    assert inflection.plural("belo", lexicon) == "beli"
    assert inflection.plural("box", lexicon) == "boxes"


def test_every_template_is_filled_completely(lexicon: Lexicon) -> None:
    maker, random = SentenceMaker(lexicon, held_out=False), Random(1)
    for templates in (STATEMENTS, QUESTIONS, REPLIES, SHORT, HELD_OUT):
        for template in templates:
            text = maker._fill((template,), random)
            assert re.fullmatch(r"[A-Za-z ,.'?!]+", text), template


def test_normalisation_leaves_every_sentence_as_it_is(lexicon: Lexicon) -> None:
    maker, random = SentenceMaker(lexicon, held_out=False), Random(2)
    for _ in range(300):
        text = "[S1]" + maker.sentence(random)
        assert normalize_text(text, "v0.7") == text


def test_training_and_tests_share_no_example_and_no_template(lexicon: Lexicon) -> None:
    training = set(SentenceMaker(lexicon, held_out=False)._examples)
    tests = set(SentenceMaker(lexicon, held_out=True)._examples)
    assert training | tests == {t for t in lexicon.examples if not has_held_out_word(t)}
    assert not training & tests
    assert not set(HELD_OUT) & {*STATEMENTS, *QUESTIONS, *REPLIES, *SHORT}


def test_held_out_words_never_stand_in_a_sentence(lexicon: Lexicon) -> None:
    long_words = [f"xylo{a}{b}{c}" for a in "abcdef" for b in "aeiou" for c in "mnrst"]
    held_out = [word for word in long_words if is_held_out_word(word)]
    assert held_out, "the hash holds some of these back"
    bags = {**lexicon.bags, "thing": WordBag(dict.fromkeys(long_words, 1))}
    crowded = Lexicon(bags, {}, {}, lexicon.examples)
    maker, random = SentenceMaker(crowded, held_out=False), Random(3)
    text = " ".join(maker.sentence(random) for _ in range(500))
    assert not set(held_out) & set(re.findall("[a-z]+", text))
    assert len(set(long_words) & set(re.findall("[a-z]+", text))) > 50


def test_about_one_text_in_25_is_held_out() -> None:
    assert 250 < sum(is_held_out_text(f"text {number}") for number in range(10_000)) < 550


def test_dialogue_depends_on_seed_and_index_alone(lexicon: Lexicon) -> None:
    maker = SentenceMaker(lexicon, held_out=False)
    first = plan_dialogue(maker, seed=5, index=7)
    plan_dialogue(maker, seed=5, index=8)
    assert plan_dialogue(maker, seed=5, index=7) == first
    assert plan_dialogue(maker, seed=6, index=7) != first


def test_dialogues_are_one_to_eight_turns_of_two_speakers(lexicon: Lexicon) -> None:
    maker = SentenceMaker(lexicon, held_out=False)
    dialogues = [plan_dialogue(maker, seed=0, index=index) for index in range(300)]
    assert {len(d.turns) for d in dialogues} >= {1, 2, 3, 8}
    assert max(len(d.turns) for d in dialogues) == 8
    assert {turn.speaker for d in dialogues for turn in d.turns} == {1, 2}
    share = sum(d.voices == DEFAULT_VOICES for d in dialogues) / len(dialogues)
    assert 0.5 < share < 0.7
    assert dialogues[0].transcript == "".join(f"[S{t.speaker}]{t.text}" for t in dialogues[0].turns)


def test_further_voices_speak_only_where_they_are_asked_for(lexicon: Lexicon) -> None:
    maker = SentenceMaker(lexicon, held_out=False)
    further = {voice.name for voice in FURTHER_VOICES}
    for asked in (False, True):
        dialogues = [
            plan_dialogue(maker, seed=0, index=i, default_share=0, further_voices=asked)
            for i in range(100)
        ]
        names = {voice.name for dialogue in dialogues for voice in dialogue.voices}
        assert bool(names & further) == asked
        assert names - further


def test_voices_are_many_and_differ() -> None:
    voices = DEFAULT_VOICES + OTHER_VOICES + FURTHER_VOICES
    assert len({voice.name for voice in voices}) == len(voices) >= 12
    assert len({(voice.espeak_name, voice.pitch) for voice in voices}) == len(voices)
    assert {voice_for_language(voice, "cmn").accent for voice in voices} == {MANDARIN_ACCENT}
