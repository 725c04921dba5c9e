# SPDX-License-Identifier: Apache-2.0
"""Words, names and example sentences out of WordNet and a word list.

Both are packages of Debian: `wordnet-base` (WordNet 3.0, Princeton's licence) and `wamerican`.
Formats: wndb(5WN), lexnames(5WN), cntlist(5WN).
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random

from duologue.finetune.speech_data.held_out import is_held_out_word
from duologue.runtime.errors import ConfigError

WORDNET_DIR = Path("/usr/share/wordnet")
WORD_LIST = Path("/usr/share/dict/american-english")

# Lexicographer files (lexnames(5WN)) by the names that templates use.
_CATEGORIES = {
    "04": "act", "05": "animal", "06": "thing", "08": "body", "09": "idea", "10": "message",
    "11": "event", "12": "feeling", "13": "food", "15": "spot", "17": "object", "18": "person",
    "19": "phenomenon", "20": "plant", "26": "state", "27": "substance",
}  # fmt: skip
_FILES = ("noun", "verb", "adj", "adv")
_TRANSITIVE, _INTRANSITIVE = "08", "02"
_PLAIN_WORD = re.compile(r"[a-z]{2,14}")
_PLAIN_NAME = re.compile(r"[A-Z][a-z]{2,11}")
_QUOTED = re.compile(r'"([^"]+)"')
_SPEAKABLE = re.compile(r"[A-Za-z][A-Za-z ,.'?!]*")
_SHORTEST, _LONGEST = 12, 110
# Not what a demonstration ought to say.
_UNFIT = re.compile(
    r"\b(fuck\w*|shit\w*|cunt\w*|nigg\w*|whore\w*|rap(e|ed|es|ist)|bitch\w*|slut\w*|penis|vagina\w*"
    r"|sex\w*|nazi\w*|jew\w*|negro\w*|coloured|ass|asshole|tits?|cock|dyke|fag\w*|kike|spic|hooker"
    r"|prostitut\w*|semen|testic\w*|suicid\w*|murder\w*|kill\w*|corpse\w*)\b",
    re.IGNORECASE,
)


class WordBag:
    """Words to draw from: mostly common ones, but every one now and then."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.words = sorted(counts)
        self._weights = list(accumulate((counts[w] + 0.3) ** 0.5 for w in self.words))

    def draw(self, random: Random) -> str:
        """A word."""
        return self.words[bisect(self._weights, random.random() * self._weights[-1])]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What sentences are filled with.

    Attributes:
        bags: "animal", "food", ... (nouns), "transitive", "intransitive", "adjective",
            "adverb", "word" (anything), "name" (people), "place".
        irregular_verbs: verb -> its irregular forms; irregular_nouns: noun -> plural.
        examples: sentences and phrases as they stand in WordNet.
    """

    bags: Mapping[str, WordBag]
    irregular_verbs: Mapping[str, tuple[str, ...]]
    irregular_nouns: Mapping[str, str]
    examples: tuple[str, ...]

    @staticmethod
    def load(wordnet_dir: Path = WORDNET_DIR, word_list: Path = WORD_LIST) -> Lexicon:
        """Read the packages' files.

        Raises:
            ConfigError: they are not installed.
        """
        for path in (wordnet_dir / "data.noun", word_list):
            if not path.is_file():
                raise ConfigError(
                    f"{path} does not exist; on Debian and Ubuntu: "
                    "apt-get install wordnet-base wamerican"
                )
        known = set(word_list.read_text(encoding="utf-8").split())
        synsets = list(_read_synsets(wordnet_dir))
        counts = _read_counts(wordnet_dir / "cntlist.rev")
        first = {kind: _read_first_meanings(wordnet_dir / f"index.{kind}") for kind in _FILES}
        main = [
            (s, w) for s in synsets for w in s.words if first[s.kind].get(w.lower()) == s.offset
        ]
        bags = {name: WordBag(words) for name, words in _sort_words(main, known, counts).items()}
        return Lexicon(
            bags,
            {base: tuple(forms) for base, forms in _exceptions(wordnet_dir / "verb.exc").items()},
            {base: forms[0] for base, forms in _exceptions(wordnet_dir / "noun.exc").items()},
            tuple(sorted({text for synset in synsets for text in _examples(synset.gloss)})),
        )


@dataclass(frozen=True, slots=True)
class _Synset:
    offset: str
    kind: str
    category: str
    words: tuple[str, ...]
    frames: frozenset[str]
    gloss: str


def _read_synsets(directory: Path) -> Iterator[_Synset]:
    for kind in _FILES:
        for line in (directory / f"data.{kind}").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                yield _parse_synset(kind, line)


def _parse_synset(kind: str, line: str) -> _Synset:
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    num_words = int(fields[3], 16)
    words = tuple(re.sub(r"\(.*\)", "", fields[4 + 2 * i]) for i in range(num_words))
    rest = fields[4 + 2 * num_words :]
    frames = rest[1 + 4 * int(rest[0]) :]
    return _Synset(fields[0], kind, fields[1], words, frozenset(frames[2::3]), gloss)


def _read_first_meanings(path: Path) -> dict[str, str]:
    """Word -> where its most usual meaning stands in the data file."""
    first = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            first[fields[0]] = fields[-int(fields[2])]
    return first


def _read_counts(path: Path) -> dict[str, int]:
    """How often each word stands in texts that were marked by hand."""
    counts: dict[str, int] = defaultdict(int)
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, count = line.split()
        counts[key.partition("%")[0]] += int(count)
    return counts


def _sort_words(
    meanings: list[tuple[_Synset, str]], known: set[str], counts: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Bag -> word -> count, from each word's most usual meaning."""
    bags: dict[str, dict[str, int]] = defaultdict(dict)
    for synset, word in meanings:
        if word in known and not _UNFIT.search(word):
            for bag in _bags_of(synset, word):
                bags[bag][word] = counts.get(word, 0)
    for word in known:
        if _PLAIN_WORD.fullmatch(word) and not _UNFIT.search(word):
            bags["word"][word] = 0
        elif _PLAIN_NAME.fullmatch(word) and word not in bags["place"]:
            bags["name"][word] = 0
    return bags


def _bags_of(synset: _Synset, word: str) -> list[str]:
    if _PLAIN_NAME.fullmatch(word) and synset.category == "15":
        return ["place"]
    if not _PLAIN_WORD.fullmatch(word):
        return []
    if synset.kind == "noun":
        return [_CATEGORIES[synset.category]] if synset.category in _CATEGORIES else []
    if synset.kind == "verb":
        frames = {_TRANSITIVE: "transitive", _INTRANSITIVE: "intransitive"}
        return [bag for frame, bag in frames.items() if frame in synset.frames]
    return ["adjective" if synset.kind == "adj" else "adverb"]


def _exceptions(path: Path) -> dict[str, list[str]]:
    """Irregular forms by base form."""
    forms: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        form, base = line.split()[:2]
        forms[base].append(form)
    return forms


def _examples(gloss: str) -> Iterator[str]:
    for text in _QUOTED.findall(gloss):
        text = re.sub(r"\s+", " ", text.replace("-", " ").replace(";", ",")).strip(" ,")
        fits = _SHORTEST <= len(text) <= _LONGEST and _SPEAKABLE.fullmatch(text)
        if fits and not _UNFIT.search(text):
            yield finish(text)


def finish(text: str) -> str:
    """A capital in front and a mark at the end.

    >>> finish("he ran"), finish("Who is there?")
    ('He ran.', 'Who is there?')
    """
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def has_held_out_word(text: str) -> bool:
    """Whether a sentence holds a word that training must not show."""
    return any(is_held_out_word(word) for word in re.findall(r"[A-Za-z]+", text))
