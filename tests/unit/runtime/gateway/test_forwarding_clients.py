"""Clients in front of others say once how the rest is passed on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from scripted_client import ScriptedClient

from duologue.models import noise_bundle_path
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.results_cache import DiskResults
from duologue.runtime.gateway.results_client import ResultsClient
from duologue.runtime.gateway.served_bundle import read_served_bundle
from duologue.runtime.gateway.voices_client import VoicesClient
from duologue.runtime.gateway.voices_desk import VoiceDesk


def wrapped(kind: type, inner: ScriptedClient, folder: Path) -> ResultsClient | VoicesClient:
    bundle = read_served_bundle(noise_bundle_path())
    if kind is VoicesClient:
        return VoicesClient(inner, VoiceDesk(bundle, folder / "voices", inner.encode))
    results = DiskResults(folder / "results", max_bytes=1_000_000, ttl_s=60)
    return ResultsClient(inner, results, bundle, Metrics())


@pytest.mark.parametrize("kind", [ResultsClient, VoicesClient])
def test_what_a_client_does_not_do_itself_reaches_the_one_behind(
    kind: type, tmp_path: Path
) -> None:
    inner = ScriptedClient()
    client = wrapped(kind, inner, tmp_path)

    async def run() -> None:
        assert await client.is_ready()
        inner.ready = False
        assert not await client.is_ready()
        assert (await client.encode(np.ones(12_800, np.float32))).shape == (8, 10)
        async with client.stream("[S1]Hi.", greedy=True) as stream:
            assert (await stream.__anext__()).index == 0
        await client.close()

    asyncio.run(run())
    assert inner.asked == [("[S1]Hi.", {"greedy": True})]
    assert inner.is_closed


@pytest.mark.parametrize("kind", [ResultsClient, VoicesClient])
def test_a_client_repeats_no_verb_that_it_only_passes_on(kind: type) -> None:
    assert {"encode", "is_ready"}.isdisjoint(vars(kind))
