"""Every metric that the dashboard and the alerts ask for is shown by a running server."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any

import monitoring
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient

from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

# Prometheus makes this one itself.
OF_PROMETHEUS = {"up"}
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


def shown_by(page: str) -> set[str]:
    """Names that Prometheus would keep, from a page's announcements of families."""
    families = re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)
    return {name + part for name, kind in families for part in _PARTS[kind]}


def test_every_metric_of_dashboard_and_alerts_is_shown(door: Any, tmp_path: Path) -> None:
    flags = {
        "api": {"port": 0, "monitoring": {"metrics_port": 0}},
        "storage": {"voice_samples_dir": tmp_path / "voices", "cache_dir": tmp_path / "cache"},
    }
    settings = load_settings(flags=flags, environment={})
    triton = door.server.metrics_url
    with GatewayServer(settings, door.url, triton_metrics_url=triton, grace_s=2) as server:
        gateway = Gateway(server, ScriptedClient())
        wait_for(lambda: gateway.call("/readyz").status == 200, 30)
        assert gateway.speak("[S1]Tea?", max_new_tokens=20).status == 200
        assert server.metrics_url is not None
        with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
            shown = shown_by(answer.read().decode())

    asked = set().union(*map(monitoring.metric_names, monitoring.expressions()))
    assert len(asked) > 20
    assert asked - shown == OF_PROMETHEUS
