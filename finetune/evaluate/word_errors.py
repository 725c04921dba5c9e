# SPDX-License-Identifier: Apache-2.0
"""Word error rates of the model and of espeak-ng, by one recogniser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from duologue.finetune.evaluate.measures import Generated, Rendering
from duologue.finetune.evaluate.recognizer import ClosedRecognizer, count_word_errors


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Errors over all sentences, in the same texts and voices.

    Attributes:
        num_words: that were asked for.
        model_errors: words to insert, delete or replace in the model's speech.
        reference_errors: the same in the reference's.
    """

    num_words: int
    model_errors: int
    reference_errors: int

    @property
    def model_rate(self) -> float:
        """Errors per word of the model."""
        return self.model_errors / self.num_words

    @property
    def reference_rate(self) -> float:
        """Errors per word of the reference."""
        return self.reference_errors / self.num_words


def measure_word_errors(
    renderings: Sequence[Rendering],
    spoken: Sequence[Generated],
    on_progress: Callable[[int, int], None],
) -> WordErrors:
    """Let a recogniser hear both, with the vocabulary of all the sentences.

    Args:
        renderings: English sentences as the reference speaks them.
        spoken: the same in the same order.
        on_progress: told how many of how many have been heard.

    Raises:
        EngineUnavailableError: pocketsphinx is not installed.
    """
    total = 2 * len(renderings)
    reference = _Listener(renderings)
    for done, rendering in enumerate(renderings, start=1):
        reference.hear(rendering, rendering)
        on_progress(done, total)
    model = _Listener(renderings)
    for done, (rendering, speech) in enumerate(
        zip(renderings, spoken, strict=True), start=len(renderings) + 1
    ):
        model.hear(rendering, speech)
        on_progress(done, total)
    return WordErrors(model.num_words, model.num_errors, reference.num_errors)


class _Listener:
    """Counts the errors of one side: a recogniser grows used to what it has heard before."""

    def __init__(self, renderings: Sequence[Rendering]) -> None:
        self._recognizer = ClosedRecognizer([rendering.text for rendering in renderings])
        self.num_words = self.num_errors = 0

    def hear(self, asked: Rendering, speech: Rendering | Generated) -> None:
        said = self._recognizer.known_words(asked.text)
        heard = self._recognizer.hear(speech.samples, speech.sample_rate_hz)
        self.num_words += len(said)
        self.num_errors += count_word_errors(said, heard)
