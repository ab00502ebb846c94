from datetime import date

import pytest

from sync_pipeline.sandbox.exchange import Call, read_pairs
from sync_pipeline.sandbox.request_log import kind_of, redacted_query
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import MAIN, MANILA_SHOP, daily_insights, pages, pancake, window


def call(method: str, path: str, query: str = "") -> Call:
    return Call(method, path, read_pairs(query), {}, "")


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/graph/v26.0/act_1/insights", "insights"),
        ("POST", "/graph/v26.0/act_1/insights", "report_start"),
        ("GET", "/graph/v26.0/7000000000000001", "report_poll"),
        ("GET", "/graph/v26.0/7000000000000001/insights", "report_rows"),
        ("GET", "/graph/v26.0/7000000000000001/", "report_poll"),
        ("GET", "/graph/v26.0/act_1/ads", "ads"),
        ("GET", "/graph/v26.0/act_1/campaigns", "campaigns"),
        ("GET", "/graph/v26.0/act_1/adcreatives", "adcreatives"),
        ("GET", "/graph/v26.0/120230101/adsets", "adsets"),
        ("GET", "/graph/v26.0/120210101/leads", "leads"),
        ("GET", "/graph/v26.0/act_1", "account"),
        ("GET", "/graph/v26.0/me/adaccounts", "accounts"),
        ("POST", "/graph/v26.0/", "batch"),
        ("GET", "/graph/v26.0/120210001010000001", "node"),
        ("GET", "/pancake/api/v1/shops/1/orders", "orders"),
        ("GET", "/pancake/api/v1/shops/1/orders/5", "order"),
        ("GET", "/pancake/api/v1/shops/1/products/variations", "products"),
        ("GET", "/elsewhere", "other"),
    ],
)
def test_requests_are_told_apart_by_what_they_are_after(method: str, path: str, kind: str) -> None:
    assert kind_of(call(method, path)) == kind


def test_tokens_and_keys_are_never_kept() -> None:
    query = "access_token=one&api_key=two&input_token=three&appsecret_proof=four&q=access_token%3Dfive%26x&limit=5"
    shown = redacted_query(call("GET", "/graph/me", query))
    assert shown.endswith("&limit=5")
    assert not [secret for secret in ("one", "two", "three", "four", "five") if secret in shown]


def test_the_log_tells_how_a_sync_asked(sandbox: SandboxServer) -> None:
    wanted = daily_insights("2026-11-01", "2026-11-03", limit="50")
    count = len(list(pages(sandbox, f"act_{MAIN}/insights", **wanted)))
    pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(date(2026, 11, 1)))
    assert sandbox.requests.counts() == {"insights": count, "orders": 1}
    assert sandbox.requests.count("orders", path=str(MANILA_SHOP)) == 1
    last = sandbox.requests.all()[-1]
    assert (last.method, last.status) == ("GET", 200)
    assert 'time_range={"since": "2026-11-01"' in sandbox.requests.all("insights")[0].query
    secrets = sandbox.world.secrets().values()
    assert not [entry for entry in sandbox.requests.all() if any(secret in entry.query for secret in secrets)]
