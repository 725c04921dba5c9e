# SPDX-License-Identifier: Apache-2.0
"""Where the audio comes from: a server that runs, one of our own, or this very process."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from duologue.cli.doors import Client, Doors, Encoder, RuntimeStream, Synthesizer
from duologue.cli.own_voices import find_voices

if TYPE_CHECKING:
    from duologue.client.types import AudioChunk, SpeechOptions, Voice
    from duologue.runtime.core import PcmChunk, SpeechRequest

SpeechSource = Callable[[str, "SpeechOptions"], "Generator[AudioChunk, None, None]"]


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """What the command line says about it.

    Attributes:
        server: "host:port" of a running server's gRPC or "http://..." of its gateway, or None.
        bundle: "default" or a folder, for a server of our own.
        engine: "auto", "onnx", "torch" or "trtllm", for a server of our own.
        api_key: for a running server.
        voices: speaker -> name; looked up here for a server of our own, and by a running one.
    """

    server: str | None
    bundle: str
    engine: str
    api_key: str | None = None
    voices: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source that is ready to speak.

    Attributes:
        kind: where the audio is made.
        speak: script and options to chunks; closing the iterator cancels the rest.
        is_trained: False for a model that makes noise; None when only the server knows.
    """

    kind: Literal["server", "embedded", "in_process"]
    speak: SpeechSource
    is_trained: bool | None


@contextlib.contextmanager
def open_source(
    choice: SourceChoice, doors: Doors, say: Callable[[str], None]
) -> Iterator[OpenSource]:
    """Open what the command line asks for; closed with the `with` block.

    Args:
        choice: the command line.
        doors: the rest of the house.
        say: takes a line for the person at the terminal.

    Raises:
        VoiceError: nobody goes by a name that is asked for; nothing was started then.
    """
    with contextlib.ExitStack() as stack:
        if choice.server is not None:
            running = doors.connect(choice.server, api_key=choice.api_key)
            client = stack.enter_context(contextlib.closing(running))
            yield OpenSource("server", _speaker(client), None)
            return
        from duologue.runtime.config import Bundle

        bundle_dir = doors.resolve_bundle(choice.bundle)
        bundle = Bundle.load(bundle_dir)
        is_trained = bundle.trained
        own = stack.enter_context(find_voices(choice.voices, bundle, bundle_dir))
        reason = doors.why_not_embedded()
        if reason is None:
            say("starting a Triton server on this machine")
            server = stack.enter_context(doors.start_server(bundle_dir, engine=choice.engine))
            client = stack.enter_context(contextlib.closing(doors.connect(server.grpc_url)))
            # It is our own, and so reached over gRPC, where voices can be encoded.
            voices = own.encoded(lambda samples: cast("Encoder", client).encode(samples))
            yield OpenSource("embedded", _speaker(client, voices), is_trained)
            return
        say(f"without a Triton server: {reason}")
        synthesizer = doors.load_synthesizer(bundle_dir, engine=choice.engine)
        stack.enter_context(contextlib.closing(synthesizer))
        voices = own.encoded(lambda samples: synthesizer.codec.encode(samples))
        yield OpenSource("in_process", _in_process_speaker(synthesizer, voices), is_trained)


def _speaker(client: Client, voices: Mapping[int, Voice] | None = None) -> SpeechSource:
    def speak(script: str, options: SpeechOptions) -> Generator[AudioChunk, None, None]:
        options = dataclasses.replace(options, voices={**options.voices, **(voices or {})})
        fields = dataclasses.fields(options)
        stream = client.stream(script, **{f.name: getattr(options, f.name) for f in fields})
        with contextlib.closing(stream):
            yield from stream

    return speak


def _in_process_speaker(synthesizer: Synthesizer, voices: Mapping[int, Voice]) -> SpeechSource:
    def speak(script: str, options: SpeechOptions) -> Generator[AudioChunk, None, None]:
        options = dataclasses.replace(options, voices={**options.voices, **voices})
        stream = synthesizer.submit(_request(script, options))
        try:
            for chunk in stream:
                yield _as_audio_chunk(chunk, stream)
        finally:
            stream.cancel()

    return speak


def _request(script: str, options: SpeechOptions) -> SpeechRequest:
    import numpy as np

    from duologue.runtime.core import SamplingOverrides, SpeechRequest, Voice

    return SpeechRequest(
        script=script,
        voices={
            k: Voice(voice.codes.astype(np.int64), voice.transcript)
            for k, voice in options.voices.items()
            if not isinstance(voice, str)
        },
        voice_ids={k: name for k, name in options.voices.items() if isinstance(name, str)},
        seed=options.seed,
        sampling=SamplingOverrides(
            greedy=options.greedy,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            repetition_penalty=options.repetition_penalty,
        ),
        normalization=options.normalization,
        text_frontend=options.text_frontend,
        mode=options.mode,
        max_frames=options.max_frames,
    )


def _as_audio_chunk(chunk: PcmChunk, stream: RuntimeStream) -> AudioChunk:
    from duologue.client.types import AudioChunk, TurnTime
    from duologue.client.wav import as_int16

    return AudioChunk(
        samples=as_int16(chunk.samples),
        sample_rate_hz=chunk.sample_rate_hz,
        index=chunk.index,
        first_sample=chunk.first_sample,
        turn=chunk.turn,
        speaker=chunk.speaker,
        turn_timing=chunk.turn_timing.value,
        stream_id=stream.stream_id,
        seed=stream.seed,
        is_last=chunk.is_last,
        finish_reason=None if chunk.finish_reason is None else chunk.finish_reason.value,
        turn_times=tuple(
            TurnTime(time.speaker, time.start_s, time.end_s) for time in chunk.turn_times
        ),
    )
