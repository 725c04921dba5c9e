"""Alert rules and dashboard, checked by promtool and by their shape."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import monitoring
import pytest
import yaml
from monitoring import ALERTS, FOLDER

from duologue.runtime.gateway import faults

TESTS = "alerts_test.yml"

Promtool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def promtool() -> Promtool:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: apt install prometheus")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["promtool", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def test_configuration_and_rules_are_valid(promtool: Promtool) -> None:
    for arguments in (("config", FOLDER / "prometheus.yml"), ("rules", ALERTS)):
        done = promtool("check", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_and_only_when_it_should(promtool: Promtool) -> None:
    done = promtool("test", "rules", FOLDER / TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    tests = yaml.safe_load((FOLDER / TESTS).read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in monitoring.alerts()}


def test_a_rule_that_always_fires_fails_its_cases(promtool: Promtool, tmp_path: Path) -> None:
    shutil.copy(FOLDER / TESTS, tmp_path)
    for number in range(len(monitoring.alerts())):
        document = yaml.safe_load(ALERTS.read_text())
        rule = document["groups"][0]["rules"][number]
        rule["expr"], changes = re.subn(r"(>|==) [0-9.]+(?= and|\s*$)", ">= 0", rule["expr"])
        assert changes > 0
        (tmp_path / ALERTS.name).write_text(yaml.safe_dump(document))
        assert promtool("test", "rules", tmp_path / TESTS).returncode != 0, rule["alert"]


def test_expressions_of_the_dashboard_are_promql(promtool: Promtool, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression}
        for number, expression in enumerate(monitoring.dashboard_expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_outcomes_are_those_of_the_gateway() -> None:
    known = {"ok", "cancelled", "internal_error", *(row[3] for row in faults._TABLE)}
    asked = set().union(*map(monitoring.outcomes, monitoring.expressions()))
    assert asked
    assert asked <= known
    codes = {row[3] for row in faults._TABLE if row[1] >= 500}
    ours = codes - {"server_full", "cancelled"}
    failures = next(rule for rule in monitoring.alerts() if rule["alert"] == "DuologueFailures")
    assert monitoring.outcomes(failures["expr"]) == ours | {"internal_error"}


@pytest.mark.parametrize(
    "title",
    [
        *("(TTFA)", "(RTF)", "Gaps", "Underruns", "Queue", "Slots", "Cancels", "Restarts"),
        *("Errors", "synthesis_latency", "throughput", "gpu_utilization", "memory_usage"),
        *("cache_hit_ratio", "error_rate"),
    ],
)
def test_the_dashboard_shows(title: str) -> None:
    panels = [p for p in monitoring.dashboard()["panels"] if title in p["title"]]
    assert [len(panel["targets"]) > 0 for panel in panels] == [True]


def test_panels_have_their_own_ids_and_places() -> None:
    panels = monitoring.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_names_are_read_from_an_expression() -> None:
    expression = (
        'sum by (le) (rate(a_bucket{b="c"}[5m])) / on (d) up > 1.5 and avg_over_time(e[1m])'
    )
    assert monitoring.metric_names(expression) == {"a_bucket", "up", "e"}
