# SPDX-License-Identifier: Apache-2.0
"""The synthesizer of this process behind the verbs of a client, and a codec with a clock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.benchmarks.stream.listen import Listener
from duologue.benchmarks.stream.records import Int16Array
from duologue.benchmarks.workload import CodeShape
from duologue.client.types import SpeechKwargs
from duologue.client.types import Voice as ClientVoice
from duologue.runtime.audio import to_int16
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.registry import load_codec
from duologue.runtime.config import Bundle, CodecConfig
from duologue.runtime.core import FloatArray, IntArray, SpeechRequest, Voice
from duologue.runtime.errors import DuologueError
from duologue.runtime.stream import SpeechStream
from duologue.runtime.synthesizer import Synthesizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


def code_shape(bundle_dir: Path) -> CodeShape:
    """What the codes of a bundle look like.

    Raises:
        ConfigError: there is no such bundle.
    """
    codec = Bundle.load(bundle_dir).codec
    return CodeShape(codec.num_codebooks, codec.codebook_size, codec.frame_rate_hz)


@dataclass(frozen=True, slots=True, eq=False)
class InProcessChunk:
    """A chunk as a client gets it.

    Attributes:
        samples: int16 [N]: the door makes the same conversion.
        sample_rate_hz: of the samples.
    """

    samples: Int16Array
    sample_rate_hz: int


class InProcessStream:
    """Chunks of one request of the synthesizer."""

    def __init__(self, stream: SpeechStream, *, is_paced: bool) -> None:
        self._stream = stream
        self._is_paced = is_paced

    def __iter__(self) -> Iterator[InProcessChunk]:
        num_samples = 0
        for chunk in self._stream:
            num_samples += len(chunk.samples)
            if self._is_paced:
                self._stream.acknowledge(num_samples)
            yield InProcessChunk(to_int16(chunk.samples), chunk.sample_rate_hz)

    def close(self) -> None:
        """Cancel what is not finished."""
        self._stream.cancel()


class InProcessSpeaker:
    """A synthesizer that is asked like a client; a `listen.Speaker`.

    Args:
        synthesizer: who speaks.
    """

    def __init__(self, synthesizer: Synthesizer) -> None:
        self._synthesizer = synthesizer

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> InProcessStream:
        """Speak a script; takes the options that the benchmarks use.

        Raises:
            DuologueError: as `Synthesizer.submit`.
        """
        voices = {
            speaker: Voice(voice.codes.astype("int64"), voice.transcript)
            for speaker, voice in (options.get("voices") or {}).items()
            if isinstance(voice, ClientVoice)
        }
        request = SpeechRequest(
            script,
            voices=voices,
            seed=options.get("seed"),
            max_frames=options.get("max_frames"),
            max_ahead_s=options.get("max_ahead_s"),
        )
        is_paced = request.max_ahead_s is not None
        return InProcessStream(self._synthesizer.submit(request), is_paced=is_paced)


@contextlib.contextmanager
def open_inside(bundle_dir: Path, engine: str) -> Iterator[Listener]:
    """A listener to a synthesizer of this process.

    Raises:
        ConfigError: the bundle cannot be loaded.
    """
    with Synthesizer.load(bundle_dir, engine=engine) as synthesizer:
        yield Listener(InProcessSpeaker(synthesizer), (DuologueError,))


class TimedCodec:
    """A codec that adds up how long its decoder ran, and over how many frames.

    Attributes:
        decode_s: seconds inside `decode`.
        num_frames: frames that were decoded, context included.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._lock = threading.Lock()
        self.reset()

    @staticmethod
    def load(bundle_dir: Path) -> TimedCodec:
        """The codec of a bundle, with a clock."""
        return TimedCodec(load_codec(Bundle.load(bundle_dir), bundle_dir))

    def reset(self) -> None:
        """Begin to count from nothing."""
        self.decode_s = 0.0
        self.num_frames = 0

    @property
    def config(self) -> CodecConfig:
        """Of the codec inside."""
        return self._codec.config

    def encode(self, samples: FloatArray) -> IntArray:
        """As the codec inside."""
        return self._codec.encode(samples)

    def decode(self, codes: IntArray) -> FloatArray:
        """As the codec inside."""
        started_s = time.perf_counter()
        samples = self._codec.decode(codes)
        with self._lock:
            self.decode_s += time.perf_counter() - started_s
            self.num_frames += codes.shape[0] * codes.shape[2]
        return samples

    def close(self) -> None:
        """Close the codec inside."""
        self._codec.close()
