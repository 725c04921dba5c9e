"""Requests made up from the OpenAPI document: whatever it allows or forbids, no 5xx comes."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from live_gateway import Gateway, wait_for

EXAMPLES_PER_ROUTE = 12
NUM_ROUTES = 15

# schemathesis builds on interfaces that others will take away; what is tested is the answers.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_no_request_that_can_be_made_up_is_the_servers_fault(gateway: Gateway) -> None:
    wait_for(lambda: gateway.call("/readyz").status == 200)
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        statuses = seen.setdefault(operation.label, set())
        _try_out(operation, statuses)
    assert len(seen) >= NUM_ROUTES
    worst = {label: max(statuses) for label, statuses in seen.items()}
    assert max(worst.values()) < 500, worst


def _try_out(operation: Any, statuses: set[int]) -> None:
    @settings(
        max_examples=EXAMPLES_PER_ROUTE,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def send(case: Any) -> None:
        answer = case.call(timeout=30)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, f"{operation.label}: {answer.text[:300]}"

    send()
