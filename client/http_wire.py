# SPDX-License-Identifier: Apache-2.0
"""Dialogues over the gateway's HTTP: bodies out, lines of JSON in. Pure: no connection here.

Each line is an event: audio with the turn that is spoken where it begins, then one last event
with the time line, or an error by its code.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from duologue.client.errors import EngineError, RequestError
from duologue.client.http_errors import error_from_answer
from duologue.client.types import AudioChunk, SpeechOptions, TurnTime, Voice

DEFAULT_URL = "http://localhost:9000"
DIALOGUE_PATH = "/v1/audio/dialogue"
READY_PATH = "/readyz"

_RATE_HEADER = "x-sample-rate"
_SEED_HEADER = "x-seed"
_ID_HEADER = "x-request-id"
_PLAIN_FIELDS = (
    *("seed", "temperature", "top_k", "top_p", "repetition_penalty"),
    *("deadline_s", "max_ahead_s"),
)


def read_url(url: str) -> str:
    """The base address of a gateway, without a slash at its end.

    Raises:
        RequestError: it is no address of HTTP.

    >>> read_url("https://tts.example.org/speech/")
    'https://tts.example.org/speech'
    """
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number
        is_good = False
    if not is_good or "?" in url or "#" in url:
        raise RequestError(
            f"the server's address is {url!r}; allowed: http://HOST:PORT, https://HOST:PORT"
        )
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, to which no proxy leads.

    >>> is_loopback("http://[::1]:9000"), is_loopback("http://tts.example.org")
    (True, False)
    """
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def build_body(script: str, options: SpeechOptions) -> bytes:
    """The JSON that asks for a script to be spoken, as lines with bare samples.

    Raises:
        RequestError: an option cannot be written as JSON.
    """
    body: dict[str, Any] = {
        "input": script,
        "stream_format": "ndjson",
        "response_format": "pcm",
        "normalization": options.normalization,
        "text_frontend": options.text_frontend,
        "mode": options.mode,
        "greedy": options.greedy,
        "max_new_tokens": options.max_frames,
        **{name: getattr(options, name) for name in _PLAIN_FIELDS},
    }
    if options.voices:
        body["voices"] = {str(k): _write_voice(voice) for k, voice in options.voices.items()}
    sent = {name: value for name, value in body.items() if value is not None}
    try:
        return json.dumps(sent, allow_nan=False, default=_as_number).encode()
    except (TypeError, ValueError) as error:
        raise RequestError(f"an option cannot be sent: {error}") from error


class EventReader:
    """Reads the lines of one answer in the order in which they come.

    Attributes:
        is_complete: the last chunk has come.
    """

    def __init__(self, headers: Any, address: str) -> None:
        """Begin.

        Args:
            headers: of the answer: a mapping that asks for no case.
            address: of the server, for messages.

        Raises:
            EngineError: the answer is not one of a gateway.
        """
        self.is_complete = False
        self._address = address
        try:
            self._rate_hz = int(headers[_RATE_HEADER])
            self._seed = int(headers[_SEED_HEADER])
        except (KeyError, ValueError) as error:
            raise EngineError(f"{address} answered without a sample rate and a seed") from error
        self._stream_id = str(headers.get(_ID_HEADER, ""))
        self._num_chunks = 0
        self._num_samples = 0
        self._audio: dict[str, Any] = {"audio": "", "turn": 0, "speaker": 1, "timing": "estimated"}

    def read(self, line: bytes) -> AudioChunk | None:
        """Read one line.

        Returns:
            The chunk that it completes, if any: the last samples wait for the time line, which
            comes right behind them.

        Raises:
            DuologueError: the line tells of an error, by its type.
            EngineError: it is no event.
        """
        try:
            event = json.loads(line)
            kind = event["type"]
            if kind == "speech.audio.error":
                raise error_from_answer(500, line, self._address)
            if kind == "speech.audio.delta":
                self._audio = event
                return None if event.get("is_last", False) else self._chunk()
            if kind == "speech.audio.done":
                self.is_complete = True
                return self._chunk(
                    is_last=True,
                    finish_reason=str(event["finish_reason"]),
                    turn_times=tuple(map(_read_segment, event["voice_segments"])),
                )
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
            raise EngineError(f"{self._address} sent what is no event: {error!r}") from error
        return None

    def cut_short(self) -> EngineError:
        """The error of an answer that ends before its last event; not raised."""
        return EngineError(
            f"the stream ended after {self._num_chunks} chunks, without its last one"
        )

    def _chunk(
        self,
        *,
        is_last: bool = False,
        finish_reason: str | None = None,
        turn_times: tuple[TurnTime, ...] = (),
    ) -> AudioChunk:
        """The samples at hand as a chunk; none where the last event comes without any."""
        audio = self._audio
        samples = np.frombuffer(base64.b64decode(audio["audio"]), "<i2").astype(np.int16)
        chunk = AudioChunk(
            samples=samples,
            sample_rate_hz=self._rate_hz,
            index=self._num_chunks,
            first_sample=self._num_samples,
            turn=int(audio["turn"]),
            speaker=int(audio["speaker"]),
            turn_timing=str(audio.get("timing", "estimated")),
            stream_id=self._stream_id,
            seed=self._seed,
            is_last=is_last,
            finish_reason=finish_reason,
            turn_times=turn_times,
        )
        self._audio = {**audio, "audio": ""}
        self._num_chunks += 1
        self._num_samples += len(samples)
        return chunk


def _as_number(value: Any) -> Any:
    """A number of numpy as one of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is neither a number nor a text")


def _write_voice(voice: Voice | str) -> Any:
    if isinstance(voice, str):
        return voice
    return {"codes": voice.codes.tolist(), "transcript": voice.transcript}


def _read_segment(segment: Any) -> TurnTime:
    return TurnTime(
        speaker=int(segment["speaker"]),
        start_s=float(segment["start_time_seconds"]),
        end_s=float(segment["end_time_seconds"]),
    )
