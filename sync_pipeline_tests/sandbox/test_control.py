from datetime import date
from typing import Any

import pytest

from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import (
    MAIN,
    MANILA_SHOP,
    control,
    daily_insights,
    error_of,
    graph,
    order_pages,
    pancake,
    window,
)

DAY = date(2026, 10, 5)


def test_faults_over_http(sandbox: SandboxServer) -> None:
    fault = {"effect": "graph_error", "with": {"name": "expired_token"}, "path": "insights", "covers_day": "2026-10-05"}
    assert control(sandbox, "faults", fault).ok
    assert error_of(graph(sandbox, f"act_{MAIN}/insights", **daily_insights("2026-10-05", "2026-10-05")))[1:] == (
        190,
        463,
    )
    assert [entry["hits"] for entry in control(sandbox, "faults", method="GET").json()["faults"]] == [1]
    assert control(sandbox, "faults", method="DELETE").ok
    assert sandbox.faults.all() == []


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"effect": "earthquake"},
        {"effect": "slow", "with": {"hours": 1}},
        {"effect": "reset", "colour": "red"},
        {"effect": "graph_error", "with": {"name": "unheard_of"}},
    ],
)
def test_a_fault_that_is_not_understood_is_refused(sandbox: SandboxServer, fault: dict[str, Any]) -> None:
    answer = control(sandbox, "faults", fault)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_bad_rows_over_http(sandbox: SandboxServer) -> None:
    arguments = {"changes": {"status": "Confirmed"}, "absent": ["inserted_at"], "most": 2}
    fault = {"effect": "bad_rows", "with": arguments, "path": f"{MANILA_SHOP}/orders$"}
    assert control(sandbox, "faults", fault).ok
    [orders] = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY))
    assert [order["status"] == "Confirmed" for order in orders].count(True) == 2
    assert ["inserted_at" not in order for order in orders].count(True) == 2
    assert all(isinstance(order["id"], int) for order in orders)


def test_requests_over_http(sandbox: SandboxServer) -> None:
    pancake(sandbox, "shops")
    graph(sandbox, "me")
    found = control(sandbox, "requests?kind=shops", method="GET").json()
    assert found["count"] == 1
    assert found["kinds"] == {"shops": 1, "me": 1}
    assert found["requests"][0]["query"] == "api_key=[redacted]"
    control(sandbox, "requests", method="DELETE")
    assert sandbox.requests.count() == 0


def test_edits_over_http(sandbox: SandboxServer) -> None:
    new = {"edit": "add_order", "shop_id": MANILA_SHOP, "day": "2026-10-05", "cod": 5}
    added = control(sandbox, "world", new).json()["result"]
    [orders] = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY))
    assert [order["cod"] for order in orders if order["id"] == added] == [5]
    assert control(sandbox, "world", {"edit": "undo_edits"}).ok
    assert sandbox.world.order(MANILA_SHOP, added) is None
    assert control(sandbox, "world", {"edit": "_build"}).status_code == 400


def test_switches_and_quota_over_http(sandbox: SandboxServer) -> None:
    assert control(sandbox, "behaviour", {"max_limit": 10}).ok
    assert sandbox.behaviour.max_limit == 10
    assert control(sandbox, "behaviour", {"colour": "red"}).status_code == 400
    assert control(sandbox, "quota", {"points": 1, "decay_seconds": 60, "block_seconds": 2}).ok
    assert [graph(sandbox, f"act_{MAIN}").ok for _ in range(2)] == [True, False]


def test_the_overview_shows_no_secret(sandbox: SandboxServer) -> None:
    sandbox.behaviour.app_secret = "shh"
    text = control(sandbox, "", method="GET").text
    assert '"310001":66' in text
    assert "shh" not in text
    assert not [secret for secret in sandbox.world.secrets().values() if secret in text]
    assert control(sandbox, "nothing", method="GET").status_code == 404
