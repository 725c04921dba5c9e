from __future__ import annotations

import gc
import itertools
import math
import sys
import threading
import tracemalloc
import urllib.request
from typing import Any

import pytest
from starlette.testclient import TestClient

from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.metrics_app import create_metrics_app
from duologue.runtime.gateway.watched_keys import WatchedKeys
from duologue.runtime.keys import Key, KeyRing, digest_of

# Dashboards and alerts ask for these; a name that goes is a break for whoever runs them.
STABLE = [
    "duologue_synthesis_latency_seconds",
    "duologue_throughput",
    "duologue_gpu_utilization",
    "duologue_memory_usage_bytes",
    "duologue_cache_hit_ratio",
    "duologue_error_rate",
    "duologue_http_requests_total",
    "duologue_http_active_streams",
    "duologue_http_max_streams",
    "duologue_http_draining",
    "duologue_http_ttfa_seconds",
    "duologue_http_inter_chunk_seconds",
    "duologue_http_rtf",
    "duologue_http_underrun_seconds_total",
    "duologue_http_cancels_total",
    "duologue_http_audio_seconds_total",
    "duologue_http_rejected_total",
    "duologue_http_watchdog_total",
    "duologue_cache_requests_total",
    "duologue_server_restarts_total",
    "duologue_ready",
    "duologue_triton_up",
]


def test_every_name_that_dashboards_use_is_announced(gateway: Any) -> None:
    with urllib.request.urlopen(gateway.server.metrics_url, timeout=10) as answer:
        page = answer.read().decode()
    announced = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert set(STABLE) <= announced


def values_of(metrics: Metrics) -> dict[str, float]:
    lines = metrics.page().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_the_cache_has_no_ratio_before_its_first_question() -> None:
    metrics = Metrics()
    assert math.isnan(values_of(metrics)["duologue_cache_hit_ratio"])
    for is_hit in (True, False, True, True):
        metrics.looked_up(is_hit=is_hit)
    values = values_of(metrics)
    assert values["duologue_cache_hit_ratio"] == 0.75
    assert values['duologue_cache_requests_total{outcome="miss"}'] == 1


def test_refusals_and_late_streams_are_counted_by_reason(open_gateway: Any) -> None:
    gateway = open_gateway({"max_json_size": "2KB", "chunk_timeout": 0.05})
    gateway.call("/v1/audio/speech", data=b"x" * 3000)
    gateway.speak("never")
    values = values_of(gateway.server.house.metrics)
    assert values['duologue_http_rejected_total{reason="body_too_large"}'] == 1
    assert values['duologue_http_watchdog_total{reason="no_audio"}'] == 1


@pytest.mark.parametrize(
    ("client", "header", "status"),
    [
        ("127.0.0.1", None, 200),
        ("192.0.2.1", None, 401),
        ("192.0.2.1", "Bearer sk-speaker", 403),
        ("192.0.2.1", "Bearer sk-admin", 200),
    ],
)
def test_other_machines_need_a_key_for_the_metrics(
    client: str, header: str | None, status: int
) -> None:
    keys = KeyRing(
        [
            Key("speaker", digest_of("sk-speaker")),
            Key("admin", digest_of("sk-admin"), frozenset({"admin"})),
        ]
    )
    app = create_metrics_app(Metrics(), None, WatchedKeys(keys))
    headers = {} if header is None else {"Authorization": header}
    with TestClient(app, client=(client, 1)) as caller:
        assert caller.get("/metrics", headers=headers).status_code == status


def test_what_ended_long_ago_is_forgotten_even_if_nobody_reads_the_page() -> None:
    now = itertools.count()
    metrics = Metrics(clock=lambda: float(next(now)))

    def end(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        for _ in range(count):
            metrics.ended("speech", "ok", 0.1, 0.1, is_our_fault=False)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    end(100)
    assert end(20_000) < 500_000
    # The clock is asked twice for each.
    assert values_of(metrics)["duologue_throughput"] == pytest.approx(0.5, abs=0.05)


def test_the_page_can_be_read_while_requests_end() -> None:
    metrics, is_over = Metrics(), threading.Event()
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns all the time

    def end() -> None:
        while not is_over.is_set():
            metrics.ended("speech", "ok", 0.1, 0.1, is_our_fault=True)

    thread = threading.Thread(target=end)
    thread.start()
    try:
        for _ in range(30):
            assert values_of(metrics)["duologue_error_rate"] in (0.0, 1.0)
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(usual_s)


def test_restarts_are_counted() -> None:
    metrics = Metrics()
    metrics.restarted("model_died")
    metrics.restarted("no_answer", 2)
    values = values_of(metrics)
    assert values['duologue_server_restarts_total{reason="model_died"}'] == 1
    assert values['duologue_server_restarts_total{reason="no_answer"}'] == 2
