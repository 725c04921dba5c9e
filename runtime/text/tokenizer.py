# SPDX-License-Identifier: Apache-2.0
"""Text to token ids, such that what a caller writes can never become a control token.

A `tokenizer.json` lists added tokens (`<|end_of_speech|>`, `<speaker1>`, the codes `<0>`, ...)
that are cut out of any text before the vocabulary proper is consulted. Here the tokenizer is
made without them. They are put in by id, in places that the template names, and the text
between them is encoded on its own. This is what the reference does too, when it encodes the
whole prompt in one call: added tokens cut a text into pieces that know nothing of each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.runtime.errors import ConfigError, EngineUnavailableError, ScriptError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SKIP = re.compile(r"[ \t\n\r]*[,:]?[ \t\n\r]*")
_PLAIN_FLAGS = ("single_word", "lstrip", "rstrip")

Piece = int | str
"""An id that stands for itself, or text."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Ids that the tokenizer puts around every text, e.g. a begin-of-sequence token."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class TextTokenizer:
    """Encodes prompts. Stateless; may be called from several threads."""

    def __init__(self, plain: Tokenizer, added_tokens: dict[str, int]) -> None:
        """Wrap a tokenizer that was made without added tokens.

        Args:
            plain: knows the vocabulary proper only.
            added_tokens: content -> id of the tokens that the template may use.
        """
        plain.no_truncation()
        plain.no_padding()
        self._plain = plain
        self._added = added_tokens
        self._control_ids = frozenset(added_tokens.values())
        self._frame = _find_frame(plain)
        longest_first = sorted(added_tokens, key=len, reverse=True)
        self._added_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @staticmethod
    def from_file(path: str | Path) -> TextTokenizer:
        """Load a `tokenizer.json`.

        The vocabulary is read once, by the tokenizers library; here only the list of added
        tokens is taken out of the text of the file.

        Raises:
            ConfigError: the file is missing or no tokenizer.
            EngineUnavailableError: the `tokenizers` wheel is missing.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EngineUnavailableError(
                "the text tokenizer needs the package tokenizers: pip install tokenizers"
            ) from error
        try:
            text = Path(path).read_text(encoding="utf-8")
            stripped, added = _take_added_tokens(text)
        except (OSError, ValueError, LookupError) as error:
            raise ConfigError(f"{path} cannot be read as a tokenizer: {error}") from error
        try:
            plain = Tokenizer.from_str(stripped)
        except Exception as error:  # the library raises bare Exception, and nothing else
            raise ConfigError(f"{path} cannot be read as a tokenizer: {error}") from error
        return TextTokenizer(plain, added)

    def token_id(self, name: str) -> int:
        """Id of a token by its content, added or not.

        Raises:
            ConfigError: the tokenizer has no such token.
        """
        known = self._added.get(name)
        token_id = self._plain.token_to_id(name) if known is None else known
        if token_id is None:
            raise ConfigError(f"the tokenizer has no token {name!r}; see its tokenizer.json")
        return int(token_id)

    def encode_text(self, text: str) -> list[int]:
        """Encode what a caller wrote; nothing in it is a control token.

        Raises:
            ScriptError: the text cannot be encoded.
        """
        try:
            ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        except (UnicodeError, TypeError) as error:
            raise ScriptError(f"the text is no valid Unicode: {error}") from error
        if not self._control_ids.isdisjoint(ids):
            # Only a vocabulary that lists its control tokens twice can come here.
            raise ScriptError("the text spells out a control token; allowed: ordinary text")
        return ids

    def split_template(self, text: str) -> list[Piece]:
        """Cut trusted text at its added tokens, the longest first.

        Args:
            text: of the bundle, never of a caller.

        Returns:
            Ids of the added tokens, and the text between them.
        """
        pieces: list[Piece] = []
        start = 0
        for match in self._added_pattern.finditer(text):
            pieces += [text[start : match.start()], self._added[match.group()]]
            start = match.end()
        pieces.append(text[start:])
        return [piece for piece in pieces if piece != ""]

    def encode_prompt(self, pieces: Iterable[Piece]) -> list[int]:
        """Encode a whole prompt.

        Args:
            pieces: ids stand for themselves; strings are ordinary text, and neighbouring
                strings are encoded as one.

        Returns:
            What the reference gives for the whole prompt in one call.
        """
        ids: list[int] = list(self._frame.before)
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            ids += [*self.encode_text(text), piece] if text else [piece]
            text = ""
        ids += self.encode_text(text) if text else []
        return [*ids, *self._frame.after]


def _find_frame(plain: Tokenizer) -> _Frame:
    """Read off a trial text what the post-processor puts around every text."""
    mask: Sequence[int] = plain.encode("a").special_tokens_mask
    ids: Sequence[int] = plain.encode("a").ids
    inner = [index for index, special in enumerate(mask) if not special]
    if not inner:
        return _Frame(tuple(ids), ())
    return _Frame(tuple(ids[: inner[0]]), tuple(ids[inner[-1] + 1 :]))


def _take_added_tokens(text: str) -> tuple[str, dict[str, int]]:
    """The same `tokenizer.json` with an empty list of added tokens, and that list.

    The library writes the list before the vocabulary, so that the latter, which is most of the
    file, need not be parsed here.

    Raises:
        ValueError: no JSON object, or an added token of a kind that is not supported.
    """
    decoder = json.JSONDecoder()
    position = text.index("{") + 1
    while True:
        position = _skip(text, position)
        if text[position : position + 1] == "}":
            return text, {}
        key, position = decoder.raw_decode(text, position)
        start = _skip(text, position)
        value, position = decoder.raw_decode(text, start)
        if key == "added_tokens":
            return f"{text[:start]}[]{text[position:]}", _ids_by_content(value)


def _skip(text: str, position: int) -> int:
    match = _SKIP.match(text, position)
    return match.end() if match else position


def _ids_by_content(added_tokens: list[dict[str, Any]]) -> dict[str, int]:
    for token in added_tokens:
        flags = [flag for flag in _PLAIN_FLAGS if token.get(flag)]
        if flags:
            raise ValueError(f"the added token {token['content']!r} has {flags}; allowed: none")
    return {str(token["content"]): int(token["id"]) for token in added_tokens}
