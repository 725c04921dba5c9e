# SPDX-License-Identifier: Apache-2.0
r"""From a script and voices to the rows that the language model reads first.

    template: <|begin_of_style|>{system}<|end_of_style|>\n<|begin_of_text|>{text}<|end_of_text|>...
    text:     the voices' transcripts, then the script, each turn behind its speaker's token
    rows:     [token, pad, pad, ...] for the text, then [speech_start + c0, c1, ...] for the voices

Source: OpenMOSS/MOSS-TTSD v0.7, `generation_utils.py` (`process_inputs`) and
`modeling_asteroid.py`. The delay is not applied here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby

import numpy as np

from duologue.runtime.config import Bundle, PromptConfig, TokenIds
from duologue.runtime.core import IntArray, Normalization, Prompt, Script, Turn, Voice
from duologue.runtime.errors import ConfigError, ScriptError, VoiceError
from duologue.runtime.text.normalize import normalize_script, normalize_text
from duologue.runtime.text.pinyin import read_aloud
from duologue.runtime.text.script import tagged_turns
from duologue.runtime.text.speakers import allowed_speakers
from duologue.runtime.text.tokenizer import Piece, TextTokenizer

_TEXT_FIELD = "{text}"
_SYSTEM_FIELD = "{system}"


def build_prompt(
    script: Script,
    voices: Mapping[int, Voice],
    bundle: Bundle,
    tokenizer: TextTokenizer,
    *,
    rules: Normalization = "none",
    history: Script | None = None,
    history_codes: IntArray | None = None,
    verbatim: str | None = None,
) -> Prompt:
    """Lay out text and voices as the model was trained to read them.

    Args:
        script: parsed, and normalised if it is to be.
        voices: speaker (1-based) -> voice. A voice whose transcript holds tags, such as
            `[S1]...[S2]...`, covers several speakers and stands under the first of them.
        bundle: template, speaker tokens, special ids and codebooks.
        tokenizer: of the same bundle.
        rules: text rules for the transcripts; where they merge neighbouring turns of a speaker,
            the last transcript and the first turn are merged too.
        history: turns that were spoken before, normalised like the script; they stand behind
            the transcripts.
        history_codes: aligned codes [K, T] of these turns; they stand behind the voices.
        verbatim: the whole text, see `reference_text`; it stands for script, transcripts and
            history, with nothing but its tags replaced.

    Returns:
        Aligned ids [T, K], text rows first.

    Raises:
        ScriptError: a speaker that the model does not know.
        VoiceError: codes of the wrong shape or range, an unknown speaker, or a bad transcript.
        ConfigError: the bundle names a token that the tokenizer does not have.
    """
    _check_speakers(script, bundle.prompt)
    ordered = _ordered_voices(voices, bundle)
    transcripts = _transcript_turns(ordered, bundle.prompt, rules)
    if verbatim is None:
        earlier = () if history is None else history.turns
        turns = [*transcripts, *earlier, *script.turns]
        spoken = _turn_pieces(turns, bundle.prompt, tokenizer, merge=rules != "none")
    else:
        spoken = _verbatim_pieces(verbatim, bundle.prompt, tokenizer)
    spoken = _read_pieces(spoken, bundle.prompt)
    text_ids = tokenizer.encode_prompt(_in_template(spoken, bundle.prompt, tokenizer))
    text = text_rows(text_ids, bundle.tokens, bundle.lm.num_channels)
    codes = [voice.codes for _, voice in ordered]
    if history_codes is not None:
        codes.append(history_codes)
    rows = [text, *(voice_rows(each, bundle.tokens) for each in codes)]
    return Prompt(np.concatenate(rows, axis=0), len(text_ids), script)


def reference_text(script: str, voices: Mapping[int, Voice], rules: Normalization) -> str:
    """The text of a prompt as MOSS-TTSD makes it: transcripts and script joined as they are.

    Args:
        script: in MOSS-TTSD's own notation.
        voices: speaker (1-based) -> voice, whose transcripts have tags of their own.
        rules: text rules for the whole.

    >>> reference_text("[S1] Yes, ", {}, "none"), reference_text("[S1] Yes, ", {}, "v0.7")
    ('[S1] Yes, ', '[S1]Yes.')
    """
    transcripts = [voices[speaker].transcript for speaker in sorted(voices)]
    return normalize_text("".join(transcripts) + script, rules)


def text_rows(token_ids: list[int], tokens: TokenIds, num_channels: int) -> IntArray:
    """Rows [T, K] of a text: the token in channel 0, the speech pad elsewhere."""
    rows = np.full((len(token_ids), num_channels), tokens.speech_pad, dtype=np.int64)
    rows[:, 0] = token_ids
    return rows


def voice_rows(codes: IntArray, tokens: TokenIds) -> IntArray:
    """Rows [T, K] of aligned codes [K, T]: channel 0 speaks its codes as ids of the text."""
    rows = codes.T.astype(np.int64)
    rows[:, 0] += tokens.speech_start
    return rows


def check_codes(codes: IntArray, bundle: Bundle, speaker: int) -> None:
    """Refuse codes that the model cannot read.

    Args:
        codes: aligned codes, which should be [K, T].
        bundle: number and size of its codebooks.
        speaker: for the message.

    Raises:
        VoiceError: wrong shape, type or range.
    """
    num_codebooks, size = bundle.codec.num_codebooks, bundle.codec.codebook_size
    where = f"the codes of the voice of speaker {speaker}"
    if codes.ndim != 2 or codes.shape[0] != num_codebooks or codes.shape[1] == 0:
        raise VoiceError(
            f"{where} have the shape {list(codes.shape)}; allowed: [{num_codebooks}, 1 or more]"
        )
    if not np.issubdtype(codes.dtype, np.integer):
        raise VoiceError(f"{where} are {codes.dtype}; allowed: integers")
    lowest, highest = int(codes.min()), int(codes.max())
    if lowest < 0 or highest >= size:
        raise VoiceError(f"{where} range from {lowest} to {highest}; allowed: 0 to {size - 1}")


def _check_speakers(script: Script, config: PromptConfig) -> None:
    for turn in script.turns:
        if not 1 <= turn.speaker <= config.max_speakers:
            raise ScriptError(
                f"speaker S{turn.speaker} is none of this model; "
                f"allowed: {allowed_speakers(config.max_speakers)}",
                turn.line,
                turn.column,
            )


def _ordered_voices(voices: Mapping[int, Voice], bundle: Bundle) -> list[tuple[int, Voice]]:
    ordered = sorted(voices.items(), key=lambda item: item[0])
    for speaker, voice in ordered:
        if not 1 <= speaker <= bundle.prompt.max_speakers:
            raise VoiceError(
                f"a voice is given for speaker {speaker}; "
                f"allowed: {allowed_speakers(bundle.prompt.max_speakers)}"
            )
        check_codes(voice.codes, bundle, speaker)
    return ordered


def _transcript_turns(
    voices: list[tuple[int, Voice]], config: PromptConfig, rules: Normalization
) -> list[Turn]:
    """What is said in the voices, in the order in which it is heard there."""
    turns: list[Turn] = []
    for speaker, voice in voices:
        try:
            turns += tagged_turns(voice.transcript, speaker, config.max_speakers)
        except ScriptError as error:
            raise VoiceError(f"the transcript of speaker {speaker}'s voice: {error}") from error
    if not turns:
        return []
    try:
        script = normalize_script(Script(tuple(turns)), rules)
        _check_speakers(script, config)
    except ScriptError as error:
        raise VoiceError(f"the transcripts of the voices: {error}") from error
    return list(script.turns)


def _turn_pieces(
    turns: list[Turn], config: PromptConfig, tokenizer: TextTokenizer, *, merge: bool
) -> list[Piece]:
    """Every turn behind its speaker's token."""
    speaker_ids = [tokenizer.token_id(name) for name in config.speaker_tokens]
    spoken: list[Piece] = []
    speaker = 0
    for turn in turns:
        if not (merge and turn.speaker == speaker):
            spoken.append(speaker_ids[turn.speaker - 1])
        spoken.append(turn.text)
        speaker = turn.speaker
    return spoken


def _verbatim_pieces(text: str, config: PromptConfig, tokenizer: TextTokenizer) -> list[Piece]:
    """A text with the tags of known speakers replaced, and all else left as it is."""
    tags = {f"[S{place}]": name for place, name in enumerate(config.speaker_tokens, start=1)}
    parts = re.split("(" + "|".join(map(re.escape, tags)) + ")", text)
    return [tokenizer.token_id(tags[part]) if part in tags else part for part in parts if part]


def _read_pieces(spoken: list[Piece], config: PromptConfig) -> list[Piece]:
    """The same with every stretch of text as the model reads it; a stretch is read as one."""
    joined: list[Piece] = []
    for is_text, run in groupby(spoken, key=lambda piece: isinstance(piece, str)):
        if is_text:
            joined.append(read_aloud("".join(map(str, run)), config.reading))
        else:
            joined += run
    return joined


def _in_template(
    spoken: list[Piece], config: PromptConfig, tokenizer: TextTokenizer
) -> list[Piece]:
    if config.template.count(_TEXT_FIELD) != 1:
        raise ConfigError(
            f"prompt.template is {config.template!r}; allowed: a text that holds {{text}} once"
        )
    before, after = (
        tokenizer.split_template(part.replace(_SYSTEM_FIELD, config.system))
        for part in config.template.split(_TEXT_FIELD)
    )
    return [*before, *spoken, *after]
