# SPDX-License-Identifier: Apache-2.0
"""From a request to the passes of the model that speak it."""

from __future__ import annotations

import contextlib
import math
from functools import partial

from duologue.runtime.config import Bundle
from duologue.runtime.core import Prompt, Script, SpeechRequest
from duologue.runtime.errors import PromptTooLongError, RequestError
from duologue.runtime.job import Job
from duologue.runtime.lm.sampling import resolve_sampling
from duologue.runtime.lm.sequence import Sequence, new_sequence
from duologue.runtime.passes import SAFE_SHARE, OnePass, PassOrder, TurnByTurn
from duologue.runtime.stream import SpeechStream
from duologue.runtime.text.frontend import apply_frontend
from duologue.runtime.text.normalize import normalize_script
from duologue.runtime.text.prompt import build_prompt, reference_text
from duologue.runtime.text.script import parse_script
from duologue.runtime.text.timing import expected_frames, max_frames_for
from duologue.runtime.text.tokenizer import TextTokenizer

MAX_SEED = 2**63 - 1


class RequestPlanner:
    """Reads requests and lays out their passes; holds no state between them.

    Args:
        bundle: description of the model.
        tokenizer: its tokenizer.
        max_rows: rows that a sequence holds.
    """

    def __init__(self, bundle: Bundle, tokenizer: TextTokenizer, max_rows: int) -> None:
        self._bundle = bundle
        self._tokenizer = tokenizer
        self._max_rows = max_rows

    def read(self, request: SpeechRequest) -> Script:
        """Check a request and read its script.

        Raises:
            ScriptError: the script cannot be read.
            RequestError: a value is out of range.
            EngineUnavailableError: the text front end is not installed.
        """
        _check_limits(request)
        script = parse_script(
            request.script,
            max_speakers=self._bundle.prompt.max_speakers,
            max_bytes=self._bundle.limits.max_script_bytes,
        )
        script = apply_frontend(script, request.text_frontend)
        return normalize_script(script, request.normalization)

    def start(self, request: SpeechRequest, stream: SpeechStream) -> Job:
        """Choose between one pass and turn by turn, and lay out the first pass.

        Args:
            request: what is wanted.
            stream: where its audio will go; holds the script that was read.

        Raises:
            PromptTooLongError: prompt and speech do not fit into the context.
            VoiceError: a voice does not fit the model.
            RequestError: the sampling is out of range.
        """
        script, limits = stream.script, self._bundle.limits
        begin = partial(self._begin_pass, request, stream.seed)
        begin_whole = partial(begin, verbatim=_verbatim(request))
        one_pass = partial(
            OnePass, script, begin_whole, request.max_frames, expected_frames(script, limits)
        )
        start = partial(Job, self._bundle, stream=stream, codes_only=request.codes_only)
        has_choice = request.mode == "auto" and len(script.turns) > 1
        if request.mode == "one_pass" or (request.mode == "auto" and not has_choice):
            return start(one_pass())
        if has_choice:
            with contextlib.suppress(PromptTooLongError):
                return start(one_pass(SAFE_SHARE))
        turns = TurnByTurn(
            script,
            begin,
            request.max_frames,
            lambda text: max_frames_for(text, limits),
            max_history_frames=min(limits.max_history_frames, self._max_rows // 4),
            keeps_anchors=not request.voices,
        )
        turns.check(self._max_rows)
        return start(turns)

    def _begin_pass(
        self, request: SpeechRequest, seed: int, order: PassOrder, verbatim: str | None = None
    ) -> Sequence:
        limits, history = self._bundle.limits, order.history
        prompt = build_prompt(
            order.script,
            request.voices,
            self._bundle,
            self._tokenizer,
            rules=request.normalization,
            history=None if history is None else history.script,
            history_codes=None if history is None else history.codes,
            verbatim=verbatim,
        )
        return new_sequence(
            prompt.aligned_ids,
            lm=self._bundle.lm,
            tokens=self._bundle.tokens,
            sampling=resolve_sampling(self._bundle.sampling, request.sampling),
            # A pass draws from a stream of numbers of its own.
            seed=seed + (order.index << 64),
            max_frames=order.max_frames or self._max_frames(request, prompt),
            min_frames=int(order.share * expected_frames(order.script, limits)),
            max_rows=self._max_rows,
            codebook_size=self._bundle.codec.codebook_size,
        )

    def _max_frames(self, request: SpeechRequest, prompt: Prompt) -> int:
        limits = self._bundle.limits
        if request.length_limit == "text":
            return max_frames_for(prompt.script, limits)
        max_length = limits.max_length or self._max_rows
        return max(1, max_length - prompt.num_rows - self._bundle.lm.max_delay)


def _verbatim(request: SpeechRequest) -> str | None:
    """The text of the prompt, if it is to stand there as written; a front end rewrites it."""
    if not request.verbatim or request.text_frontend != "none":
        return None
    return reference_text(request.script, request.voices, request.normalization)


def _check_limits(request: SpeechRequest) -> None:
    seed, max_frames = request.seed, request.max_frames
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise RequestError(f"seed is {seed}; allowed: 0 to 2^63 - 1")
    if max_frames is not None and max_frames < 1:
        raise RequestError(f"max_frames is {max_frames}; allowed: at least 1")
    for name in ("deadline_s", "max_ahead_s"):
        value = getattr(request, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise RequestError(f"{name} is {value}; allowed: a number of seconds above 0")
