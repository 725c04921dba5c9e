"""What the dashboard and the alert rules ask Prometheus for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "grafana" / "dashboard.json"

_MATCHERS = re.compile(r"\{[^}]*\}")
_GROUPING = re.compile(r"\b(by|without|on|ignoring)\s*\([^)]*\)")
_DURATION = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_:]*(?![A-Za-z0-9_:]*\s*\()")
_OPERATORS = {"and", "or", "unless", "bool", "by", "without", "on", "ignoring"}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def dashboard_expressions() -> list[str]:
    """With values in the place of Grafana's variables."""
    board = dashboard()
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    raw = [target["expr"] for target in targets]
    raw += [annotation["expr"] for annotation in board["annotations"]["list"]]
    return [text.replace("$__rate_interval", "1m").replace("$instance", ".*") for text in raw]


def expressions() -> list[str]:
    return [*dashboard_expressions(), *(rule["expr"] for rule in alerts())]


def metric_names(expression: str) -> set[str]:
    """Names of metrics in an expression: what is no function, label, number or operator."""
    for pattern in (_MATCHERS, _GROUPING, _DURATION):
        expression = pattern.sub(" ", expression)
    return set(_NAME.findall(expression)) - _OPERATORS


def outcomes(expression: str) -> set[str]:
    """Values of the label `outcome` in the matchers of an expression."""
    found = re.findall(r'outcome=~?"([^"]*)"', expression)
    return {value for values in found for value in values.split("|")}
