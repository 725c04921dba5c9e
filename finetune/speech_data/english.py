# SPDX-License-Identifier: Apache-2.0
"""English sentences of open vocabulary: templates, WordNet's examples, and mixtures of both."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from string import ascii_uppercase

from duologue.finetune.speech_data import inflection, numbers
from duologue.finetune.speech_data.held_out import is_held_out_text
from duologue.finetune.speech_data.lexicon import Lexicon, finish, has_held_out_word
from duologue.finetune.speech_data.templates import (
    HELD_OUT,
    JOINTS,
    LISTS,
    OPENINGS,
    QUESTIONS,
    REPLIES,
    SHORT,
    STATEMENTS,
)

_SLOT = re.compile(r"\{(\w+)\}")
_MAX_TRIES = 200
_MAX_CHARS = 140
_NOUNS = ("thing", "animal", "food", "plant", "object", "idea", "spot", "substance", "person")
_PLURALS = {"things": "thing", "objects": "object", "persons": "person"}


class SentenceMaker:
    """Makes sentences for training, or such as training never shows."""

    def __init__(self, lexicon: Lexicon, *, held_out: bool) -> None:
        self._lexicon = lexicon
        self._held_out = held_out
        self._examples = [
            text
            for text in lexicon.examples
            if is_held_out_text(text) == held_out and not has_held_out_word(text)
        ]
        self._makers: dict[str, Callable[[Random], str]] = {
            **_NUMBER_MAKERS,
            "name": self._name,
            "do": lambda r: self._draw("transitive", r),
            "did": lambda r: inflection.past(self._draw("transitive", r), lexicon),
            "doing": lambda r: inflection.gerund(self._draw("transitive", r)),
            "intransitive_past": lambda r: inflection.past(self._draw("intransitive", r), lexicon),
            "a_thing": lambda r: inflection.article(self._described(self._noun(r), r)),
            "the_thing": lambda r: f"{r.choice(_OWNERS)} {self._described(self._noun(r), r)}",
            "the_things": lambda r: f"the {self._described(self._plural('thing', r), r)}",
            "a_person": lambda r: inflection.article(self._described(self._draw("person", r), r)),
        }

    def sentence(self, random: Random) -> str:
        """Anything."""
        kinds = (self._example, self._statement, self._question, self._short, self._joined)
        make = random.choices(kinds, weights=(40, 26, 10, 9, 15))[0]
        return self._checked(make, random)

    def question(self, random: Random) -> str:
        """A question."""
        return self._checked(self._question, random)

    def reply(self, random: Random) -> str:
        """What might be said after a question."""
        return self._checked(self._reply, random)

    def _checked(self, make: Callable[[Random], str], random: Random) -> str:
        """A sentence without words kept for tests, and not too long."""
        for _ in range(_MAX_TRIES):
            text = make(random)
            if len(text) <= _MAX_CHARS and not has_held_out_word(text):
                return text
        raise AssertionError(f"no sentence without held-out words in {_MAX_TRIES} tries")

    def _example(self, random: Random) -> str:
        return random.choice(self._examples)

    def _statement(self, random: Random) -> str:
        text = self._fill(STATEMENTS, random)
        if random.random() < 0.15:
            return f"{random.choice(OPENINGS)} {_uncapitalized(text)}"
        return text

    def _question(self, random: Random) -> str:
        return self._fill(QUESTIONS, random)

    def _reply(self, random: Random) -> str:
        return self._fill(REPLIES, random)

    def _short(self, random: Random) -> str:
        return self._fill(SHORT, random)

    def _joined(self, random: Random) -> str:
        """Two halves with a conjunction between, each a template's or an example."""
        halves = [random.choice((self._example, self._statement))(random) for _ in range(2)]
        first, second = halves[0].rstrip(".?!"), _uncapitalized(halves[1])
        return f"{first}, {random.choice(JOINTS)} {second}"

    def _fill(self, templates: tuple[str, ...], random: Random) -> str:
        template = random.choice(HELD_OUT if self._held_out else templates)
        return finish(_SLOT.sub(lambda match: self._slot(match[1], random), template))

    def _slot(self, name: str, random: Random) -> str:
        if name in self._makers:
            return self._makers[name](random)
        if name in LISTS:
            return random.choice(LISTS[name])
        if name in _PLURALS:
            return self._plural(_PLURALS[name], random)
        return self._draw(name, random)

    def _draw(self, bag: str, random: Random) -> str:
        return self._lexicon.bags[bag].draw(random)

    def _name(self, random: Random) -> str:
        is_usual = random.random() < 0.6
        return random.choice(LISTS["first_name"]) if is_usual else self._draw("name", random)

    def _noun(self, random: Random) -> str:
        return self._draw(random.choices(_NOUNS, weights=(8, 2, 2, 1, 1, 1, 1, 1, 2))[0], random)

    def _plural(self, bag: str, random: Random) -> str:
        return inflection.plural(self._draw(bag, random), self._lexicon)

    def _described(self, noun: str, random: Random) -> str:
        chance = random.random()
        if chance < 0.25:
            return f"{self._draw('adjective', random)} {noun}"
        return f"{random.choice(LISTS['color'])} {noun}" if chance < 0.32 else noun


def _digits(random: Random) -> str:
    return " ".join(numbers.spell_number(random.randint(0, 9)) for _ in range(random.randint(3, 8)))


def _price(random: Random) -> str:
    amount = numbers.spell_number(int(10 ** random.uniform(0.3, 4)))
    unit = random.choice(("dollars", "pounds", "euros", "cents"))
    if unit != "cents" and random.random() < 0.3:
        return f"{amount} {unit} {numbers.spell_number(random.randint(5, 99))}"
    return f"{amount} {unit}"


def _uncapitalized(text: str) -> str:
    """Lower-case in front, but for "I" and names."""
    first = text.split(" ", 1)[0].rstrip(",.'?!")
    keeps = first == "I" or first.startswith("I'") or first in LISTS["first_name"]
    return text if keeps else text[0].lower() + text[1:]


_OWNERS = ("the", "my", "your", "her", "this")
_NUMBER_MAKERS: dict[str, Callable[[Random], str]] = {
    "number": lambda r: numbers.spell_number(int(10 ** r.uniform(0, 7))),
    "small": lambda r: numbers.spell_number(r.randint(2, 99)),
    "large": lambda r: numbers.spell_number(r.randint(1, 99) * 10 ** r.randint(2, 6)),
    "ordinal": lambda r: numbers.spell_ordinal(r.randint(1, 31)),
    "year": lambda r: numbers.spell_year(r.randint(1400, 2060)),
    "time": lambda r: numbers.spell_time(r.randint(1, 12), r.choice(range(0, 60, 5))),
    "letters": lambda r: " ".join(r.choices(ascii_uppercase, k=r.randint(2, 5))),
    "digits": _digits,
    "price": _price,
}
