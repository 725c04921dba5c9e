"""Results that are given again: only the very same, only whole ones, never a pickle."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import pytest
from scripted_client import ScriptedClient, chunk
from sounds import noise

from duologue.client.errors import EngineError
from duologue.client.types import Voice
from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.results_cache import DiskResults
from duologue.runtime.gateway.results_client import ResultsClient, result_key
from duologue.runtime.gateway.results_format import pack_chunks, unpack_chunks
from duologue.runtime.gateway.served_bundle import ServedBundle
from duologue.runtime.presets import PresetVoices

BUNDLE = ServedBundle(PresetVoices(), 16_000, "c" * 32, "b" * 64, 2)
SCRIPT = "[S1]Hello.[S2]Hi."


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskResults]:
    opened = DiskResults(tmp_path / "results", max_bytes=10_000_000, ttl_s=3600)
    yield opened
    opened.close()


def key(
    script: str = SCRIPT, bundle: ServedBundle = BUNDLE, model: str = "onnx", **options: Any
) -> str | None:
    return result_key(script, {"seed": 1, **options}, bundle, model)


def voice(seed: int, transcript: str = "Said before.") -> Voice:
    codes = np.random.default_rng(seed).integers(0, 1024, (8, 20)).astype(np.int32)
    return Voice(codes, transcript)


def test_the_same_words_with_another_wav_never_share_a_result() -> None:
    keys = {key(voices={1: voice(seed)}) for seed in range(20)}
    assert len(keys) == 20
    assert key(voices={1: voice(1)}) == key(voices={1: voice(1)})


def test_everything_that_changes_the_audio_changes_the_key() -> None:
    other = ServedBundle(PresetVoices(), 16_000, "c" * 32, "d" * 64, 2)
    keys = [
        key(),
        key("[S1]Hello.[S2]Hi!"),
        key("[S2]Hello.[S1]Hi."),
        key("[S1]Hello. Hi."),
        key(seed=2),
        key(greedy=True),
        key(temperature=0.5),
        key(top_k=5),
        key(top_p=0.5),
        key(repetition_penalty=1.1),
        key(normalization="v0.7"),
        key(text_frontend="zh_en"),
        key(mode="turns"),
        key(max_frames=10),
        key(voices={1: "Ann"}),
        key(voices={2: "Ann"}),
        key(voices={1: voice(1)}),
        key(voices={2: voice(1)}),
        key(voices={1: voice(1, "Other words.")}),
        key(bundle=other),
        key(model="torch"),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_what_changes_only_the_pace_or_the_notation_does_not_change_the_key() -> None:
    assert key(deadline_s=5.0, max_ahead_s=2.0) == key()
    assert key("S1: Hello.\nS2: Hi.") == key()
    assert key(temperature=None, voices={}) == key()


def test_audio_left_to_chance_and_broken_scripts_have_no_key() -> None:
    assert key(seed=None) is None
    assert key("[S9]Who?") is None
    assert key("") is None


def test_bytes_come_back_and_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    cache = DiskResults(tmp_path, max_bytes=4_000_000, ttl_s=60)
    small = [f"small{i}" for i in range(100)]
    for name in small:
        cache.put(name, bytes(20_000))
    for i in range(40):
        data = bytes([i]) * 200_000
        cache.put(f"k{i}", data)
        assert cache.get(f"k{i}") == data
        assert cache.get("k0") is not None  # used again and again
        assert sum(p.stat().st_size for p in tmp_path.rglob("*.val")) <= 4_000_000
    assert not any(cache.get(name) for name in small)
    assert cache.get("k1") is None
    cache.put("large", bytes(500_000))
    assert cache.get("large") is None
    cache.close()


def test_nothing_is_ever_unpickled(cache: DiskResults, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="allowed: bytes"):
        cache._cache.set("k", [1, 2])
    with pytest.raises(TypeError, match="allowed: str"):
        cache._cache.set(("k",), b"data")

    class Bomb:
        def __reduce__(self) -> Any:
            return (tmp_path.joinpath("exploded").touch, ())

    cache.put("k", b"good")
    database = sqlite3.connect(tmp_path / "results" / diskcache.core.DBNAME)
    database.execute(
        "UPDATE Cache SET mode = ?, value = ?, filename = NULL",
        (diskcache.core.MODE_PICKLE, pickle.dumps(Bomb())),
    )
    database.commit()
    database.close()
    assert cache.get("k") is None
    assert not (tmp_path / "exploded").exists()


def test_an_entry_that_was_damaged_on_the_disk_is_none(cache: DiskResults, tmp_path: Path) -> None:
    cache.put("k", noise().tobytes())
    (path,) = (tmp_path / "results").rglob("*.val")
    path.write_bytes(path.read_bytes()[:-8])
    assert cache.get("k") is None


def test_a_folder_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        DiskResults(tmp_path / "file" / "results", max_bytes=1_000_000, ttl_s=60)


def test_chunks_are_packed_and_read_back_as_they_were() -> None:
    chunks = [chunk(0), chunk(1), chunk(2, is_last=True)]
    read = unpack_chunks(pack_chunks(chunks))
    assert read is not None
    for was, is_ in zip(chunks, read, strict=True):
        np.testing.assert_array_equal(is_.samples, was.samples)
        assert (is_.turn_times, is_.finish_reason, is_.seed, is_.first_sample) == (
            was.turn_times,
            was.finish_reason,
            was.seed,
            was.first_sample,
        )


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]\n", b"null\n", pack_chunks([chunk(0)]), pack_chunks([chunk(0)])[:-2]],
    ids=["empty", "object", "none", "null", "no end", "cut"],
)
def test_bytes_that_are_no_whole_answer_are_none(data: bytes) -> None:
    assert unpack_chunks(data) is None


async def _spoken(client: ResultsClient, script: str, take: int | None = None, **options: Any):
    chunks = []
    async with client.stream(script, **options) as stream:
        while len(chunks) != take:
            try:
                chunks.append(await stream.__anext__())
            except StopAsyncIteration:
                break
    return chunks


def test_a_whole_answer_is_spoken_once_and_given_twice(cache: DiskResults) -> None:
    inner, metrics = ScriptedClient(), Metrics()
    client = ResultsClient(inner, cache, BUNDLE, metrics)

    async def run() -> tuple[list, list]:
        return await _spoken(client, SCRIPT, seed=5), await _spoken(client, SCRIPT, seed=5)

    first, second = asyncio.run(run())

    assert len(inner.asked) == 1
    assert [c.samples.tolist() for c in second] == [c.samples.tolist() for c in first]
    assert second[-1].is_last
    page = metrics.page().decode()
    assert 'duologue_cache_requests_total{outcome="hit"} 1.0' in page
    assert 'duologue_cache_requests_total{outcome="miss"} 1.0' in page


def test_an_answer_that_broke_off_is_never_kept(cache: DiskResults) -> None:
    inner = ScriptedClient()
    client = ResultsClient(inner, cache, BUNDLE, Metrics())

    async def run() -> None:
        await _spoken(client, SCRIPT, take=2, seed=5)
        with pytest.raises(EngineError):
            await _spoken(client, "[S1]break", seed=5)
        await _spoken(client, SCRIPT, seed=5)
        with pytest.raises(EngineError):
            await _spoken(client, "[S1]break", seed=5)

    asyncio.run(run())
    assert len(inner.asked) == 4
    assert inner.streams[0].is_left


def test_requests_without_a_seed_go_past_the_cache(cache: DiskResults) -> None:
    inner = ScriptedClient()
    client = ResultsClient(inner, cache, BUNDLE, Metrics())

    async def run() -> None:
        await _spoken(client, SCRIPT)
        await _spoken(client, SCRIPT)
        await client.close()

    asyncio.run(run())
    assert len(inner.asked) == 2
    assert inner.is_closed


def test_a_very_long_answer_is_not_held_in_memory(
    cache: DiskResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duologue.runtime.gateway.results_client.MAX_ENTRY_BYTES", 100_000)
    inner = ScriptedClient()
    client = ResultsClient(inner, cache, BUNDLE, Metrics())

    async def run() -> None:
        for _ in range(2):
            assert len(await _spoken(client, "[S1]endless", seed=5)) == 400

    asyncio.run(run())
    assert len(inner.asked) == 2
