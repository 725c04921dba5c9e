# SPDX-License-Identifier: Apache-2.0
"""Audio from strangers: decoded in a process of its own, which may fail in any way it likes.

This process never parses the audio. It looks at the first bytes to see what the file claims to
be, hands it to `upload_child` with limits on time and memory, and believes nothing of the answer
that it cannot check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from duologue.runtime.audio import validate_reference_audio
from duologue.runtime.errors import VoiceError
from duologue.runtime.voices import ReferenceAudio

Upload = bytes | IO[bytes]
VoiceFormat = Literal["wav", "mp3", "flac", "ogg", "m4a"]
VOICE_FORMATS: tuple[VoiceFormat, ...] = ("wav", "mp3", "flac", "ogg", "m4a")

MAX_RATE_HZ = 48_000

_BYTES_PER_SAMPLE = 4
_MAX_HEAD_BYTES = 4096
_SNIFFED_BYTES = 12
# Nothing of this process's environment goes to the child: it may hold keys.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# Frame sync of MPEG layer III: eleven bits, a version that exists, and the layer.
_MP3_SYNC = (0xFFE2, 0xFFE6)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What an upload may be.

    Attributes:
        max_bytes: of the file.
        formats: by what the file really is.
        min_s, max_s: of the voice; audio up to `max_read_s` is trimmed to `max_s`, as long as
            no transcript speaks of all of it.
        max_read_s: of the file; longer ones are refused.
        max_channels: of the file.
        max_memory_bytes: that decoding may take.
        timeout_s: that decoding may take.
        temp_dir: where what came as bytes lies while it is read, or None for the system's place.
    """

    max_bytes: int = 50_000_000
    formats: Collection[str] = VOICE_FORMATS
    min_s: float = 1.0
    max_s: float = 30.0
    max_read_s: float = 120.0
    max_channels: int = 2
    max_memory_bytes: int = 1 << 30
    timeout_s: float = 20.0
    temp_dir: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DecodedUpload:
    """Audio as it came out.

    Attributes:
        audio: mono, at most 48 kHz.
        trimmed_from_s: length of the whole file when only its beginning was taken, else None.
    """

    audio: ReferenceAudio
    trimmed_from_s: float | None


def decode_upload(
    data: Upload, limits: UploadLimits | None = None, *, transcript: str = ""
) -> DecodedUpload:
    """Decode a file that somebody sent. Blocks: call it from a thread.

    Args:
        data: the file, or what is in it. Its name says nothing, and is not asked for.
        limits: None takes the usual ones.
        transcript: what is said in it; with a transcript, nothing is trimmed.

    Raises:
        VoiceError: no audio, broken, silent, too short, too long, too large, or more work than
            the limits allow; says which.
    """
    limits = limits or UploadLimits()
    with _opened(data, limits) as file:
        form = _sniff(file, limits)
        answer = _ask_child(file, form, limits)
    head, _, body = answer.partition(b"\n")
    try:
        facts: dict[str, Any] = json.loads(head)
        if "error" in facts:
            raise VoiceError(f"the {form} file cannot be a voice: {facts['error']}")
        rate_hz, duration_s = int(facts["sample_rate_hz"]), float(facts["duration_s"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VoiceError(f"the {form} file cannot be decoded") from error
    samples = np.frombuffer(body[: len(body) // _BYTES_PER_SAMPLE * _BYTES_PER_SAMPLE], "<f4")
    validate_reference_audio(samples, rate_hz, max_duration_s=limits.max_s)
    is_trimmed = duration_s > limits.max_s
    if is_trimmed and transcript:
        raise VoiceError(
            f"the audio lasts {duration_s:.1f} s; allowed: {limits.max_s:g} s, or more without a "
            "transcript, of which the beginning is taken"
        )
    audio = ReferenceAudio(samples.astype(np.float32), rate_hz, transcript)
    return DecodedUpload(audio, duration_s if is_trimmed else None)


@contextmanager
def _opened(data: Upload, limits: UploadLimits) -> Iterator[int]:
    """The file itself, by its number: what has been read of it stands at its beginning."""
    if isinstance(data, bytes):
        with tempfile.TemporaryFile(dir=limits.temp_dir) as file:
            file.write(data)
            file.flush()
            yield file.fileno()
    else:
        # A number of our own: whoever closes the file meanwhile does not give its number away. A
        # file that is still in memory becomes one when it is asked for its number.
        number = os.dup(data.fileno())
        try:
            data.flush()
            yield number
        finally:
            os.close(number)


def _sniff(file: int, limits: UploadLimits) -> VoiceFormat:
    """What a file claims to be, by its first bytes."""
    size = os.fstat(file).st_size
    if size > limits.max_bytes:
        raise VoiceError(f"the file has {size} bytes; allowed: {limits.max_bytes}")
    form = _form_of(os.pread(file, _SNIFFED_BYTES, 0))
    if form is None or form not in limits.formats:
        what = "is empty" if not size else f"is {form or 'no audio that is known here'}"
        raise VoiceError(f"the file {what}; allowed: {', '.join(limits.formats)}")
    return form


def _form_of(head: bytes) -> VoiceFormat | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[4:8] == b"ftyp":
        return "m4a"
    is_mp3 = head[:3] == b"ID3" or int.from_bytes(head[:2], "big") & 0xFFE6 in _MP3_SYNC
    return "mp3" if is_mp3 and len(head) == _SNIFFED_BYTES else None


def _ask_child(file: int, form: str, limits: UploadLimits) -> bytes:
    """What the child says; nothing if it died."""
    orders = {
        "format": form,
        "min_s": limits.min_s,
        "max_s": limits.max_s,
        "max_read_s": limits.max_read_s,
        "max_channels": limits.max_channels,
        "max_rate_hz": MAX_RATE_HZ,
        "max_memory_bytes": limits.max_memory_bytes,
        "max_cpu_s": max(1, round(limits.timeout_s)),
    }
    command = [sys.executable, "-I", "-m", "duologue.runtime.gateway.upload_child"]
    os.lseek(file, 0, os.SEEK_SET)
    with subprocess.Popen(
        [*command, json.dumps(orders)],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        timer = threading.Timer(limits.timeout_s, child.kill)
        timer.start()
        try:
            answer = _read_at_most(child.stdout, _max_answer_bytes(limits))
        finally:
            is_late = not timer.is_alive()
            timer.cancel()
            child.kill()
    if is_late:
        raise VoiceError(f"the {form} file took longer than {limits.timeout_s:g} s to decode")
    return answer


def _read_at_most(pipe: IO[bytes], limit: int) -> bytes:
    answer = pipe.read(limit + 1)
    return answer if len(answer) <= limit else b""


def _max_answer_bytes(limits: UploadLimits) -> int:
    return _MAX_HEAD_BYTES + (int(limits.max_s * MAX_RATE_HZ) + 1) * _BYTES_PER_SAMPLE
