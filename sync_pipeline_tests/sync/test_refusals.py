"""What a sync with `on_error: continue` stores where accounts, shops or keys refuse permanently."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources import errors
from sync_pipeline.sources.errors import (
    ApiError,
    BadRequestError,
    PermissionDeniedError,
    Place,
    SourceError,
    TokenError,
)
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.errors import NothingListedError, PlacedError, SyncFailedError
from sync_pipeline.sync.refusals import error_facts, error_from, refuses
from sync_pipeline.tenants import find_tenant, load_tenants
from sync_pipeline.warehouse import exclusions
from sync_pipeline.warehouse.refusals import standing_refusals
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import copied_demo_tenants
from sync_pipeline_tests.sync.bench import (
    FIRST_ACCOUNT,
    FIRST_SHOP,
    SECOND_ACCOUNT,
    SECOND_SHOP,
    Bench,
    Row,
    days_from,
    demo_tenant,
)

MONDAY = date(2026, 10, 5)
WEEK = days_from(MONDAY, 7)
THIRD_ACCOUNT = "100000000000103"
HANOI, SAIGON = "320001", "320002"
HANOI_KEY, SAIGON_KEY = "MEKONG_PANCAKE_KEY_HANOI", "MEKONG_PANCAKE_KEY_SAIGON"
EXPIRED = "The subscription of this shop has expired"

insights = f"act_{SECOND_ACCOUNT}/insights"
orders = f"shops/{SECOND_SHOP}/orders"


def refused(status: int) -> Effect:
    return faults.json_body({"success": False, "message": EXPIRED}, status)


def failed_sync(bench: Bench, days: list[date], sources: tuple[str, ...] = (META, POS)) -> SyncFailedError:
    with pytest.raises(SyncFailedError) as failure:
        bench.sync(days, sources, go_on=True)
    return failure.value


def rows_by_scope(bench: Bench) -> dict[str, list[Row]]:
    """All insights and orders by account and shop."""
    found: dict[str, list[Row]] = {}
    for table, scope in (("meta_ad_insights", "account_id"), ("pos_orders", "shop_id")):
        for row in bench.query(f"SELECT {scope}, * FROM {table} ORDER BY 1, 2, 3, 4, 5"):
            found.setdefault(row[0], []).append(row)
    return found


def log_of(bench: Bench, source: str, run: int) -> list[Row]:
    statement = "SELECT day, complete, missing FROM sync_log WHERE source = '{}' AND run_id = 'run-{}' ORDER BY id"
    return bench.query(statement.format(source, run))


@pytest.fixture
def mekong(sandbox: SandboxServer, engine: sa.Engine, tmp_path: Path) -> Bench:
    """A tenant with a key for each of its two shops; the second key's shop is named in its file."""
    return Bench(sandbox, engine, find_tenant(load_tenants(copied_demo_tenants(tmp_path / "demo")), "mekong"))


def with_all_shops(bench: Bench, folder: Path) -> None:
    """Have the tenant file name no shop."""
    file = copied_demo_tenants(folder / "all") / "mekong.yaml"
    file.write_text(file.read_text().replace("shops: [320002]", "shops: all"))
    bench.tenant = find_tenant(load_tenants(folder / "all"), "mekong")


# One account or shop


@pytest.mark.parametrize("days_per_request", [1, 31])
@pytest.mark.parametrize(
    ("source", "path", "kind", "scope", "effect", "error"),
    [
        (META, insights, "insights", SECOND_ACCOUNT, faults.graph_error("no_permission"), PermissionDeniedError),
        (META, insights, "insights", SECOND_ACCOUNT, faults.graph_error("no_such_object"), BadRequestError),
        (POS, orders, "orders", SECOND_SHOP, faults.pancake_failure(EXPIRED), ApiError),
        (POS, orders, "orders", SECOND_SHOP, refused(402), ApiError),
        (POS, orders, "orders", SECOND_SHOP, refused(403), PermissionDeniedError),
        (POS, orders, "orders", SECOND_SHOP, refused(404), BadRequestError),
    ],
)
def test_the_others_are_stored_where_one_refuses(
    bench: Bench,
    tmp_path: Path,
    days_per_request: int,
    source: str,
    path: str,
    kind: str,
    scope: str,
    effect: Effect,
    error: type[SourceError],
) -> None:
    bench.tenant = demo_tenant(tmp_path / "again", meta_days=days_per_request, pos_days=days_per_request)
    bench.sync(WEEK[:2])
    before = rows_by_scope(bench)
    for day in WEEK:
        for account in (FIRST_ACCOUNT, SECOND_ACCOUNT):
            bench.sandbox.world.restate(account, day, 2.0)
        for shop in (FIRST_SHOP, SECOND_SHOP):
            order = bench.sandbox.world.orders(int(shop), day)[0]
            bench.sandbox.world.delete_order(int(shop), order.order_id)
    bench.sandbox.faults.add(Fault(effect, path=path, times=None))
    bench.sandbox.requests.clear()
    failure = failed_sync(bench, WEEK)

    assert bench.sandbox.requests.count(kind, scope) == 1
    assert [type(found) for found in failure.errors] == [error]
    after = rows_by_scope(bench)
    assert after[scope] == before[scope], "neither changed nor removed"
    expected = [(day, False, [scope]) for day in WEEK]
    assert log_of(bench, source, 2) == expected
    assert log_of(bench, POS if source == META else META, 2) == [(day, True, []) for day in WEEK]
    assert [(one.scope, one.days) for one in failure.missing] == [(scope, tuple(WEEK))]
    place = failure.errors[0].place
    assert (place.since, place.until) == (WEEK[0], WEEK[-1])

    bench.sandbox.faults.clear()
    bench.sync(WEEK)
    complete = rows_by_scope(bench)
    assert {one: rows for one, rows in after.items() if one != scope} == {
        one: rows for one, rows in complete.items() if one != scope
    }
    assert complete[scope] != before[scope]
    assert log_of(bench, source, 3) == [(day, True, []) for day in WEEK]


def test_rows_that_came_before_the_refusal_are_not_stored(bench: Bench) -> None:
    bench.insights_page = 2
    bench.orders_page = 3
    bench.sync(WEEK[:2])
    before = rows_by_scope(bench)
    bench.sandbox.world.restate(SECOND_ACCOUNT, MONDAY, 2.0)
    bench.sandbox.world.add_order(int(SECOND_SHOP), MONDAY)
    add = bench.sandbox.faults.add
    middle = add(Fault(faults.graph_error("no_permission"), path=insights, query="(^|&)after=", times=None))
    last = add(Fault(refused(403), path=orders, query="page_number=2", times=None))
    failed_sync(bench, WEEK[:2])
    assert middle.hits == last.hits == 1
    after = rows_by_scope(bench)
    assert (after[SECOND_ACCOUNT], after[SECOND_SHOP]) == (before[SECOND_ACCOUNT], before[SECOND_SHOP])
    assert bench.query(
        f"SELECT bool_or(reported ?| ARRAY['{SECOND_ACCOUNT}', '{SECOND_SHOP}']) FROM sync_log WHERE run_id = 'run-2'"
    ) == [(False,)]


def test_rejected_rows_of_what_refuses_stay(bench: Bench) -> None:
    bad = bench.sandbox.faults.add(Fault(faults.bad_rows({"status": "x"}, most=1), path="/orders$", times=None))
    bench.sync([MONDAY], [POS])
    rejected = "SELECT shop_id, row_id FROM rejected_rows ORDER BY 1"
    before = bench.query(rejected)
    assert [shop for shop, _ in before] == [FIRST_SHOP, SECOND_SHOP]
    bad.times = 0
    bench.sandbox.faults.add(Fault(refused(403), path=orders, times=None))
    failed_sync(bench, [MONDAY], (POS,))
    assert bench.query(rejected) == before[1:]


def test_a_refused_window_is_tried_by_day_if_unclear(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(faults.http_error(400), path=orders, times=None))
    bench.sandbox.faults.add(Fault(faults.graph_error_code(9999), path=insights, times=None))
    failure = failed_sync(bench, WEEK)
    requests = bench.sandbox.requests
    assert [requests.count("orders", SECOND_SHOP), requests.count("insights", SECOND_ACCOUNT)] == [2, 2]
    # The window, its first day, and the rest of the window without what refuses.
    assert [requests.count("orders", FIRST_SHOP), requests.count("insights", FIRST_ACCOUNT)] == [3, 3]
    assert {one.scope for one in failure.missing} == {SECOND_ACCOUNT, SECOND_SHOP}
    assert log_of(bench, POS, 1) == [(day, False, [SECOND_SHOP]) for day in WEEK]


def test_days_before_an_unclear_refusal_are_complete(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(faults.http_error(400), path=orders, covers_day=WEEK[3], times=None))
    failure = failed_sync(bench, WEEK, (POS,))
    assert log_of(bench, POS, 1) == [
        *((day, True, []) for day in WEEK[:3]),
        *((day, False, [SECOND_SHOP]) for day in WEEK[3:]),
    ]
    [error] = failure.errors
    assert (error.place.since, error.place.until) == (WEEK[3], WEEK[-1])


def test_a_transient_error_beside_a_refusal_fails_its_day(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(refused(403), path=orders, times=None))
    bench.sandbox.faults.add(
        Fault(faults.http_error(500), path=f"shops/{FIRST_SHOP}/orders", covers_day=WEEK[1], times=None)
    )
    failure = failed_sync(bench, WEEK[:3], (POS,))
    assert bench.sandbox.requests.count("orders", SECOND_SHOP) == 1
    assert [day for day, _, _ in log_of(bench, POS, 1)] == [WEEK[0], WEEK[2]]
    assert [(type(error), error.place.shop_id) for error in failure.errors] == [
        (PermissionDeniedError, SECOND_SHOP),
        (errors.TransientError, FIRST_SHOP),
    ]


def test_a_source_whose_accounts_all_refuse_ends(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(faults.graph_error("no_permission"), path="/insights$", times=None))
    failure = failed_sync(bench, WEEK)
    assert bench.sandbox.requests.count("insights") == 3, "each account once"
    assert log_of(bench, META, 1) == []
    assert log_of(bench, POS, 1) == [(day, True, []) for day in WEEK]
    assert [error.place.account_id for error in failure.errors] == [
        row[0] for row in bench.query("SELECT account_id FROM meta_ad_accounts ORDER BY 1")
    ]


@pytest.mark.parametrize(
    "effect",
    [faults.graph_error("expired_token"), faults.graph_error("policy_block"), faults.graph_error("version_gone")],
)
def test_an_error_of_the_token_ends_the_source(bench: Bench, effect: Effect) -> None:
    bench.sandbox.faults.add(Fault(effect, path=insights, times=None))
    failure = failed_sync(bench, WEEK)
    assert failure.missing == []
    assert bench.stored_days() == {META: [], POS: WEEK}


def test_without_continue_a_refusal_ends_the_sync(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(refused(403), path=orders, times=None))
    with pytest.raises(PermissionDeniedError):
        bench.sync(WEEK)
    assert bench.stored_days() == {META: WEEK[:1], POS: []}
    assert bench.query("SELECT count(*) FROM sync_refusals") == [(0,)]


# Keys and lists


def test_shops_of_a_refused_key_are_missing(mekong: Bench) -> None:
    mekong.sync(WEEK[:1], [POS])
    before = rows_by_scope(mekong)
    mekong.keys = {SAIGON_KEY: "MARKER-revoked"}
    mekong.sandbox.requests.clear()
    failure = failed_sync(mekong, WEEK, (POS,))
    assert mekong.sandbox.requests.count("shops") == 2, "each key once"
    assert mekong.sandbox.requests.count("orders", SAIGON) == 0
    assert log_of(mekong, POS, 2) == [(day, False, [SAIGON]) for day in WEEK]
    assert rows_by_scope(mekong)[SAIGON] == before[SAIGON]
    assert len(rows_by_scope(mekong)[HANOI]) > len(before[HANOI])
    [error] = failure.errors
    assert isinstance(error, TokenError)
    assert error.place.key == SAIGON_KEY
    assert f"key in {SAIGON_KEY}" in str(failure)
    assert f"sync-pipeline shops disable mekong {SAIGON}" in str(failure)
    assert "MARKER" not in str(failure) + mekong.everything()


def test_an_unlisted_shop_of_a_refused_key_can_be_disabled(mekong: Bench) -> None:
    mekong.keys = {SAIGON_KEY: "revoked"}
    failure = failed_sync(mekong, WEEK[:1], (POS,))
    assert [one.scope for one in failure.missing] == [SAIGON]
    mekong.execute(f"UPDATE pos_shops SET enabled = false WHERE shop_id = '{SAIGON}'")
    [result] = mekong.sync(WEEK[:1], [POS], go_on=True)
    assert result.complete


def test_a_key_without_known_shops_is_named_itself(mekong: Bench, tmp_path: Path) -> None:
    with_all_shops(mekong, tmp_path)
    mekong.keys = {SAIGON_KEY: "revoked"}
    failure = failed_sync(mekong, WEEK[:1], (POS,))
    [missing] = failure.missing
    assert missing.command is None
    assert missing.sentence == (
        f"pos: rows of the shops of the key in {SAIGON_KEY} are missing for 2026-10-05; correct the key, or remove it "
        "from the tenant file"
    )
    assert log_of(mekong, POS, 1) == [(MONDAY, False, [f"key in {SAIGON_KEY}"])]


@pytest.mark.parametrize("go_on", [True, False])
def test_success_false_for_the_second_key_names_it(mekong: Bench, go_on: bool) -> None:
    mekong.sandbox.faults.add(Fault(faults.pancake_failure(EXPIRED), path="/shops$", skip=1, times=None))
    with pytest.raises((ApiError, SyncFailedError)) as failure:
        mekong.sync(WEEK[:1], [POS], go_on=go_on)
    assert f"tenant mekong, key in {SAIGON_KEY}" in str(failure.value)
    assert HANOI_KEY not in str(failure.value)
    assert mekong.stored_days()[POS] == (WEEK[:1] if go_on else [])


def test_a_key_refused_during_the_run_costs_its_shops_only(mekong: Bench) -> None:
    mekong.sandbox.faults.add(Fault(faults.pancake_bad_key(), path=f"shops/{SAIGON}/orders", times=None))
    failure = failed_sync(mekong, WEEK, (POS,))
    assert log_of(mekong, POS, 1) == [(day, False, [SAIGON]) for day in WEEK]
    assert [error.place.key for error in failure.errors] == [SAIGON_KEY]


def test_a_key_refused_for_one_shop_is_not_sent_for_others(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(faults.pancake_bad_key(), path="/orders$", times=None))
    failure = failed_sync(bench, WEEK, (POS,))
    assert bench.sandbox.requests.count("orders") == 1
    assert log_of(bench, POS, 1) == []
    assert [one.scope for one in failure.missing] == [FIRST_SHOP, SECOND_SHOP]
    assert len(failure.errors) == 1


def test_a_named_shop_that_a_key_does_not_see_is_missing(bench: Bench, tmp_path: Path) -> None:
    file = copied_demo_tenants(tmp_path / "named") / "lumina.yaml"
    file.write_text(file.read_text().replace("shops: all", f"shops: [{FIRST_SHOP}, 999]", 1))
    bench.tenant = find_tenant(load_tenants(tmp_path / "named"), "lumina")
    failure = failed_sync(bench, WEEK[:2], (POS,))
    assert log_of(bench, POS, 1) == [(day, False, ["999"]) for day in WEEK[:2]]
    assert [type(error) for error in failure.errors] == [NothingListedError]
    assert set(rows_by_scope(bench)) == {FIRST_SHOP}


def test_a_key_whose_shops_are_disabled_may_be_refused(mekong: Bench) -> None:
    mekong.sync(WEEK[:1], [POS])
    mekong.execute(f"UPDATE pos_shops SET enabled = false WHERE shop_id = '{SAIGON}'")
    mekong.keys = {SAIGON_KEY: "revoked"}
    assert [result.complete for result in mekong.sync(WEEK, [POS], go_on=True)] == [True] * 7


def test_a_shop_that_another_key_sees_is_not_missing(bench: Bench, tmp_path: Path) -> None:
    file = copied_demo_tenants(tmp_path / "two") / "lumina.yaml"
    second = "  - api_key: {env: OTHER_KEY}\n    shops: all\n"
    file.write_text(file.read_text().replace("pancake:", f"pancake:\n{second}#", 1))
    bench.tenant = find_tenant(load_tenants(tmp_path / "two"), "lumina")
    bench.keys = {"OTHER_KEY": bench.sandbox.environment["LUMINA_PANCAKE_KEY"]}
    bench.sync(WEEK[:1], [POS])
    bench.keys = {"OTHER_KEY": "revoked"}
    assert [result.complete for result in bench.sync(WEEK[:1], [POS], go_on=True)] == [True]


def named_accounts(bench: Bench, folder: Path) -> None:
    file = copied_demo_tenants(folder / "accounts") / "lumina.yaml"
    named = f'accounts: ["{FIRST_ACCOUNT}", "{SECOND_ACCOUNT}", "{THIRD_ACCOUNT}"] '
    text = file.read_text().replace("accounts: all ", named, 1)
    file.write_text(text)
    bench.tenant = find_tenant(load_tenants(folder / "accounts"), "lumina")


def test_a_refused_account_list_costs_no_named_account(bench: Bench, tmp_path: Path) -> None:
    named_accounts(bench, tmp_path)
    bench.sandbox.faults.add(Fault(faults.graph_error("no_permission"), path="/me/adaccounts$", times=None))
    with pytest.raises(PermissionDeniedError):
        bench.sync(WEEK[:2], [META])
    assert [result.complete for result in bench.sync(WEEK[:2], [META], go_on=True)] == [True, True]
    assert set(rows_by_scope(bench)) == {FIRST_ACCOUNT, SECOND_ACCOUNT, THIRD_ACCOUNT}


def test_an_account_that_cannot_be_read_keeps_its_entry(bench: Bench, tmp_path: Path) -> None:
    named_accounts(bench, tmp_path)
    bench.sync(WEEK[:1], [META])
    stored = "SELECT account_id, name, currency, timezone_name, account_status FROM meta_ad_accounts ORDER BY 1"
    before = bench.query(stored)
    add = bench.sandbox.faults.add
    add(Fault(faults.json_body({"data": []}), path="/me/adaccounts$", times=None))
    add(Fault(faults.json_body({"data": []}), path="/me/assigned_ad_accounts$", times=None))
    add(Fault(faults.graph_error("no_permission"), path=f"act_{SECOND_ACCOUNT}", times=None))
    failure = failed_sync(bench, WEEK[:2], (META,))
    assert bench.query(stored) == before
    assert bench.sandbox.requests.count("insights", SECOND_ACCOUNT) == 2, "one in each run"
    assert [one.command for one in failure.missing] == [f"sync-pipeline accounts disable lumina {SECOND_ACCOUNT}"]


# What stands


def standing(bench: Bench) -> list[tuple[str, str, int]]:
    """The refusals that `status` shows: source, account or shop, and the number of days that lack it."""
    return [(one.source, one.scope, len(one.days)) for one in standing_refusals(bench.engine, bench.tenant.tenant_id)]


def test_a_refusal_stands_until_its_days_are_complete(bench: Bench) -> None:
    fault = bench.sandbox.faults.add(Fault(refused(403), path=orders, times=None))
    failed_sync(bench, WEEK)
    assert standing(bench) == [(POS, SECOND_SHOP, 7)]
    fault.times = 0
    bench.sync(WEEK[:3])
    assert standing(bench) == [(POS, SECOND_SHOP, 4)]
    bench.sync(WEEK)
    assert standing(bench) == []


def test_a_refusal_that_no_day_shows_stands_until_a_sync(bench: Bench) -> None:
    fault = bench.sandbox.faults.add(Fault(refused(403), path="/orders$", times=None))
    failed_sync(bench, WEEK)
    assert standing(bench) == [(POS, FIRST_SHOP, 0), (POS, SECOND_SHOP, 0)]
    bench.execute(f"UPDATE pos_shops SET enabled = false WHERE shop_id = '{FIRST_SHOP}'")
    assert standing(bench) == [(POS, SECOND_SHOP, 0)]
    fault.times = 0
    bench.sync(WEEK[:1])
    assert standing(bench) == []


def test_figures_before_a_shop_is_disabled_still_lack_it(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(refused(403), path=orders, times=None))
    failed_sync(bench, WEEK, (POS,))
    tenant = bench.tenant
    exclusions.disable(bench.engine, tenant.tenant_id, exclusions.SHOPS, SECOND_SHOP, WEEK[3])
    with Warehouse(bench.engine).tenant(tenant.tenant_id, name=tenant.name, timezone=tenant.timezone) as held:
        assert held.missing_of_days(WEEK) == {day: [(POS, SECOND_SHOP)] for day in WEEK[:3]}


# Errors on their way from one step of a run to the next


def every_error() -> list[PlacedError]:
    place = Place("acme", POS, shop_id="7", key="KEY")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SourceError)]
    facts: dict[str, Any] = {
        "http_status": 403,
        "code": 200,
        "subcode": 33,
        "api_message": "no",
        "fbtrace_id": "t",
        "outline": "1 byte",
    }
    return [*(kind(place, "what", **facts) for kind in kinds), NothingListedError(place, "nothing")]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_a_stored_error_reads_back_as_the_same(error: PlacedError) -> None:
    found = error_from("acme", POS, json.loads(json.dumps(error_facts(error))))
    assert type(found) is type(error)
    assert (str(found), found.metadata()) == (str(error), error.metadata())


@pytest.mark.parametrize(
    "kind",
    [
        errors.TransientError,
        errors.RateLimitedError,
        errors.TruncatedResponseError,
        errors.ResponseFormatError,
        errors.TimedOutError,
        errors.ConnectionFailedError,
        errors.HistoryLimitError,
        errors.TooMuchDataError,
        errors.ReportFailedError,
        errors.PolicyBlockedError,
        errors.ApiVersionError,
        errors.AppProofError,
        errors.ClockError,
        errors.RedirectError,
        errors.LimitExceededError,
    ],
)
@pytest.mark.parametrize("source", [META, POS])
def test_other_errors_are_no_refusal(kind: Callable[..., SourceError], source: str) -> None:
    assert not refuses(kind(Place("acme", source), "what", http_status=403))
    assert not refuses(TokenError(Place("acme", META), "what"))
    assert refuses(TokenError(Place("acme", POS), "what"))
