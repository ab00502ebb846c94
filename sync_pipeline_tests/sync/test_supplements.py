"""Ad statuses and account totals supplement the insights: that they cannot be fetched never costs the spend."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import sqlalchemy as sa

from sync_pipeline.rates import Rates
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.demo_tenants import LUMINA
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sandbox.world import World
from sync_pipeline.sources import errors
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sync import META
from sync_pipeline.sync.supplements import MAX_FAILURES, MAX_REFUSED
from sync_pipeline.warehouse.checks import AccountSpend
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.sync.bench import NOW, SECOND_ACCOUNT, Bench, days_from, demo_tenant

DAYS = days_from(date(2026, 10, 5), 4)
MONDAY = DAYS[0]
STATUSES, INSIGHTS = f"/act_{SECOND_ACCOUNT}/ads$", f"/act_{SECOND_ACCOUNT}/insights$"
TOTALS = "(^|&)level=account(&|$)"
# A request without ids is one for the account's whole list.
NO_IDS = r"^(?!.*ad\.id)"
INCOMPLETE_CREATIVE = faults.graph_error_code(100, 2446289, message="Ad creative is incomplete")
FIGURES = (
    "SELECT date, account_id, ad_id, ad_name, spend, impressions, clicks, link_clicks, leads FROM meta_ad_insights "
    "ORDER BY 1, 2, 3"
)
REFUSALS: dict[str, Effect] = {
    "no permission": faults.graph_error("no_permission"),
    "incomplete creative": INCOMPLETE_CREATIVE,
    "bad parameter": faults.graph_error("bad_parameter"),
    "too much data": faults.graph_error("too_much_data"),
    "transient": faults.graph_error("transient"),
    "unknown code": faults.graph_error_code(9999),
    "HTTP 502": faults.html(502),
    "HTML": faults.html(),
    "no JSON": faults.no_json(),
    "another shape": faults.json_body({"data": {}}),
    "connection reset": faults.reset(),
    "cut off": faults.truncated(),
    "redirect": faults.redirect("https://elsewhere.example/"),
}
ENDS: dict[str, tuple[Effect, type[errors.SourceError]]] = {
    "token": (faults.graph_error("expired_token"), errors.TokenError),
    "app secret": (faults.graph_error("bad_proof"), errors.AppProofError),
    "version": (faults.graph_error("version_gone"), errors.ApiVersionError),
    "policy": (faults.graph_error("policy_block"), errors.PolicyBlockedError),
}


def refuse(bench: Bench, effect: Effect, path: str, query: str = "", *, times: int | None = None) -> Fault:
    return bench.sandbox.faults.add(Fault(effect, path=path, query=query, times=times))


def age_statuses(bench: Bench) -> None:
    """Give every stored status a value that Meta does not send."""
    bench.execute("UPDATE meta_ad_insights SET status = 'OLD', effective_status = 'OLDER'")


def aged(bench: Bench) -> set[tuple[str, str]]:
    """The account and ad of every row whose status is as it was before."""
    query = "SELECT account_id, ad_id FROM meta_ad_insights WHERE (status, effective_status) = ('OLD', 'OLDER')"
    return {(account_id, ad_id) for account_id, ad_id in bench.query(query)}


def ads(bench: Bench, account_id: str = SECOND_ACCOUNT) -> list[str]:
    query = f"SELECT DISTINCT ad_id FROM meta_ad_insights WHERE account_id = '{account_id}' ORDER BY 1"
    return [ad_id for (ad_id,) in bench.query(query)]


def requested(bench: Bench) -> list[list[str]]:
    """The ids of each request for statuses of the second account, none for its whole list."""
    filters = [
        json.loads(parse_qs(one.query)["filtering"][0]) for one in bench.sandbox.requests.all("ads", SECOND_ACCOUNT)
    ]
    return [[ad_id for part in one if part["field"] == "ad.id" for ad_id in part["value"]] for one in filters]


@pytest.fixture
def by_day(bench: Bench, tmp_path: Path) -> Bench:
    """A bench that requests one day at a time."""
    bench.tenant = demo_tenant(tmp_path / "by_day", meta_days=1)
    return bench


@pytest.fixture
def busy(engine: sa.Engine, tmp_path: Path) -> Iterator[Bench]:
    """A bench whose second account has far more ads than one request for statuses may name."""
    accounts = (LUMINA.accounts[0], LUMINA.accounts[1]._replace(share=0.95, quiet_weekday=None))
    world = World(ads=160, orders=1, now=lambda: NOW, plans=[LUMINA._replace(accounts=accounts)])
    with SandboxServer(world=world) as sandbox:
        yield Bench(sandbox, engine, demo_tenant(tmp_path))


# Statuses


@pytest.mark.parametrize("effect", REFUSALS.values(), ids=REFUSALS)
def test_refused_statuses_cost_no_insights(by_day: Bench, effect: Effect) -> None:
    by_day.sync(DAYS, [META])
    age_statuses(by_day)
    for day in DAYS:
        by_day.sandbox.world.restate(SECOND_ACCOUNT, day, 2.0)
    spend = f"SELECT date, sum(spend) FROM meta_ad_insights WHERE account_id = '{SECOND_ACCOUNT}' GROUP BY 1 ORDER BY 1"
    before = by_day.query(spend)
    refuse(by_day, effect, STATUSES)
    results = by_day.sync(DAYS, [META])

    assert by_day.steps() == [(day, META) for day in DAYS]
    assert all(result.complete for result in results)
    assert by_day.query(spend) == [(day, 2 * amount) for day, amount in before]
    assert aged(by_day) == {(SECOND_ACCOUNT, ad_id) for ad_id in ads(by_day)}
    [warning] = by_day.unavailable
    assert warning.startswith(f"account {SECOND_ACCOUNT}: ad statuses could not be fetched, so that stored ones stay")
    assert f"account {SECOND_ACCOUNT}, {MONDAY}" in warning


def test_a_new_ad_whose_status_is_refused_has_none(bench: Bench) -> None:
    refuse(bench, faults.graph_error("no_permission"), STATUSES)
    bench.sync(DAYS, [META])
    without = "SELECT DISTINCT account_id FROM meta_ad_insights WHERE status IS NULL OR effective_status IS NULL"
    assert bench.query(without) == [(SECOND_ACCOUNT,)]
    assert len(ads(bench)) > 1


@pytest.mark.parametrize(("effect", "error"), ENDS.values(), ids=ENDS)
@pytest.mark.parametrize(("path", "query"), [(STATUSES, ""), (INSIGHTS, TOTALS)], ids=["statuses", "totals"])
def test_an_error_that_ends_the_sync_still_ends_it(
    bench: Bench, path: str, query: str, effect: Effect, error: type[errors.SourceError]
) -> None:
    refuse(bench, effect, path, query)
    with pytest.raises(error):
        bench.sync(DAYS, [META])
    assert bench.query(FIGURES) == []
    assert bench.unavailable == []


@pytest.mark.parametrize(("path", "query"), [("/ads$", ""), ("/insights$", TOTALS)], ids=["statuses", "totals"])
def test_a_rate_limit_that_outlasts_its_wait_costs_no_insights(by_day: Bench, path: str, query: str) -> None:
    by_day.sync(DAYS, [META])
    figures = by_day.query(FIGURES)
    by_day.start_over()
    by_day.pacing = Pacing(delay_s=0, max_wait_s=90)
    refuse(by_day, faults.graph_error_code(80004), path, query)
    by_day.sync(DAYS, [META])
    assert by_day.query(FIGURES) == figures
    assert sum(by_day.slept) == 90, "only the first account and day wait"
    accounts = [account_id for (account_id,) in by_day.query("SELECT account_id FROM meta_ad_accounts ORDER BY 1")]
    assert [warning.split(":")[0] for warning in by_day.unavailable] == [f"account {one}" for one in accounts]
    assert all("still after 90 s of waits" in warning for warning in by_day.unavailable)


def test_a_rate_limit_of_an_unlisted_account_ends_the_discovery(bench: Bench) -> None:
    assert bench.tenant.meta is not None
    named = bench.tenant.meta.model_copy(update={"accounts": (SECOND_ACCOUNT,)})
    bench.tenant = bench.tenant.model_copy(update={"meta": named})
    refuse(bench, faults.json_body({"data": []}), "/me/[a-z_]+$")
    refuse(bench, faults.rate_limited("9999"), f"/act_{SECOND_ACCOUNT}$")
    with pytest.raises(errors.RateLimitedError):
        bench.sync(DAYS[:1], [META])


def test_one_incomplete_creative_costs_its_own_status_only(bench: Bench) -> None:
    bench.sync(DAYS, [META])
    age_statuses(bench)
    bad = ads(bench)[1]
    refuse(bench, INCOMPLETE_CREATIVE, STATUSES, bad)
    bench.sync(DAYS, [META])
    assert aged(bench) == {(SECOND_ACCOUNT, bad)}
    [warning] = bench.unavailable
    assert "Ad creative is incomplete" in warning
    assert "subcode 2446289" in warning


def test_an_unavailable_status_is_not_requested_again(by_day: Bench) -> None:
    by_day.sync(DAYS, [META])
    bad = by_day.query(
        f"SELECT ad_id FROM meta_ad_insights WHERE account_id = '{SECOND_ACCOUNT}' GROUP BY 1 "
        f"HAVING count(*) = {len(DAYS)} ORDER BY 1 LIMIT 1"
    )[0][0]
    refuse(by_day, INCOMPLETE_CREATIVE, STATUSES, bad)
    by_day.sandbox.requests.clear()
    by_day.sync(DAYS[:1], [META])
    of_one_day = sum(bad in ids for ids in requested(by_day))
    by_day.sandbox.requests.clear()
    by_day.sync(DAYS, [META])
    assert sum(bad in ids for ids in requested(by_day)) == of_one_day
    assert len(by_day.unavailable) == 1


def test_one_incomplete_creative_among_many_ads_costs_one_status(busy: Bench) -> None:
    busy.sync(DAYS, [META])
    assert len(ads(busy)) > 100
    age_statuses(busy)
    bad = ads(busy)[70]
    refuse(busy, INCOMPLETE_CREATIVE, STATUSES, NO_IDS)
    refuse(busy, INCOMPLETE_CREATIVE, STATUSES, bad)
    busy.sandbox.requests.clear()
    busy.sync(DAYS, [META])
    assert aged(busy) == {(SECOND_ACCOUNT, bad)}
    assert len(busy.unavailable) == 1
    batches = -(-len(ads(busy)) // 50)
    # The list, each batch of 50, and two halves of each of the six batches that hold the bad one.
    assert len(requested(busy)) <= 1 + batches + 2 * 6


def test_a_refusal_of_every_ad_takes_few_requests(busy: Bench) -> None:
    refuse(busy, INCOMPLETE_CREATIVE, STATUSES)
    busy.sync(DAYS, [META])
    # The list, then batches of 50, 25, 12, 6, 3, 1, 2, 1 and 1.
    assert [len(ids) for ids in requested(busy)] == [0, 50, 25, 12, 6, 3, 1, 2, 1, 1]
    assert len(ads(busy)) > 100


def test_an_ad_that_is_too_much_data_alone_leaves_pages_large(busy: Bench) -> None:
    busy.sync(DAYS, [META])
    age_statuses(busy)
    bad = ads(busy)[0]
    refuse(busy, faults.graph_error("too_much_data"), STATUSES, NO_IDS)
    refuse(busy, faults.graph_error("too_much_data"), STATUSES, bad)
    busy.sandbox.requests.clear()
    busy.sync(DAYS, [META])
    assert aged(busy) == {(SECOND_ACCOUNT, bad)}
    accepted = [one for one in busy.sandbox.requests.all("ads", SECOND_ACCOUNT) if one.status == 200]
    batches = -(-len(ads(busy)) // 50)
    # The other batches, and the halves of 25, 13, 6, 3 and 2 ads without the bad one.
    assert len(accepted) == batches - 1 + 5


def test_many_incomplete_creatives_take_a_limited_number_of_requests(busy: Bench) -> None:
    busy.sync(DAYS, [META])
    age_statuses(busy)
    bad = ads(busy)[3::7]
    refuse(busy, INCOMPLETE_CREATIVE, STATUSES, NO_IDS)
    refuse(busy, INCOMPLETE_CREATIVE, STATUSES, "|".join(bad))
    busy.sandbox.requests.clear()
    busy.sync(DAYS, [META])
    refused = [one for one in busy.sandbox.requests.all("ads", SECOND_ACCOUNT) if one.status == 400]
    assert len(refused) == MAX_REFUSED + 1
    kept = {ad_id for account_id, ad_id in aged(busy) if account_id == SECOND_ACCOUNT}
    assert kept > set(bad)
    assert len(ads(busy)) - len(kept) > 20


@pytest.mark.parametrize(
    ("name", "path", "query"),
    [("no_permission", STATUSES, ""), ("no_permission", INSIGHTS, TOTALS), ("bad_parameter", INSIGHTS, TOTALS)],
)
def test_a_lasting_refusal_is_met_once_per_run(by_day: Bench, name: str, path: str, query: str) -> None:
    refuse(by_day, faults.graph_error(name), path, query)
    by_day.sync(DAYS, [META])
    assert sum(one.status in {400, 403} for one in by_day.sandbox.requests.all()) == 1


def test_an_outage_of_statuses_is_given_up_after_some_windows(by_day: Bench) -> None:
    refuse(by_day, faults.http_error(503), STATUSES)
    days = days_from(MONDAY, MAX_FAILURES + 2)
    by_day.sync(days, [META])
    assert len(requested(by_day)) == MAX_FAILURES
    assert by_day.steps() == [(day, META) for day in days]
    assert len(by_day.unavailable) == 1


def test_statuses_are_requested_again_after_a_short_outage(by_day: Bench) -> None:
    refuse(by_day, faults.http_error(503), STATUSES, times=MAX_FAILURES - 1)
    by_day.sync(DAYS, [META])
    without = {day for (day,) in by_day.query("SELECT DISTINCT date FROM meta_ad_insights WHERE status IS NULL")}
    assert without == set(DAYS[: MAX_FAILURES - 1])


def test_an_ad_that_meta_does_not_know_loses_its_status(bench: Bench) -> None:
    bench.sync(DAYS, [META])
    refuse(bench, faults.json_body({"data": []}), STATUSES)
    bench.sync(DAYS, [META])
    assert bench.query("SELECT DISTINCT account_id FROM meta_ad_insights WHERE status IS NULL") == [(SECOND_ACCOUNT,)]
    assert bench.unavailable == []


def test_an_unreadable_status_leaves_the_stored_one(bench: Bench) -> None:
    bench.sync(DAYS, [META])
    age_statuses(bench)
    bad = ads(bench)[0]
    refuse(bench, faults.bad_rows({"status": ["ACTIVE"]}, ids=[bad]), STATUSES)
    bench.sync(DAYS, [META])
    assert aged(bench) == {(SECOND_ACCOUNT, bad)}


# Totals


def reported(bench: Bench) -> dict[date, dict[str, str | None]]:
    return dict(bench.query("SELECT day, reported FROM sync_log ORDER BY id"))  # type: ignore[arg-type]


@pytest.mark.parametrize("effect", REFUSALS.values(), ids=REFUSALS)
def test_refused_totals_cost_no_insights(by_day: Bench, effect: Effect) -> None:
    by_day.sync(DAYS, [META])
    undisturbed, totals = by_day.tables(), reported(by_day)
    by_day.start_over()
    refuse(by_day, effect, INSIGHTS, TOTALS)
    results = by_day.sync(DAYS, [META])

    assert by_day.tables() == undisturbed
    assert all(result.complete for result in results)
    assert reported(by_day) == {day: {**totals[day], SECOND_ACCOUNT: None} for day in DAYS}
    [warning] = by_day.unavailable
    assert warning.startswith(f"account {SECOND_ACCOUNT}: the account's own total could not be fetched")
    assert "spend_matches_account has nothing to compare with" in warning


def test_totals_whose_report_fails_too_cost_no_insights(bench: Bench, tmp_path: Path) -> None:
    bench.sync(DAYS, [META])
    undisturbed = bench.tables()
    bench.start_over()
    bench.tenant = demo_tenant(tmp_path / "by_two", meta_days=2)
    bench.sandbox.faults.add(
        Fault(faults.graph_error("too_much_data"), path=INSIGHTS, query=TOTALS, method="GET", times=None)
    )
    bench.sandbox.behaviour.report_outcome = "failed"
    bench.sync(DAYS, [META])
    assert bench.tables() == undisturbed
    assert bench.sandbox.requests.count("report_start") == 1, "not again in the second window"
    assert [said[SECOND_ACCOUNT] for said in reported(bench).values()] == [None] * len(DAYS)
    [warning] = bench.unavailable
    assert "ended as Job Failed" in warning


def test_totals_read_before_the_refusal_are_kept(bench: Bench) -> None:
    bench.sync(DAYS, [META])
    totals = reported(bench)
    bench.insights_page = 1
    bench.start_over()
    refuse(bench, faults.http_error(503), INSIGHTS, r"^(?=.*level=account).*(^|&)after=")
    bench.sync(DAYS, [META])
    found = {day: said[SECOND_ACCOUNT] for day, said in reported(bench).items()}
    kept = {day for day, total in found.items() if total is not None}
    assert 0 < len(kept) < len(DAYS)
    assert all(found[day] == totals[day][SECOND_ACCOUNT] for day in kept)


def test_a_total_that_is_missing_is_read_as_none(bench: Bench) -> None:
    refuse(bench, faults.graph_error("no_permission"), INSIGHTS, TOTALS)
    bench.sync(DAYS[:1], [META])
    [(stored,)] = bench.query(f"SELECT sum(spend) FROM meta_ad_insights WHERE account_id = '{SECOND_ACCOUNT}'")
    tenant = bench.tenant
    with Warehouse(bench.engine).tenant(tenant.tenant_id, name="Lumina", timezone=tenant.timezone) as held:
        found = held.checks(Rates()).account_spend(DAYS[:1])
    assert AccountSpend(MONDAY, SECOND_ACCOUNT, reported=None, stored=stored, was_over=True) in found
    assert all(one.reported == one.stored for one in found if one.account_id != SECOND_ACCOUNT)


# Account details


def test_details_that_cannot_be_read_stay_as_stored(bench: Bench) -> None:
    bench.sync(DAYS[:1], [META])
    details = "SELECT account_id, name, currency, timezone_name, account_status FROM meta_ad_accounts ORDER BY 1"
    before = bench.query(details)
    assert bench.tenant.meta is not None
    named = bench.tenant.meta.model_copy(update={"accounts": (SECOND_ACCOUNT,)})
    bench.tenant = bench.tenant.model_copy(update={"meta": named})
    refuse(bench, faults.json_body({"data": []}), "/me/[a-z_]+$")
    refuse(bench, faults.http_error(503), f"/act_{SECOND_ACCOUNT}$")
    [result] = bench.sync(DAYS[:1], [META])
    assert result.complete
    assert bench.query(details) == before


def test_an_expired_token_still_ends_the_discovery(bench: Bench) -> None:
    assert bench.tenant.meta is not None
    named = bench.tenant.meta.model_copy(update={"accounts": (SECOND_ACCOUNT,)})
    bench.tenant = bench.tenant.model_copy(update={"meta": named})
    bench.pacing = Pacing(delay_s=0, max_wait_s=0)
    refuse(bench, faults.json_body({"data": []}), "/me/[a-z_]+$")
    refuse(bench, faults.graph_error("expired_token"), f"/act_{SECOND_ACCOUNT}$")
    with pytest.raises(errors.TokenError):
        bench.sync(DAYS[:1], [META])
