# SPDX-License-Identifier: Apache-2.0
"""Voices and results put together from the settings."""

from __future__ import annotations

from pathlib import Path

from duologue.runtime.gateway.connection import Client
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.model_identity import ModelIdentity
from duologue.runtime.gateway.results_cache import DiskResults
from duologue.runtime.gateway.results_client import ResultsClient
from duologue.runtime.gateway.served_bundle import read_served_bundle
from duologue.runtime.gateway.settings import Settings
from duologue.runtime.gateway.uploads import UploadLimits
from duologue.runtime.gateway.voices_client import VoicesClient
from duologue.runtime.gateway.voices_desk import VoiceDesk
from duologue.runtime.places import results_dir, voices_dir


def furnish_voices(
    settings: Settings,
    client: Client,
    metrics: Metrics,
    bundle_dir: Path | None,
    model: ModelIdentity,
) -> tuple[VoiceDesk, Client]:
    """The desk of the voices, and a client that knows them and remembers results.

    Args:
        settings: where files lie, and whether results are kept.
        client: that makes the audio.
        metrics: count hits and misses.
        bundle_dir: of the bundle behind the client; None takes no voices and keeps no results.
        model: what the client reaches at present.

    Raises:
        ConfigError: no bundle is there, or its voices cannot be read.
    """
    storage, cache = settings.storage, settings.cache
    bundle = None if bundle_dir is None else read_served_bundle(bundle_dir)
    desk = VoiceDesk(
        bundle,
        storage.voice_samples_dir or voices_dir(),
        client.encode,
        UploadLimits(
            max_bytes=storage.max_voice_file_size,
            formats=storage.supported_formats,
            temp_dir=storage.temp_dir,
        ),
        reserved=frozenset(settings.voices.aliases),
    )
    if bundle is not None and cache.enabled:
        folder = storage.cache_dir or results_dir()
        results = DiskResults(folder, max_bytes=cache.max_size, ttl_s=cache.ttl)
        client = ResultsClient(client, results, bundle, metrics, model)
    return desk, VoicesClient(client, desk)
