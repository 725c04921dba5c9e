"""The manual names every route, error, field, metric, alert and setting that there is."""

from __future__ import annotations

import re

import httpx
import pytest
import yaml
from manual_pages import DOCS, ROOT
from pydantic import BaseModel
from scripted_client import ScriptedClient

from duologue.runtime.gateway import faults
from duologue.runtime.gateway.dialogue import DialogueBody
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.gateway.speech_fields import SpeechBody
from duologue.runtime.keys import SCOPES

HTTP_API = (DOCS / "http_api.md").read_text(encoding="utf-8")
OPERATING = (DOCS / "operating.md").read_text(encoding="utf-8")
SERVING_METRICS = (ROOT / "runtime/serving/metrics.py").read_text(encoding="utf-8")


def test_every_described_route_has_an_example() -> None:
    flags = {"api": {"port": 0, "monitoring": {"metrics_port": 0}}}
    settings = load_settings(flags=flags, environment={})
    with GatewayServer(settings, client=ScriptedClient(), grace_s=1) as server:
        paths = httpx.get(server.url + "/openapi.json").json()["paths"]
    assert len(paths) > 15
    example = {"{name}": r"\w[\w-]*"}
    for path in paths:
        pattern = re.escape(path).replace(re.escape("{name}"), example["{name}"])
        assert re.search(rf"curl .*localhost:9000{pattern}(\s|$)", HTTP_API, re.MULTILINE), path


def test_every_error_has_a_row_with_its_status() -> None:
    rows = set(re.findall(r"^\| (\d+) \| (.*?) \|", HTTP_API, re.MULTILINE))
    shown = {
        (int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)
    }
    there = {(status, code) for _, status, _, code, _ in faults._TABLE}
    there |= {(500, "internal_error"), (422, "invalid_body")}
    there |= {(404, "not_found"), (405, "method_not_allowed")}
    assert shown == there


@pytest.mark.parametrize("body", [SpeechBody, DialogueBody])
def test_every_field_is_described(body: type[BaseModel]) -> None:
    missing = [name for name in body.model_fields if f"`{name}" not in HTTP_API]
    assert missing == []


def test_every_metric_is_described() -> None:
    page = Metrics().page().decode()
    own = set(re.findall(r"^# TYPE (duologue_\w+) (?:gauge|counter|histogram)", page, re.MULTILINE))
    own = {name for name in own if not name.endswith("_created")}
    inner = set(re.findall(r'"(duologue_[a-z_]+)"', SERVING_METRICS))
    assert own
    assert inner
    assert [name for name in sorted(own | inner) if f"`{name}" not in OPERATING] == []


def test_every_alert_has_advice() -> None:
    rules = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    rows = "\n".join(row for row in OPERATING.splitlines() if row.startswith("| `Duologue"))
    assert set(re.findall(r"`(Duologue\w+)`", rows)) == alerts


def test_every_scope_and_every_setting_that_is_named_exists() -> None:
    assert all(f"| `{scope}` |" in OPERATING for scope in SCOPES)
    settings = load_settings(environment={}).model_dump()
    pages = [page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")]
    groups = "|".join(name for name, value in settings.items() if isinstance(value, dict))
    named = {
        name
        for page in pages
        for name in re.findall(rf"`((?:{groups})(?:\.[a-z_]+)+)", page)
        if not name.endswith((".py", ".md", ".txt"))
    }
    assert len(named) > 10
    for name in named:
        value: object = settings
        for part in name.split("."):
            assert isinstance(value, dict), name
            assert part in value, name
            value = value[part]
