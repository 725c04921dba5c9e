# SPDX-License-Identifier: Apache-2.0
"""A client that remembers: the same request with the same seed is not spoken twice."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from duologue.client.types import AudioChunk, SpeechKwargs, Voice
from duologue.runtime.errors import DuologueError
from duologue.runtime.gateway.connection import ChunkStream, Client, ForwardingClient
from duologue.runtime.gateway.disk_threads import DiskThreads
from duologue.runtime.gateway.faults import StorageError
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.model_identity import ModelIdentity
from duologue.runtime.gateway.results_cache import ResultsCache
from duologue.runtime.gateway.results_format import pack_chunks, unpack_chunks
from duologue.runtime.gateway.served_bundle import ServedBundle
from duologue.runtime.text.script import parse_script

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Longer answers are not kept: each running stream may hold so much memory.
MAX_ENTRY_BYTES = 16_000_000

# A cache that lets wait for longer is one that finds nothing: the model speaks meanwhile.
PATIENCE_S = 2.0

# Asked once: the answer is read from the disk.
_VERSION = version("duologue")

# These say when the audio comes, and not what it is.
_PACE = ("deadline_s", "max_ahead_s")


def result_key(
    script: str, options: Mapping[str, Any], bundle: ServedBundle, model: str
) -> str | None:
    """A name for all that decides about the model's audio, or None for audio left to chance.

    Args:
        script: as it goes to the model.
        options: fields of `SpeechOptions`; voices are those of the bundle by name, others as
            codes.
        bundle: behind the server.
        model: name of what makes the audio of it, see `ModelIdentity`.
    """
    if options.get("seed") is None:
        return None
    try:
        turns = parse_script(script, max_speakers=bundle.max_speakers).turns
    except DuologueError:
        return None  # the model's server says what is wrong with it
    kept = {name: value for name, value in options.items() if name not in (*_PACE, "voices")}
    facts = {
        "duologue": _VERSION,
        "bundle": bundle.version,
        "model": model,
        "turns": [(turn.speaker, turn.text) for turn in turns],
        "options": {name: value for name, value in kept.items() if value is not None},
        "voices": {speaker: _facts(v) for speaker, v in (options.get("voices") or {}).items()},
    }
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(voice: Voice | str) -> Any:
    if isinstance(voice, str):
        return voice
    codes = np.ascontiguousarray(voice.codes, "<i4")
    digest = hashlib.sha256(codes.tobytes()).hexdigest()
    return [digest, list(codes.shape), voice.transcript]


class ResultsClient(ForwardingClient):
    """Speaks through another client what the cache has not got.

    Args:
        client: that makes the audio.
        cache: of whole answers.
        bundle: behind the client.
        metrics: count hits and misses.
        model: what the client reaches at present; None where nobody says so.
    """

    def __init__(
        self,
        client: Client,
        cache: ResultsCache,
        bundle: ServedBundle,
        metrics: Metrics,
        model: ModelIdentity | None = None,
    ) -> None:
        super().__init__(client)
        self._cache = cache
        self._bundle = bundle
        self._metrics = metrics
        self._model = model or ModelIdentity()
        self._disk = DiskThreads("results")

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> ChunkStream:
        """Speak a script, or give again what was spoken."""
        key = result_key(script, options, self._bundle, self._model.name)
        if key is None:
            return super().stream(script, **options)
        kept = _Kept(self._cache, self._disk, key)
        return _RememberedStream(self._client, kept, self._metrics, script, options)

    async def close(self) -> None:
        """Close the connection and the cache."""
        await super().close()
        with suppress(StorageError):
            await self._disk.run(self._cache.close, PATIENCE_S)
        self._disk.close()


class _Kept:
    """The place of one answer in the cache."""

    def __init__(self, cache: ResultsCache, disk: DiskThreads, key: str) -> None:
        self._cache = cache
        self._disk = disk
        self._key = key

    async def find(self) -> list[AudioChunk] | None:
        """The chunks that lie there, unless the disk takes too long."""
        with suppress(StorageError):
            return await self._disk.run(self._read, PATIENCE_S)
        return None

    async def keep(self, chunks: Sequence[AudioChunk]) -> None:
        """Put chunks there, and wait for it no longer than a listener may."""
        with suppress(StorageError):
            await self._disk.run(
                lambda: self._cache.put(self._key, pack_chunks(chunks)), PATIENCE_S
            )

    def _read(self) -> list[AudioChunk] | None:
        data = self._cache.get(self._key)
        return None if data is None else unpack_chunks(data)


class _RememberedStream:
    """Chunks from the cache, or from the model and then into the cache."""

    def __init__(
        self,
        client: Client,
        kept: _Kept,
        metrics: Metrics,
        script: str,
        options: SpeechKwargs,
    ) -> None:
        self._client = client
        self._kept = kept
        self._metrics = metrics
        self._script = script
        self._options = options
        self._found: deque[AudioChunk] | None = None
        self._stream: ChunkStream | None = None
        self._taken: list[AudioChunk] = []
        self._num_bytes = 0

    async def __anext__(self) -> AudioChunk:
        if self._stream is None:
            if not self._found:
                raise StopAsyncIteration
            return self._found.popleft()
        chunk = await self._stream.__anext__()
        self._num_bytes += chunk.samples.nbytes
        if self._num_bytes > MAX_ENTRY_BYTES:
            self._taken.clear()
        else:
            self._taken.append(chunk)
            if chunk.is_last:
                await self._kept.keep(self._taken)
        return chunk

    async def __aenter__(self) -> _RememberedStream:
        chunks = await self._kept.find()
        self._metrics.looked_up(is_hit=chunks is not None)
        if chunks is not None:
            self._found = deque(chunks)
        else:
            self._stream = self._client.stream(self._script, **self._options)
            await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            await self._stream.__aexit__(kind, error, trace)
