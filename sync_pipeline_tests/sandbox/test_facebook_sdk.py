"""Meta's own SDK against the sandbox, with nothing changed but the host: what it reads here is what it reads there."""

# mypy: disable-error-code="import-untyped"

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from facebook_business.adobjects.ad import Ad
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.adreportrun import AdReportRun
from facebook_business.adobjects.user import User
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import ALL_STATUSES, IN_LOS_ANGELES, MAIN, QUIET_ON_SUNDAYS

FIELDS = ["ad_id", "ad_name", "spend", "impressions", "date_start"]
WEEK = {"since": "2026-11-01", "until": "2026-11-07"}
DAYS = [date(2026, 11, 1) + timedelta(days=n) for n in range(7)]


@pytest.fixture
def api(sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> FacebookAdsApi:
    monkeypatch.setattr(FacebookSession, "GRAPH", sandbox.environment["META_GRAPH_URL"])
    return FacebookAdsApi(FacebookSession(access_token=sandbox.environment["LUMINA_META_TOKEN"]))


def account(api: FacebookAdsApi, account_id: str = MAIN) -> AdAccount:
    return AdAccount(f"act_{account_id}", api=api)


def weekly(**more: Any) -> dict[str, Any]:
    return {"level": "ad", "time_increment": 1, "time_range": WEEK, "filtering": [ALL_STATUSES], "limit": 40, **more}


def in_the_world(sandbox: SandboxServer) -> set[tuple[str, str, int]]:
    return {
        (row.ad.ad_id, day.isoformat(), row.impressions) for day in DAYS for row in sandbox.world.insights(MAIN, day)
    }


def as_read(rows: Any) -> set[tuple[str, str, int]]:
    return {(row["ad_id"], row["date_start"], int(row["impressions"])) for row in rows}


def refusal(ask: Callable[[], object]) -> FacebookRequestError:
    with pytest.raises(FacebookRequestError) as caught:
        ask()
    body = caught.value.body()
    assert body["error"]["fbtrace_id"]
    return caught.value


def told_apart(error: FacebookRequestError) -> tuple[int, int, int | None, bool]:
    return error.http_status(), error.api_error_code(), error.api_error_subcode(), error.api_transient_error()


def test_lists_ad_accounts(api: FacebookAdsApi) -> None:
    found = User("me", api=api).get_ad_accounts(fields=["account_id", "name", "timezone_name"], params={"limit": 2})
    assert [one["account_id"] for one in found] == [MAIN, QUIET_ON_SUNDAYS, IN_LOS_ANGELES]


def test_iterates_insights_over_all_pages(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    rows = list(account(api).get_insights(fields=FIELDS, params=weekly()))
    assert as_read(rows) == in_the_world(sandbox)
    assert sandbox.requests.count("insights") > 3


def test_stops_at_an_empty_page_unless_told_to_go_on(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    sandbox.behaviour.empty_pages = True
    cursor = account(api).get_insights(fields=FIELDS, params=weekly())
    rows = list(cursor)
    assert len(rows) == 40, "the SDK takes the empty second page for the end"
    for _ in range(20):
        rows += list(cursor)
    assert as_read(rows) == in_the_world(sandbox)


def test_starts_polls_and_reads_an_async_report(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    run = account(api).get_insights_async(fields=FIELDS, params=weekly())
    assert isinstance(run, AdReportRun)
    seen: list[tuple[str, int]] = []
    while not seen or seen[-1] != ("Job Completed", 100):
        run = run.api_get()
        seen.append((run["async_status"], run["async_percent_completion"]))
    assert len(seen) == 3
    assert as_read(run.get_insights(params={"limit": 100})) == in_the_world(sandbox)


def test_reads_campaigns_ad_sets_ads_and_creatives(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    fields = ["id", "name", "status", "updated_time"]
    edges = (account(api).get_campaigns, account(api).get_ad_sets, account(api).get_ads)
    nodes = [list(edge(fields=fields, params={"limit": 5, "effective_status": ["ACTIVE"]})) for edge in edges]
    ads = [ad for ad in sandbox.world.ads(MAIN) if ad.effective_status == "ACTIVE"]
    assert {node["id"] for node in nodes[2]} == {ad.ad_id for ad in ads}
    assert all(node.export_all_data().keys() == set(fields) for found in nodes for node in found)
    creatives = list(account(api).get_ad_creatives(fields=["id", "thumbnail_url"], params={"limit": 50}))
    assert len(creatives) == len(sandbox.world.ads(MAIN))
    assert list(Ad(ads[0].ad_id, api=api).get_leads()) == []


def test_reads_ads_by_a_filter_on_their_ids(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    ads = sandbox.world.ads(MAIN)
    by_id = {"field": "ad.id", "operator": "IN", "value": [ad.ad_id for ad in ads]}
    params = {"filtering": [by_id, ALL_STATUSES], "limit": 50}
    found = account(api).get_ads(fields=["id", "status", "effective_status"], params=params)
    assert {ad["id"]: ad["effective_status"] for ad in found} == {ad.ad_id: ad.effective_status for ad in ads}


def test_reads_ads_by_batches_and_asks_again_for_those_that_timed_out(
    sandbox: SandboxServer, api: FacebookAdsApi
) -> None:
    sandbox.behaviour.batch_nulls = 2
    ads = sandbox.world.ads(MAIN)[:5]
    found: dict[str, str] = {}
    failed: list[int] = []
    batch = api.new_batch()
    for ad_id in [*(ad.ad_id for ad in ads), "120219999999999999"]:
        Ad(ad_id, api=api).api_get(
            fields=["id", "status"],
            batch=batch,
            success=lambda answer: found.update({answer.json()["id"]: answer.json()["status"]}),
            failure=lambda answer: failed.append(answer.error().api_error_subcode()),
        )
    again = batch.execute()
    assert len(again) == 2
    assert again.execute() is None
    assert found == {ad.ad_id: ad.status for ad in ads}
    assert failed == [33]


def test_an_expired_token(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    sandbox.world.expire_token("lumina")
    error = refusal(lambda: User("me", api=api).get_ad_accounts())
    assert told_apart(error) == (401, 190, 463, False)
    assert error.api_error_type() == "OAuthException"


@pytest.mark.parametrize("account_id", ["100000000000201", "1"])
def test_a_missing_permission_and_an_unknown_account(api: FacebookAdsApi, account_id: str) -> None:
    error = refusal(lambda: account(api, account_id).get_insights(params=weekly()))
    assert told_apart(error) == (403, 200, None, False)


def test_throttling(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    sandbox.quota.configure(points=1, decay_seconds=60, block_seconds=120)
    account(api).api_get(fields=["name"])
    error = refusal(lambda: account(api).get_insights(params=weekly()))
    assert told_apart(error) == (400, 17, 2446079, False)
    usage = json.loads(error.http_headers()["X-Business-Use-Case-Usage"])
    assert usage[MAIN][0]["estimated_time_to_regain_access"] == 2


def test_too_much_data(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    sandbox.behaviour.max_rows_per_request = 10
    error = refusal(lambda: account(api).get_insights(params=weekly()))
    assert told_apart(error) == (500, 1, None, False)
    assert "reduce the amount of data" in error.api_error_message()


def test_a_transient_error(sandbox: SandboxServer, api: FacebookAdsApi) -> None:
    sandbox.faults.add(Fault(faults.graph_error("transient"), path="insights"))
    error = refusal(lambda: account(api).get_insights(params=weekly()))
    assert told_apart(error) == (500, 1, 99, True)
    assert list(account(api).get_insights(params=weekly()))
