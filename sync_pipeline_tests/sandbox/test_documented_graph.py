"""The sandbox's Graph API against a table of what Meta documents and what answers were recorded."""

# mypy: disable-error-code="import-untyped"

import json
import re
from datetime import date
from typing import Any

import pytest
from facebook_business.adobjects.ad import Ad
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.adcreative import AdCreative
from facebook_business.adobjects.adset import AdSet
from facebook_business.adobjects.adsinsights import AdsInsights
from facebook_business.adobjects.campaign import Campaign
from facebook_business.adobjects.lead import Lead

from sync_pipeline.sandbox import faults, graph_fields
from sync_pipeline.sandbox.entities import EFFECTIVE_STATUSES
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.graph import VERSION_ENDS
from sync_pipeline.sandbox.graph_days import PRESETS
from sync_pipeline.sandbox.graph_errors import NAMED
from sync_pipeline.sandbox.graph_insights import LEVELS
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import (
    ALL_STATUSES,
    IN_LOS_ANGELES,
    MAIN,
    daily_insights,
    error_of,
    graph,
    pages,
)
from sync_pipeline_tests.sandbox.documented import GRAPH

SAIGON = ("mekong", "100000000000202")
WEEK = ("2026-11-01", "2026-11-07")
FORMS = {
    "text": r".+",
    "date": r"\d{4}-\d{2}-\d{2}",
    "number": r"\d+(\.\d+)?",
}


def names(enumeration: type) -> set[str]:
    return {value for name, value in vars(enumeration).items() if not name.startswith("_")}


def documented_rows(sandbox: SandboxServer) -> list[dict[str, Any]]:
    """A week of rows with every documented field: of an account that counts leads, purchases, and messages."""
    wanted = daily_insights(*WEEK, fields=",".join(GRAPH["insights"]), limit="5000", filtering=[ALL_STATUSES])
    accounts = (("lumina", MAIN), ("lumina", IN_LOS_ANGELES), SAIGON)
    answers = [graph(sandbox, f"act_{account}/insights", tenant=tenant, **wanted) for tenant, account in accounts]
    return [row for answer in answers for row in answer.json()["data"]]


def is_of_kind(value: object, kind: str) -> bool:
    if kind == "list":
        return isinstance(value, list) and all(
            entry.keys() == {"action_type", "value"} and {type(one) for one in entry.values()} == {str}
            for entry in value
        )
    if kind == "results":
        return isinstance(value, list) and all(entry.keys() == {"indicator", "values"} for entry in value)
    return isinstance(value, str) and re.fullmatch(FORMS[kind], value, re.DOTALL) is not None


def test_every_documented_field_of_insights_has_its_form(sandbox: SandboxServer) -> None:
    rows = documented_rows(sandbox)
    assert len(rows) > 100
    assert set().union(*rows) == set(GRAPH["insights"])
    wrong = [(name, row[name]) for row in rows for name in row if not is_of_kind(row[name], GRAPH["insights"][name])]
    assert wrong == []


def test_metrics_without_a_value_are_left_out(sandbox: SandboxServer) -> None:
    rows = documented_rows(sandbox)
    assert all(row.keys() >= set(GRAPH["always_present"]) for row in rows)
    for name in GRAPH["sometimes_absent"]:
        assert 0 < sum(name in row for row in rows) < len(rows), name


def test_every_documented_action_type_occurs(sandbox: SandboxServer) -> None:
    found = {action["action_type"] for row in documented_rows(sandbox) for action in row.get("actions", [])}
    assert found == set(GRAPH["action_types"])


@pytest.mark.parametrize("name", GRAPH["refused_fields"])
def test_other_fields_of_insights_are_refused(sandbox: SandboxServer, name: str) -> None:
    answer = graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*WEEK, fields=f"spend,{name}"))
    assert error_of(answer) == (400, 100, None)
    assert name in answer.json()["error"]["message"]


def test_view_windows_without_data_hold_nothing(sandbox: SandboxServer) -> None:
    windows = ["7d_click", "1d_view", *GRAPH["empty_windows"]]
    wanted = daily_insights(*WEEK, fields="actions", action_attribution_windows=windows)
    rows = graph(sandbox, f"act_{MAIN}/insights", **wanted).json()["data"]
    actions = [action for row in rows for action in row.get("actions", [])]
    assert actions
    assert all(action.keys() == {"action_type", "value", "7d_click"} for action in actions)


@pytest.mark.parametrize("edge", GRAPH["nodes"])
def test_every_documented_field_of_a_node_is_answered(sandbox: SandboxServer, edge: str) -> None:
    fields = GRAPH["nodes"][edge]
    nodes = [node for page in pages(sandbox, f"act_{MAIN}/{edge}", fields=",".join(fields)) for node in page]
    assert nodes
    expected = {field.partition("{")[0] for field in fields} - set(GRAPH["nodes_without_value"][edge])
    assert set().union(*nodes) == expected
    for name in expected & {"daily_budget", "name", "created_time", "effective_status"}:
        assert {type(node[name]) for node in nodes if name in node} == {str}
    assert {type(node["id"]) for node in nodes} == {str}


def test_every_documented_field_of_an_account_is_answered(sandbox: SandboxServer) -> None:
    listed = graph(sandbox, "me/adaccounts", fields=",".join(GRAPH["accounts"])).json()["data"]
    assert all(account.keys() == {"id", *GRAPH["accounts"]} for account in listed)


def test_statuses_levels_versions_and_report_states(sandbox: SandboxServer) -> None:
    assert set(EFFECTIVE_STATUSES) == set(GRAPH["effective_statuses"])
    assert {ad.status for ad in sandbox.world.ads(MAIN)} == set(GRAPH["statuses"])
    assert set(LEVELS) == set(GRAPH["levels"])
    ends = {name: end and date.fromisoformat(end) for name, end in GRAPH["versions"].items()}
    assert ends == VERSION_ENDS
    seen: set[str] = set()
    for outcome in ("completed", "failed", "skipped"):
        sandbox.behaviour.report_outcome = outcome
        run = graph(sandbox, f"act_{MAIN}/insights", method="POST", **daily_insights(*WEEK)).json()["report_run_id"]
        seen |= {graph(sandbox, run).json()["async_status"] for _ in range(3)}
    assert seen <= set(GRAPH["report_statuses"])
    assert len(seen) == 5


def test_every_documented_error_can_be_answered(sandbox: SandboxServer) -> None:
    assert NAMED.keys() == GRAPH["errors"].keys()
    for name, (code, subcode, statuses) in GRAPH["errors"].items():
        sandbox.faults.add(Fault(faults.graph_error(name)))
        answer = graph(sandbox, "me")
        assert error_of(answer)[1:] == (code, subcode), name
        assert answer.status_code in statuses, name
        assert answer.json()["error"].keys() <= set(GRAPH["error_keys"]), name


def test_usage_headers_have_the_recorded_keys(sandbox: SandboxServer) -> None:
    for tier in GRAPH["access_tiers"]:
        sandbox.behaviour.access_tier = tier
        headers = graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*WEEK)).headers
        for name, keys in GRAPH["headers"].items():
            usage = json.loads(headers[name])
            entry = usage[MAIN][0] if name == "X-Business-Use-Case-Usage" else usage
            assert sorted(entry) == keys, name
            assert entry.get("ads_api_access_tier", tier) == tier


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (graph_fields.INSIGHTS, AdsInsights.Field),
        (graph_fields.BREAKDOWNS, AdsInsights.Breakdowns),
        (graph_fields.ACTION_BREAKDOWNS, AdsInsights.ActionBreakdowns),
        (graph_fields.ATTRIBUTION_WINDOWS, AdsInsights.ActionAttributionWindows),
        (frozenset(PRESETS), AdsInsights.DatePreset),
        (frozenset(LEVELS), AdsInsights.Level),
        (graph_fields.AD_ACCOUNT, AdAccount.Field),
        (graph_fields.CAMPAIGN, Campaign.Field),
        (graph_fields.AD_SET, AdSet.Field),
        (graph_fields.AD, Ad.Field),
        (graph_fields.AD_CREATIVE - {"instagram_actor_id"}, AdCreative.Field),
        (graph_fields.LEAD, Lead.Field),
    ],
    ids=lambda one: getattr(one, "__qualname__", ""),
)
def test_names_are_those_of_metas_own_sdk(ours: frozenset[str], theirs: type) -> None:
    assert ours == names(theirs)
