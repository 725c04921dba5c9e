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
    recognizer = ClosedRecognizer([rendering.text for rendering in renderings])
    num_words = model_errors = reference_errors = 0
    for done, (rendering, speech) in enumerate(zip(renderings, spoken, strict=True), start=1):
        said = recognizer.known_words(rendering.text)
        num_words += len(said)
        heard = recognizer.hear(speech.samples, speech.sample_rate_hz)
        model_errors += count_word_errors(said, heard)
        heard = recognizer.hear(rendering.samples, rendering.sample_rate_hz)
        reference_errors += count_word_errors(said, heard)
        on_progress(done, len(renderings))
    return WordErrors(num_words, model_errors, reference_errors)
