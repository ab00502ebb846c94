import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from sync_pipeline.sandbox.entities import Ad
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import (
    ALL_STATUSES,
    IN_LOS_ANGELES,
    MAIN,
    QUIET_ON_SUNDAYS,
    daily_insights,
    error_of,
    graph,
    pages,
)
from sync_pipeline_tests.waiting import PATIENCE_S

FIRST_WEEK = ("2026-11-01", "2026-11-07")


def test_the_token_may_come_in_the_header_the_query_or_the_form(sandbox: SandboxServer) -> None:
    url = f"{sandbox.environment['META_GRAPH_URL']}/v26.0/me"
    token = sandbox.environment["LUMINA_META_TOKEN"]
    answers = (
        graph(sandbox, "me"),
        requests.get(url, params={"access_token": token}, timeout=PATIENCE_S),
        requests.post(url, data={"access_token": token}, timeout=PATIENCE_S),
    )
    assert {answer.json()["name"] for answer in answers} == {"Lumina Skin system user"}


@pytest.mark.parametrize("edge", ["me/adaccounts", "me/assigned_ad_accounts"])
def test_a_token_sees_its_own_tenants_accounts(sandbox: SandboxServer, edge: str) -> None:
    fields = "account_id,name,currency,timezone_name,account_status"
    accounts = graph(sandbox, edge, fields=fields).json()["data"]
    assert [account["account_id"] for account in accounts] == [MAIN, QUIET_ON_SUNDAYS, IN_LOS_ANGELES]
    assert accounts[2] == {
        "id": f"act_{IN_LOS_ANGELES}",
        "account_id": IN_LOS_ANGELES,
        "name": "Lumina US",
        "currency": "USD",
        "timezone_name": "America/Los_Angeles",
        "account_status": 1,
    }


def test_accounts_are_paged_too(sandbox: SandboxServer) -> None:
    assert [len(page) for page in pages(sandbox, "me/adaccounts", limit="2")] == [2, 1]


def test_an_account_added_later_is_listed_and_delivers(sandbox: SandboxServer) -> None:
    sandbox.world.add_ad_account("lumina", "100000000000199", "Lumina New")
    assert len(graph(sandbox, "me/adaccounts").json()["data"]) == 4
    assert graph(sandbox, "act_100000000000199/insights", **daily_insights(*FIRST_WEEK)).json()["data"]


def test_insights_of_all_pages_are_the_worlds_figures(sandbox: SandboxServer) -> None:
    fields = "ad_id,spend,impressions,date_start,date_stop"
    wanted = daily_insights(*FIRST_WEEK, fields=fields, limit="30", filtering=[ALL_STATUSES])
    rows = [row for page in pages(sandbox, f"act_{MAIN}/insights", **wanted) for row in page]
    days = [date(2026, 11, 1) + timedelta(days=n) for n in range(7)]
    expected = {
        (row.ad.ad_id, day.isoformat()): (Decimal(row.spend) / 100, row.impressions)
        for day in days
        for row in sandbox.world.insights(MAIN, day)
    }
    found = {(row["ad_id"], row["date_start"]): (Decimal(row["spend"]), int(row["impressions"])) for row in rows}
    assert found == expected
    assert len(rows) == len(expected)
    assert all(row["date_start"] == row["date_stop"] for row in rows)


def test_rows_come_in_no_date_order(sandbox: SandboxServer) -> None:
    rows = graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK, limit="500")).json()["data"]
    days = [row["date_start"] for row in rows]
    assert days not in (sorted(days), sorted(days, reverse=True))


def test_a_page_may_be_empty_and_still_have_a_next(sandbox: SandboxServer) -> None:
    wanted = daily_insights(*FIRST_WEEK)
    full = [len(page) for page in pages(sandbox, f"act_{MAIN}/insights", **wanted)]
    sandbox.behaviour.empty_pages = True
    found = [len(page) for page in pages(sandbox, f"act_{MAIN}/insights", **wanted)]
    assert found[:3] == [25, 0, 25]
    assert found[-1] > 0
    assert 0 not in full
    assert sum(full) == sum(found)


def test_the_last_page_has_cursors_but_no_next(sandbox: SandboxServer) -> None:
    paging = graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK, limit="5000")).json()["paging"]
    assert paging["cursors"]["after"]
    assert "next" not in paging


def test_next_carries_the_token_in_clear(sandbox: SandboxServer) -> None:
    paging = graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK)).json()["paging"]
    assert f"access_token={sandbox.environment['LUMINA_META_TOKEN']}" in paging["next"]


def test_an_empty_result_has_no_paging(sandbox: SandboxServer) -> None:
    sunday = daily_insights("2026-11-15", "2026-11-15")
    assert graph(sandbox, f"act_{QUIET_ON_SUNDAYS}/insights", **sunday).json() == {"data": []}


def test_archived_and_deleted_ads_are_left_out_unless_asked_for(sandbox: SandboxServer) -> None:
    gone = {ad.ad_id for ad in sandbox.world.ads(MAIN) if ad.effective_status in {"ARCHIVED", "DELETED"}}
    assert gone

    def ads(**more: Any) -> set[str]:
        wanted = daily_insights(*FIRST_WEEK, fields="ad_id", limit="5000", **more)
        return {row["ad_id"] for row in graph(sandbox, f"act_{MAIN}/insights", **wanted).json()["data"]}

    assert ads(filtering=[ALL_STATUSES]) - ads() == gone


def test_metrics_without_a_value_are_absent_and_the_others_are_text(sandbox: SandboxServer) -> None:
    wanted = daily_insights(*FIRST_WEEK, fields="clicks,inline_link_clicks,actions,impressions", limit="5000")
    rows = graph(sandbox, f"act_{MAIN}/insights", **wanted).json()["data"]
    assert any("actions" not in row for row in rows)
    assert any("inline_link_clicks" not in row for row in rows)
    assert {type(value) for row in rows for name, value in row.items() if name != "actions"} == {str}
    kinds = [{action["action_type"]: action["value"] for action in row.get("actions", [])} for row in rows]
    leads = [kind for kind in kinds if "lead" in kind]
    assert leads
    assert all(kind["lead"] == kind["onsite_conversion.lead_grouped"] for kind in leads)


def test_account_level_sums_its_ads_the_archived_ones_too(sandbox: SandboxServer) -> None:
    wanted = {**daily_insights("2026-11-03", "2026-11-03"), "level": "account", "fields": "spend,account_currency"}
    [row] = graph(sandbox, f"act_{MAIN}/insights", **wanted).json()["data"]
    spend = sum(row.spend for row in sandbox.world.insights(MAIN, date(2026, 11, 3)))
    assert row["account_currency"] == "PHP"
    assert Decimal(row["spend"]) * 100 == spend


@pytest.mark.parametrize(
    ("increment", "stretches"),
    [
        ("all_days", {("2026-11-01", "2026-11-07")}),
        ("3", {("2026-11-01", "2026-11-03"), ("2026-11-04", "2026-11-06"), ("2026-11-07", "2026-11-07")}),
    ],
)
def test_longer_increments_sum_days(sandbox: SandboxServer, increment: str, stretches: set[tuple[str, str]]) -> None:
    base = {**daily_insights(*FIRST_WEEK, limit="5000", fields="impressions"), "level": "account"}
    rows = graph(sandbox, f"act_{MAIN}/insights", **{**base, "time_increment": increment}).json()["data"]
    daily = graph(sandbox, f"act_{MAIN}/insights", **base).json()["data"]
    assert {(row["date_start"], row["date_stop"]) for row in rows} == stretches
    assert sum(int(row["impressions"]) for row in rows) == sum(int(row["impressions"]) for row in daily)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"fields": "spend,status"}, 100),
        ({"fields": "effective_status"}, 100),
        ({"level": "creative"}, 100),
        ({"time_increment": "91"}, 100),
        ({"time_range": {"since": "2026-11-07", "until": "2026-11-01"}}, 100),
        ({"time_range": "yesterday"}, 100),
        ({"filtering": [{"field": "ad.effective_status", "operator": "IN", "value": ["GONE"]}]}, 100),
        ({"filtering": [{"field": "spent", "operator": "IN", "value": []}]}, 100),
        ({"limit": "0"}, 100),
        ({"after": "nonsense"}, 2642),
        ({"time_range": {"since": "2023-10-19", "until": "2026-11-01"}}, 3018),
    ],
)
def test_what_is_wrong_with_a_request_has_its_code(
    sandbox: SandboxServer, change: dict[str, object], code: int
) -> None:
    answer = graph(sandbox, f"act_{MAIN}/insights", **{**daily_insights(*FIRST_WEEK), **change})
    assert error_of(answer) == (400, code, None)


def test_the_37_months_end_exactly(sandbox: SandboxServer) -> None:
    assert graph(sandbox, f"act_{MAIN}/insights", **daily_insights("2023-10-20", "2023-10-20")).ok


@pytest.mark.parametrize("account", ["act_100000000000201", "act_1"])
def test_other_tenants_and_unknown_accounts_look_alike(sandbox: SandboxServer, account: str) -> None:
    assert error_of(graph(sandbox, account)) == (403, 200, None)


def test_unknown_paths_and_objects(sandbox: SandboxServer) -> None:
    assert error_of(graph(sandbox, "me/nothing")) == (400, 2500, None)
    assert error_of(graph(sandbox, "120219999999999999")) == (400, 100, 33)


def test_tokens_that_are_missing_wrong_or_expired(sandbox: SandboxServer) -> None:
    url = f"{sandbox.environment['META_GRAPH_URL']}/v26.0/me"
    assert error_of(requests.get(url, timeout=PATIENCE_S)) == (400, 104, None)
    assert error_of(requests.get(url, params={"access_token": "wrong"}, timeout=PATIENCE_S)) == (400, 190, None)
    sandbox.world.expire_token("lumina")
    assert error_of(graph(sandbox, "me")) == (401, 190, 463)


def test_versions(sandbox: SandboxServer) -> None:
    current, old = graph(sandbox, "me"), graph(sandbox, "me", version="v23.0")
    assert current.headers["facebook-api-version"] == "v26.0"
    assert "X-Ad-Api-Version-Warning" not in current.headers
    assert old.ok
    assert old.headers["facebook-api-version"] == "v25.0"
    assert "v23.0" in old.headers["X-Ad-Api-Version-Warning"]
    assert graph(sandbox, "me", version="v27.0").headers["facebook-api-version"] == "v27.0"
    assert error_of(graph(sandbox, "me", version="v22.0")) == (400, 2635, None)
    sandbox.behaviour.refuse_expired_versions = True
    assert error_of(graph(sandbox, "me", version="v24.0")) == (400, 2635, None)


def test_appsecret_proof_where_the_app_demands_it(sandbox: SandboxServer) -> None:
    sandbox.behaviour.app_secret = "shh"
    proof = hmac.new(b"shh", sandbox.environment["LUMINA_META_TOKEN"].encode(), hashlib.sha256).hexdigest()
    assert error_of(graph(sandbox, "me")) == (400, 104, None)
    assert error_of(graph(sandbox, "me", appsecret_proof="0" * 64)) == (400, 104, None)
    assert graph(sandbox, "me", appsecret_proof=proof).ok


def test_debug_token(sandbox: SandboxServer) -> None:
    seen = graph(sandbox, "debug_token", input_token=sandbox.environment["LUMINA_META_TOKEN"]).json()["data"]
    assert (seen["is_valid"], seen["expires_at"], seen["data_access_expires_at"]) == (True, 0, 0)
    assert seen["granular_scopes"] == [{"scope": "ads_read", "target_ids": [MAIN, QUIET_ON_SUNDAYS, IN_LOS_ANGELES]}]
    assert graph(sandbox, "debug_token", input_token="nobody's").json()["data"]["is_valid"] is False


def test_ads_by_id_need_the_statuses_to_show_archived_ones(sandbox: SandboxServer) -> None:
    ads = sandbox.world.ads(MAIN)[:16]
    by_id = {"field": "ad.id", "operator": "IN", "value": [ad.ad_id for ad in ads]}

    def statuses(*filtering: object) -> dict[str, tuple[str, str]]:
        fields = "id,status,effective_status"
        found = graph(sandbox, f"act_{MAIN}/ads", fields=fields, limit="50", filtering=list(filtering)).json()["data"]
        return {ad["id"]: (ad["status"], ad["effective_status"]) for ad in found}

    assert statuses(by_id, ALL_STATUSES) == {ad.ad_id: (ad.status, ad.effective_status) for ad in ads}
    assert len(statuses(by_id)) < len(ads)


def listed(sandbox: SandboxServer, path: str, **params: Any) -> list[dict[str, Any]]:
    return [node for page in pages(sandbox, path, **params) for node in page]


def test_entities_are_those_that_the_insights_name(sandbox: SandboxServer) -> None:
    fields = "ad_id,adset_id,campaign_id"
    rows = listed(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK, fields=fields, limit="500"))
    for edge, column in (("campaigns", "campaign_id"), ("adsets", "adset_id"), ("ads", "ad_id")):
        ids = {node["id"] for node in listed(sandbox, f"act_{MAIN}/{edge}")}
        assert {row[column] for row in rows} <= ids, edge


def test_a_budget_is_the_campaigns_or_its_ad_sets(sandbox: SandboxServer) -> None:
    fields = "id,daily_budget"
    campaigns = {node["id"]: node for node in listed(sandbox, f"act_{MAIN}/campaigns", fields=fields)}
    for node in listed(sandbox, f"act_{MAIN}/adsets", fields=f"{fields},campaign_id"):
        owner = campaigns[node["campaign_id"]] if "daily_budget" not in node else node
        assert int(owner["daily_budget"]) > 0
    assert {"daily_budget" in node for node in campaigns.values()} == {True, False}


def test_a_node_is_read_by_its_id_with_what_belongs_to_it(sandbox: SandboxServer) -> None:
    ad = sandbox.world.ads(MAIN)[7]
    shown = graph(sandbox, ad.ad_id, fields="name,creative{id,name,title},campaign{name}").json()
    creative = graph(sandbox, shown["creative"]["id"], fields="name,title").json()
    assert shown["creative"] == creative
    assert shown["campaign"] == {"id": ad.campaign_id, "name": ad.campaign_name}
    for node_id, edge in ((ad.campaign_id, "campaigns"), (ad.adset_id, "adsets")):
        fields = "id,name,effective_status,daily_budget,created_time"
        of_account = {node["id"]: node for node in listed(sandbox, f"act_{MAIN}/{edge}", fields=fields)}
        assert graph(sandbox, node_id, fields=fields).json() == of_account[node_id]


def test_edges_of_a_campaign_hold_its_own_nodes(sandbox: SandboxServer) -> None:
    campaign_id = sandbox.world.ads(MAIN)[7].campaign_id
    ads = [ad for ad in sandbox.world.ads(MAIN) if ad.campaign_id == campaign_id]
    assert {node["id"] for node in listed(sandbox, f"{campaign_id}/adsets")} == {ad.adset_id for ad in ads}
    found = listed(sandbox, f"{campaign_id}/ads", filtering=[ALL_STATUSES])
    assert {node["id"] for node in found} == {ad.ad_id for ad in ads}
    wanted = daily_insights(*FIRST_WEEK, fields="ad_id", limit="500")
    rows = listed(sandbox, f"{campaign_id}/insights", **wanted, filtering=[ALL_STATUSES])
    assert {row["ad_id"] for row in rows} == {ad.ad_id for ad in ads}
    assert listed(sandbox, f"{ads[0].ad_id}/leads") == []
    assert error_of(graph(sandbox, f"{ads[0].ad_id}/campaigns")) == (400, 2500, None)


@pytest.mark.parametrize(
    ("field", "operator", "value", "takes"),
    [
        ("ad.name", "CONTAIN", "serum", lambda ad: "SERUM" in ad.name),
        ("ad.effective_status", "EQUAL", "ARCHIVED", lambda ad: ad.effective_status == "ARCHIVED"),
        ("effective_status", "NOT_IN", ["ACTIVE"], lambda ad: ad.effective_status != "ACTIVE"),
        (
            "ad.updated_time",
            "GREATER_THAN",
            1_675_209_600,
            lambda ad: ad.created >= date(2023, 2, 1) and ad.effective_status not in {"ARCHIVED", "DELETED"},
        ),
        (
            "ad.created_time",
            "IN_RANGE",
            [1_672_531_200, 1_673_136_000],
            lambda ad: ad.created < date(2023, 1, 8) and ad.effective_status not in {"ARCHIVED", "DELETED"},
        ),
    ],
)
def test_ads_are_filtered_by_their_fields(
    sandbox: SandboxServer, field: str, operator: str, value: object, takes: Callable[[Ad], bool]
) -> None:
    condition = {"field": field, "operator": operator, "value": value}
    filtering = [condition] if "status" in field or "time" in field else [condition, ALL_STATUSES]
    found = {node["id"] for node in listed(sandbox, f"act_{MAIN}/ads", filtering=filtering)}
    expected = {ad.ad_id for ad in sandbox.world.ads(MAIN) if takes(ad)}
    assert found == expected
    assert 0 < len(found) < len(sandbox.world.ads(MAIN))


@pytest.mark.parametrize(
    "condition",
    [
        {"field": "ad.colour", "operator": "EQUAL", "value": "red"},
        {"field": "ad.id", "operator": "LIKE", "value": "1"},
        {"field": "ad.id", "operator": "IN", "value": "1"},
        {"field": "ad.updated_time", "operator": "GREATER_THAN", "value": "yesterday"},
        {"field": "ad.id"},
    ],
)
def test_a_wrong_condition_on_ads_is_refused(sandbox: SandboxServer, condition: dict[str, object]) -> None:
    assert error_of(graph(sandbox, f"act_{MAIN}/ads", filtering=[condition])) == (400, 100, None)


def test_an_unknown_field_of_a_node_is_refused(sandbox: SandboxServer) -> None:
    for edge in ("campaigns", "adsets", "ads", "adcreatives"):
        answer = graph(sandbox, f"act_{MAIN}/{edge}", fields="id,colour")
        assert error_of(answer) == (400, 100, None)
        assert "colour" in answer.json()["error"]["message"]
        assert graph(sandbox, f"act_{MAIN}/{edge}", fields="id,adlabels").ok, "documented, but without a value"


def test_insights_are_filtered_by_figures(sandbox: SandboxServer) -> None:
    wanted = daily_insights(*FIRST_WEEK, fields="ad_id,spend", limit="500")
    rows = listed(sandbox, f"act_{MAIN}/insights", **wanted)
    dear = [{"field": "ad.spend", "operator": "GREATER_THAN", "value": 500}]
    assert listed(sandbox, f"act_{MAIN}/insights", **wanted, filtering=dear) == [
        row for row in rows if Decimal(row["spend"]) > 500
    ]


def test_each_of_several_time_ranges_is_one_row(sandbox: SandboxServer) -> None:
    ranges = [{"since": "2026-11-01", "until": "2026-11-03"}, {"since": "2026-11-05", "until": "2026-11-05"}]
    asked = {"level": "account", "fields": "impressions", "time_increment": "1", "time_ranges": ranges}
    rows = listed(sandbox, f"act_{MAIN}/insights", **asked)
    assert {(row["date_start"], row["date_stop"]) for row in rows} == {
        ("2026-11-01", "2026-11-03"),
        ("2026-11-05", "2026-11-05"),
    }


@pytest.mark.parametrize(
    ("preset", "span"),
    [
        ("today", ("2026-11-20", "2026-11-20")),
        ("last_7d", ("2026-11-13", "2026-11-19")),
        ("this_week_sun_today", ("2026-11-15", "2026-11-20")),
        ("last_week_mon_sun", ("2026-11-09", "2026-11-15")),
        ("last_month", ("2026-10-01", "2026-10-31")),
        ("last_quarter", ("2026-07-01", "2026-09-30")),
        ("maximum", ("2023-10-20", "2026-11-20")),
    ],
)
def test_a_preset_names_days_up_to_today(sandbox: SandboxServer, preset: str, span: tuple[str, str]) -> None:
    [row] = listed(sandbox, f"act_{MAIN}/insights", date_preset=preset)
    assert (row["date_start"], row["date_stop"]) == span


def test_breakdowns_divide_rows_without_a_remainder(sandbox: SandboxServer) -> None:
    wanted = daily_insights("2026-11-03", "2026-11-03", fields="ad_id,spend,impressions", limit="5000")
    whole = listed(sandbox, f"act_{MAIN}/insights", **wanted)
    parts = listed(sandbox, f"act_{MAIN}/insights", **wanted, breakdowns=["age", "gender"])
    for column in ("spend", "impressions"):
        assert sum(Decimal(part[column]) for part in parts) == sum(Decimal(row[column]) for row in whole)
    keys = [(part["ad_id"], part["age"], part["gender"]) for part in parts]
    assert len(set(keys)) == len(keys) > len(whole)
    for refused in (["dma", "age"], ["colour"]):
        answer = graph(sandbox, f"act_{MAIN}/insights", **wanted, breakdowns=refused)
        assert error_of(answer) == (400, 100, None)


def test_a_breakdown_that_was_not_opted_into_is_empty(sandbox: SandboxServer) -> None:
    wanted = daily_insights(*FIRST_WEEK, breakdowns=["impression_device"])
    assert graph(sandbox, f"act_{MAIN}/insights", **wanted).json()["data"]
    sandbox.behaviour.opted_into_breakdowns = False
    assert graph(sandbox, f"act_{MAIN}/insights", **wanted).json() == {"data": []}


def test_at_most_fifty_ids_at_once(sandbox: SandboxServer) -> None:
    by_id = {"field": "ad.id", "operator": "IN", "value": [str(n) for n in range(51)]}
    assert error_of(graph(sandbox, f"act_{MAIN}/ads", filtering=[by_id])) == (400, 100, None)


def test_the_ids_parameter_is_gone(sandbox: SandboxServer) -> None:
    answer = graph(sandbox, "", ids="1,2")
    assert error_of(answer) == (500, 100, None)
    assert answer.json()["error"]["message"] == "The ids query parameter is deprecated in v26.0+."


def test_a_batch_answers_each_entry_in_order(sandbox: SandboxServer) -> None:
    ad = sandbox.world.ads(MAIN)[2]
    sandbox.behaviour.batch_nulls = 1
    entries = [
        {"method": "GET", "relative_url": f"{name}?fields=id,status"} for name in ("1", ad.ad_id, "120219999999999999")
    ]
    timed_out, found, missing = graph(sandbox, "", method="POST", batch=entries).json()
    assert timed_out is None
    assert (found["code"], json.loads(found["body"])) == (200, {"id": ad.ad_id, "status": ad.status})
    assert (missing["code"], json.loads(missing["body"])["error"]["code"]) == (400, 100)


def test_a_batch_of_more_than_fifty_is_refused(sandbox: SandboxServer) -> None:
    entries = [{"method": "GET", "relative_url": "me"}] * 51
    assert error_of(graph(sandbox, "", method="POST", batch=entries)) == (400, 100, None)


def start_report(sandbox: SandboxServer) -> str:
    wanted = daily_insights(*FIRST_WEEK, fields="ad_id", filtering=[ALL_STATUSES], limit="500")
    return str(graph(sandbox, f"act_{MAIN}/insights", method="POST", **wanted).json()["report_run_id"])


def states(sandbox: SandboxServer, run: str, polls: int) -> list[tuple[str, int]]:
    answers = [graph(sandbox, run).json() for _ in range(polls)]
    return [(answer["async_status"], answer["async_percent_completion"]) for answer in answers]


RUNNING = [("Job Not Started", 0), ("Job Running", 40)]
READ_TOO_EARLY = (400, 2601, 1815107)


def test_a_report_can_be_read_once_completed_at_100_percent(sandbox: SandboxServer) -> None:
    run = start_report(sandbox)
    assert error_of(graph(sandbox, f"{run}/insights")) == READ_TOO_EARLY
    assert states(sandbox, run, 3) == [*RUNNING, ("Job Completed", 100)]
    first = graph(sandbox, f"{run}/insights").json()["data"]
    assert len(first) == 25, "the page is 25 whatever the POST said"
    rows = [row for page in pages(sandbox, f"{run}/insights", limit="100") for row in page]
    days = [date(2026, 11, 1) + timedelta(days=n) for n in range(7)]
    assert len(rows) == sum(len(sandbox.world.insights(MAIN, day)) for day in days)


def test_a_report_may_show_completed_below_100_percent_first(sandbox: SandboxServer) -> None:
    sandbox.behaviour.reports_completed_below_100 = 1
    run = start_report(sandbox)
    assert states(sandbox, run, 3) == [*RUNNING, ("Job Completed", 90)]
    assert error_of(graph(sandbox, f"{run}/insights")) == READ_TOO_EARLY
    assert states(sandbox, run, 1) == [("Job Completed", 100)]
    assert graph(sandbox, f"{run}/insights").ok


def test_a_report_may_stay_below_100_percent_though_readable(sandbox: SandboxServer) -> None:
    sandbox.behaviour.reports_completed_below_100 = None
    run = start_report(sandbox)
    assert states(sandbox, run, 9) == [*RUNNING, *[("Job Completed", 90)] * 7]
    assert graph(sandbox, f"{run}/insights").json()["data"]


def test_report_ids_are_text_unless_switched(sandbox: SandboxServer) -> None:
    wanted = daily_insights(*FIRST_WEEK)

    def started() -> object:
        return graph(sandbox, f"act_{MAIN}/insights", method="POST", **wanted).json()["report_run_id"]

    assert {type(started()) for _ in range(2)} == {str}
    sandbox.behaviour.numeric_report_ids = True
    assert {type(started()) for _ in range(2)} == {int}


def test_a_new_report_may_be_invisible_at_first(sandbox: SandboxServer) -> None:
    sandbox.behaviour.reports_invisible_polls = 1
    run = start_report(sandbox)
    assert error_of(graph(sandbox, run)) == (400, 100, 33)
    assert graph(sandbox, run).json()["async_status"] == "Job Not Started"


def test_a_report_may_fail(sandbox: SandboxServer) -> None:
    sandbox.behaviour.report_outcome = "failed"
    run = start_report(sandbox)
    last = [graph(sandbox, run).json() for _ in range(3)][-1]
    assert last["async_status"] == "Job Failed"
    assert last["error_code"] == 2
    assert error_of(graph(sandbox, f"{run}/insights")) == READ_TOO_EARLY


def test_reports_of_other_tenants_do_not_show(sandbox: SandboxServer) -> None:
    assert error_of(graph(sandbox, start_report(sandbox), tenant="mekong")) == (400, 100, 33)


def test_too_much_data_is_refused_directly_but_not_as_a_report(sandbox: SandboxServer) -> None:
    sandbox.behaviour.max_rows_per_request = 4 * len(sandbox.world.ads(MAIN))
    wide = daily_insights(*FIRST_WEEK, filtering=[ALL_STATUSES])
    narrow = daily_insights("2026-11-01", "2026-11-04", filtering=[ALL_STATUSES])
    refusal = graph(sandbox, f"act_{MAIN}/insights", **wide)
    assert error_of(refusal) == (500, 1, None)
    assert "reduce the amount of data" in refusal.json()["error"]["message"]
    assert graph(sandbox, f"act_{MAIN}/insights", **narrow).ok
    assert graph(sandbox, f"act_{MAIN}/insights", method="POST", **wide).ok


def test_too_large_a_page_is_too_much_data_as_well(sandbox: SandboxServer) -> None:
    sandbox.behaviour.max_limit = 100
    assert graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK, limit="100")).ok
    assert error_of(graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK, limit="101"))) == (
        500,
        1,
        None,
    )


@pytest.mark.parametrize("edge", [f"act_{MAIN}/ads", "me/adaccounts"])
def test_any_edge_may_find_a_page_too_large(sandbox: SandboxServer, edge: str) -> None:
    sandbox.behaviour.max_edge_limit = 50
    assert graph(sandbox, edge, limit="50").ok
    assert error_of(graph(sandbox, edge, limit="51")) == (500, 1, None)
    assert graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK, limit="500")).ok


def test_debug_token_shows_when_token_and_data_access_end(sandbox: SandboxServer) -> None:
    sandbox.behaviour.token_expires_at, sandbox.behaviour.data_access_expires_at = 1_798_761_600, 1_797_552_000
    seen = graph(sandbox, "debug_token", input_token=sandbox.environment["LUMINA_META_TOKEN"]).json()["data"]
    assert (seen["expires_at"], seen["data_access_expires_at"]) == (1_798_761_600, 1_797_552_000)


def test_the_reset_time_of_an_account_at_low_usage_is_no_wait(sandbox: SandboxServer) -> None:
    sandbox.quota.configure(points=100, decay_seconds=300)
    usage = [json.loads(graph(sandbox, f"act_{MAIN}").headers["X-Ad-Account-Usage"]) for _ in range(9)][-1]
    assert usage["acc_id_util_pct"] == pytest.approx(9, abs=0.5)
    assert usage["reset_time_duration"] == pytest.approx(27, abs=2)
    assert usage["ads_api_access_tier"] == "standard_access"


def test_usage_headers_may_be_lists_or_text(sandbox: SandboxServer) -> None:
    def throttle() -> object:
        answer = graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*FIRST_WEEK))
        return json.loads(answer.headers["X-FB-Ads-Insights-Throttle"])

    sandbox.behaviour.access_tier = "development_access"
    usage = throttle()
    assert isinstance(usage, dict)
    assert usage["ads_api_access_tier"] == "development_access"
    sandbox.behaviour.usage_header_form = "list"
    [entry] = throttle()  # type: ignore[misc]
    assert entry.keys() == usage.keys()
    sandbox.behaviour.usage_header_form = "text"
    assert isinstance(throttle(), str)


@pytest.mark.parametrize(("regain", "minutes"), [("known", 2), ("zero", 0), ("absent", None)])
def test_a_block_may_leave_its_end_open(sandbox: SandboxServer, regain: str, minutes: int | None) -> None:
    sandbox.behaviour.regain_access = regain  # type: ignore[assignment]
    sandbox.quota.configure(points=0, block_seconds=90)
    blocked = graph(sandbox, f"act_{MAIN}")
    [use_case] = json.loads(blocked.headers["X-Business-Use-Case-Usage"])[MAIN]
    assert use_case.get("estimated_time_to_regain_access") == minutes
    account = json.loads(blocked.headers["X-Ad-Account-Usage"])
    assert ("reset_time_duration" in account) == (regain != "absent")


def test_usage_headers_rise_and_can_be_absent(sandbox: SandboxServer) -> None:
    sandbox.quota.configure(points=10, decay_seconds=1e9)
    wanted = daily_insights(*FIRST_WEEK)
    used = [
        json.loads(graph(sandbox, f"act_{MAIN}/insights", **wanted).headers["X-FB-Ads-Insights-Throttle"])[
            "acc_id_util_pct"
        ]
        for _ in range(3)
    ]
    assert used == [10.0, 20.0, 30.0]
    seen = graph(sandbox, f"act_{MAIN}/ads").headers
    assert json.loads(seen["X-Business-Use-Case-Usage"])[MAIN][0]["call_count"] == 40
    assert json.loads(seen["X-Ad-Account-Usage"])["acc_id_util_pct"] == 40
    assert "call_count" in json.loads(seen["X-App-Usage"])
    sandbox.behaviour.usage_headers = False
    assert not [name for name in graph(sandbox, f"act_{MAIN}/ads").headers if "usage" in name.lower()]


@pytest.mark.parametrize(("code", "answer"), [(17, (400, 17, 2446079)), (80000, (400, 80000, 2446079))])
def test_a_used_up_quota_blocks_the_account_and_recovers(
    sandbox: SandboxServer, code: int, answer: tuple[int, int, int]
) -> None:
    sandbox.quota.configure(points=2, decay_seconds=30, block_seconds=90, code=code)
    assert [graph(sandbox, f"act_{MAIN}").ok for _ in range(3)] == [True, True, False]
    blocked = graph(sandbox, f"act_{MAIN}")
    assert error_of(blocked) == answer
    business = json.loads(blocked.headers["X-Business-Use-Case-Usage"])
    assert business[MAIN][0]["estimated_time_to_regain_access"] == 2
    assert json.loads(blocked.headers["X-Ad-Account-Usage"])["reset_time_duration"] == pytest.approx(90, abs=1)
    assert graph(sandbox, f"act_{QUIET_ON_SUNDAYS}").ok, "the others go on"
    sandbox.quota.advance(91)
    assert graph(sandbox, f"act_{MAIN}").ok


def test_a_block_may_come_without_saying_for_how_long(sandbox: SandboxServer) -> None:
    sandbox.behaviour.usage_headers = False
    sandbox.quota.configure(points=0)
    blocked = graph(sandbox, f"act_{MAIN}")
    assert error_of(blocked) == (400, 17, 2446079)
    assert not [name for name in blocked.headers if "usage" in name.lower()]


def test_each_entry_of_a_batch_counts_as_a_call(sandbox: SandboxServer) -> None:
    sandbox.quota.configure(points=60, decay_seconds=1e9)
    entries = [{"method": "GET", "relative_url": "me"}] * 50
    assert graph(sandbox, "", method="POST", batch=entries).ok
    assert error_of(graph(sandbox, "", method="POST", batch=entries))[:2] == (403, 4)
