"""The engine by example: what a sync of some days asks for, stores, and says when something is wrong."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.demo_tenants import LUMINA
from sync_pipeline.sandbox.entities import Order
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sandbox.world import World
from sync_pipeline.sources.errors import (
    RateLimitedError,
    SourceError,
    TokenError,
    TransientError,
)
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.engine import window_ends
from sync_pipeline.sync.errors import RowRejectedError, SyncFailedError
from sync_pipeline.tenants import find_tenant, load_tenants
from sync_pipeline_tests.pipeline import copied_demo_tenants
from sync_pipeline_tests.sandboxes import demanding
from sync_pipeline_tests.sync.bench import (
    FIRST_ACCOUNT,
    FIRST_SHOP,
    NOW,
    SECOND_ACCOUNT,
    SECOND_SHOP,
    Bench,
    Row,
    days_from,
    demo_tenant,
)
from sync_pipeline_tests.waiting import lasting_today

MONDAY = date(2026, 10, 5)
WEEK = days_from(MONDAY, 7)
THURSDAY = WEEK[3]
ACCOUNTS, SHOPS_OF_LUMINA = 3, 2


def failing(what: faults.Effect, path: str, day: date) -> Fault:
    """Whatever asks for the day there meets it, alone or in a window."""
    return Fault(what, path=path, covers_day=day, times=None)


def steps(days: list[date]) -> list[tuple[date, str]]:
    return [(day, source) for day in days for source in (META, POS)]


# Windows and days


def test_one_window_carries_many_days(bench: Bench) -> None:
    results = bench.sync(WEEK)
    counts = bench.sandbox.requests.counts()
    assert counts == {
        "accounts": 1,
        "shops": 1,
        "insights": ACCOUNTS,
        "ads": ACCOUNTS,
        "account_insights": ACCOUNTS,
        "orders": SHOPS_OF_LUMINA,
    }
    # They are counted on the first day of the window.
    assert [(r.source, r.day, r.requests) for r in results if r.requests] == [
        (META, MONDAY, 3 * ACCOUNTS),
        (POS, MONDAY, SHOPS_OF_LUMINA),
    ]


def test_days_are_committed_oldest_first_and_meta_before_pos(bench: Bench) -> None:
    bench.sync(WEEK)
    assert bench.steps() == steps(WEEK)
    assert bench.query("SELECT day, source FROM sync_log ORDER BY id") == steps(WEEK)


def test_results_say_what_the_tables_hold(bench: Bench) -> None:
    results = bench.sync(WEEK)
    insights = "SELECT date, count(*), sum(spend) FROM meta_ad_insights GROUP BY 1 ORDER BY 1"
    assert [(r.day, r.rows, r.amount) for r in results if r.source == META] == bench.query(insights)
    orders = "SELECT date_local, count(*), sum(total) FROM pos_orders GROUP BY 1 ORDER BY 1"
    assert [(r.day, r.rows, r.amount) for r in results if r.source == POS] == bench.query(orders)
    assert all((r.changed, r.removed, r.complete) == (r.rows, 0, True) for r in results)


def test_days_apart_are_asked_for_apart(bench: Bench) -> None:
    days = [*WEEK[:2], *WEEK[4:6]]
    bench.sync(days)
    asked = Counter(parse_qs(request.query)["time_range"][0] for request in bench.sandbox.requests.all("insights"))
    window = {"since": "2026-10-05", "until": "2026-10-06"}, {"since": "2026-10-09", "until": "2026-10-10"}
    assert asked == {json.dumps(w): ACCOUNTS for w in window}
    assert bench.stored_days() == {META: days, POS: days}


def test_days_stored_already_are_left_out(bench: Bench) -> None:
    bench.sync(WEEK[:4], stored=[(META, WEEK[0]), (META, WEEK[1]), (POS, WEEK[3])])
    assert bench.stored_days() == {META: WEEK[2:4], POS: WEEK[:3]}
    assert bench.steps() == [(WEEK[0], POS), (WEEK[1], POS), (WEEK[2], META), (WEEK[2], POS), (WEEK[3], META)]


def test_today_is_fetched_alone_because_it_still_goes_on(engine: sa.Engine, tmp_path: Path) -> None:
    today = lasting_today(LUMINA.timezone)
    with SandboxServer(ads=12, orders=20, behaviour=demanding()) as sandbox:
        bench = Bench(sandbox, engine, demo_tenant(tmp_path))
        bench.sync(days_from(today - timedelta(days=2), 3))
    windows = [(today - timedelta(days=2), today - timedelta(days=1)), (today, today)]
    assert windows_asked(bench, POS, FIRST_SHOP) == windows
    assert windows_asked(bench, META, FIRST_ACCOUNT) == windows


any_days = st.lists(st.integers(0, 60), max_size=40, unique=True).map(
    lambda numbers: [MONDAY + timedelta(days=n) for n in sorted(numbers)]
)


@given(days=any_days, most=st.integers(1, 12), alone=st.sets(st.integers(0, 60)))
@example(days=days_from(MONDAY, 5), most=2, alone=set())
@example(days=days_from(MONDAY, 3), most=12, alone={1})
@example(days=[MONDAY, MONDAY + timedelta(days=2)], most=12, alone=set())
@example(days=[], most=1, alone={0})
def test_windows_divide_the_days_in_order(days: list[date], most: int, alone: set[int]) -> None:
    on_their_own = {MONDAY + timedelta(days=n) for n in alone}
    ends = window_ends(days, most, on_their_own)
    assert list(ends) == days
    windows: dict[date, list[date]] = {}
    for day, end in ends.items():
        windows.setdefault(end, []).append(day)
    for end, window in windows.items():
        assert window == days_from(window[0], len(window)), "consecutive"
        assert window[-1] == end
        assert len(window) <= most
        assert len(window) == 1 or not on_their_own & set(window)
    ordered = list(windows.values())
    for before, after in pairwise(ordered):
        could_be_one = after[0] == before[-1] + timedelta(days=1) and not on_their_own & {before[-1], after[0]}
        assert len(before) == most or not could_be_one, "no request more than needed"


# Failures


@pytest.mark.parametrize(
    ("source", "path", "place"),
    [
        (META, f"act_{SECOND_ACCOUNT}/insights", {"account_id": SECOND_ACCOUNT, "shop_id": None}),
        (POS, f"shops/{SECOND_SHOP}/orders", {"account_id": None, "shop_id": SECOND_SHOP}),
    ],
)
def test_a_failing_day_in_the_middle_of_a_window_ends_the_sync_as_if_it_had_been_asked_for_alone(
    bench: Bench, source: str, path: str, place: dict[str, str | None]
) -> None:
    bench.sandbox.faults.add(failing(faults.http_error(500, "boom"), path, THURSDAY))
    with pytest.raises(TransientError) as failure:
        bench.sync(WEEK)
    found = failure.value.place
    assert (found.source, found.since, found.until) == (source, THURSDAY, THURSDAY)
    assert {"account_id": found.account_id, "shop_id": found.shop_id} == place
    assert THURSDAY.isoformat() in str(failure.value)

    before = steps(WEEK[:3])
    assert bench.steps() == (before if source == META else [*before, (THURSDAY, META)])
    # The first account and the first shop had answered for that day: not even theirs is stored.
    assert bench.stored_days() == {META: WEEK[:3] if source == META else WEEK[:4], POS: WEEK[:3]}
    assert failure.value.__cause__ is None


def test_in_strict_mode_an_unreadable_row_fails_its_day(bench: Bench) -> None:
    bench.tenant = bench.tenant.model_copy(update={"on_bad_row": "fail"})
    order_id = bench.sandbox.world.add_order(int(SECOND_SHOP), THURSDAY, total_price="many", cod="many")
    with pytest.raises(RowRejectedError) as failure:
        bench.sync(WEEK)
    assert failure.value.error.row_id == f"{order_id} of shop {SECOND_SHOP}"
    place = failure.value.place
    assert (place.shop_id, place.since, place.until) == (SECOND_SHOP, THURSDAY, THURSDAY)
    assert bench.stored_days()[POS] == WEEK[:3]


@pytest.mark.parametrize(("path", "kind"), [("insights", "insights"), ("orders", "orders")])
def test_a_rate_limit_that_outlasts_its_wait_is_not_asked_for_in_smaller_windows(
    bench: Bench, path: str, kind: str
) -> None:
    bench.pacing = Pacing(delay_s=0, max_wait_s=60)
    bench.sandbox.faults.add(Fault(faults.rate_limited("40"), path=path, times=None))
    with pytest.raises(RateLimitedError) as failure:
        bench.sync(WEEK)
    assert bench.slept == [40]
    assert bench.sandbox.requests.count(kind) == 2, "the request and its repetition"
    assert (failure.value.place.since, failure.value.place.until) == (MONDAY, MONDAY)
    assert bench.stored_days()[POS] == []


def test_a_quota_that_blocks_is_waited_for_until_it_recovers(bench: Bench) -> None:
    bench.sync(WEEK)
    undisturbed = bench.tables()
    bench.start_over()
    bench.insights_page = 5
    bench.on_sleep = bench.sandbox.quota.advance
    bench.sandbox.quota.configure(points=6, block_seconds=90)
    bench.sync(WEEK)
    assert bench.tables() == undisturbed
    assert bench.slept
    # Meta's header says minutes, rounded up; less would prolong the block.
    assert set(bench.slept) == {120.0}


def test_adaptive_pacing_never_runs_into_the_block(bench: Bench) -> None:
    bench.sync(WEEK)
    undisturbed = bench.tables()
    bench.start_over()
    bench.insights_page = 2
    bench.pacing = Pacing(delay_s=0, pacing="adaptive")
    bench.on_sleep = bench.sandbox.quota.advance
    bench.sandbox.quota.configure(points=20, decay_seconds=300, block_seconds=300)
    bench.sync(WEEK)
    assert bench.tables() == undisturbed
    assert bench.slept, "the quota is too small for all of it"
    assert {request.status for request in bench.sandbox.requests.all()} == {200}


def test_a_transient_error_is_retried_where_that_is_allowed(bench: Bench) -> None:
    bench.sync(WEEK)
    undisturbed, requests = bench.tables(), len(bench.sandbox.requests.all())
    bench.start_over()
    bench.pacing = Pacing(delay_s=0, max_retries=2)
    bench.sandbox.faults.add(Fault(faults.http_error(503), path=f"act_{SECOND_ACCOUNT}/insights", times=2))
    bench.sandbox.faults.add(Fault(faults.reset(), path=f"shops/{SECOND_SHOP}/orders", times=1))
    bench.sync(WEEK)
    assert bench.tables() == undisturbed
    assert len(bench.sandbox.requests.all()) == requests + 3
    assert len(bench.slept) == 3


def test_an_interrupt_during_a_wait_leaves_the_committed_days_and_the_tenant_free(bench: Bench, tmp_path: Path) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    bench.tenant = demo_tenant(tmp_path / "again", meta_days=1)
    bench.sandbox.faults.add(
        Fault(faults.rate_limited("600"), path=f"act_{SECOND_ACCOUNT}/insights", query="level=ad", skip=3, times=1)
    )
    bench.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.sync(WEEK)
    assert bench.steps() == steps(WEEK[:3])
    assert bench.stored_days() == {META: WEEK[:3], POS: WEEK[:3]}
    bench.sync(WEEK)
    assert bench.stored_days() == {META: WEEK, POS: WEEK}


# Orders that move


def test_an_order_that_arrives_while_paging_makes_the_day_be_read_again(bench: Bench) -> None:
    bench.orders_page = 3
    world = bench.sandbox.world
    order_id = world.add_order(int(SECOND_SHOP), MONDAY, after_page=1)
    [result] = bench.sync([MONDAY], [POS])
    listed = [o for o in world.orders(int(SECOND_SHOP), MONDAY) if not is_excluded(o)]
    stored = f"SELECT pos_order_id FROM pos_orders WHERE shop_id = '{SECOND_SHOP}'"
    assert {id_ for (id_,) in bench.query(stored)} == {str(o.order_id) for o in listed}
    assert str(order_id) in {str(o.order_id) for o in listed}
    assert result.complete
    assert bench.incomplete == []
    first_pages = [r for r in bench.sandbox.requests.all("orders", SECOND_SHOP) if "page_number=1&" in r.query]
    assert len(first_pages) == 2


def test_an_order_that_arrives_while_a_window_is_paged_does_not_leave_its_days_incomplete(bench: Bench) -> None:
    bench.orders_page = 3
    order_id = bench.sandbox.world.add_order(int(SECOND_SHOP), THURSDAY, after_page=1)
    results = bench.sync(WEEK, [POS])
    assert all(result.complete for result in results)
    assert bench.query(f"SELECT date_local FROM pos_orders WHERE pos_order_id = '{order_id}'") == [(THURSDAY,)]
    quiet = bench.tables()
    bench.orders_page = 200
    assert all((result.changed, result.removed) == (0, 0) for result in bench.sync(WEEK, [POS]))
    assert bench.tables() == quiet


def test_a_count_that_never_settles_is_told_and_removes_nothing(bench: Bench) -> None:
    world = bench.sandbox.world
    bench.sync([MONDAY], [POS])
    before = bench.query("SELECT shop_id, pos_order_id FROM pos_orders ORDER BY 1, 2")
    gone = [next(o for o in world.orders(int(s), MONDAY) if not is_excluded(o)) for s in (FIRST_SHOP, SECOND_SHOP)]
    for order in gone:
        world.delete_order(order.shop_id, order.order_id)
    new = world.add_order(int(SECOND_SHOP), MONDAY)
    seen = [listing(o) for o in world.orders(int(SECOND_SHOP), MONDAY) if not is_excluded(o)]
    unsettled = {"success": True, "data": seen, "total_entries": len(seen) + 1, "total_pages": 1}
    bench.sandbox.faults.add(failing(faults.json_body(unsettled), f"shops/{SECOND_SHOP}/orders", MONDAY))

    [result] = bench.sync([MONDAY], [POS])
    assert not result.complete
    assert bench.query("SELECT complete FROM sync_log ORDER BY id") == [(True,), (False,)]
    [warning] = bench.incomplete
    assert all(part in warning for part in (SECOND_SHOP, MONDAY.isoformat(), str(len(seen)), str(len(seen) + 1)))
    # Of the shop that could be read whole what is gone is removed; of the other one nothing, and what came is stored.
    removed = (FIRST_SHOP, str(gone[0].order_id))
    after = sorted({*before, (SECOND_SHOP, str(new))} - {removed})
    assert bench.query("SELECT shop_id, pos_order_id FROM pos_orders ORDER BY 1, 2") == after
    assert result.removed == 1


def listing(order: Order) -> dict[str, Any]:
    """The order as Pancake lists it at the sandbox's time."""
    return order.seen_at(NOW)


def is_abandoned(order: Order) -> bool:
    shown = listing(order)
    return shown["status"] == 0 and shown["shopify_abandon_checkout_id"] is not None


def is_excluded(order: Order) -> bool:
    return listing(order)["status"] == 7 or is_abandoned(order)


def test_abandoned_checkouts_are_left_out_and_counted_on_their_day(bench: Bench) -> None:
    world = bench.sandbox.world
    for day in (WEEK[1], WEEK[1], WEEK[3]):
        world.add_order(int(FIRST_SHOP), day, shopify_abandon_checkout_id="co-1")
    results = bench.sync(WEEK, [POS])
    excluded = {
        day: sum(is_abandoned(o) for shop in (FIRST_SHOP, SECOND_SHOP) for o in world.orders(int(shop), day))
        for day in WEEK
    }
    assert {result.day: result.excluded for result in results} == excluded
    assert (excluded[WEEK[1]] >= 2, excluded[WEEK[3]] >= 1) == (True, True)
    assert bench.query("SELECT 1 FROM pos_orders WHERE data->>'shopify_abandon_checkout_id' = 'co-1'") == []


def test_a_deleted_order_that_is_listed_all_the_same_is_left_out_and_counted(bench: Bench) -> None:
    [undisturbed] = bench.sync([MONDAY], [POS])
    orders = [o for o in bench.sandbox.world.orders(int(SECOND_SHOP), MONDAY) if not is_excluded(o)]
    shown = [listing(order) for order in orders]
    shown[0] |= {"status": 7, "status_name": "removed"}
    body = {"success": True, "data": shown, "total_entries": len(shown), "total_pages": 1}
    bench.sandbox.faults.add(failing(faults.json_body(body), f"shops/{SECOND_SHOP}/orders", MONDAY))
    [result] = bench.sync([MONDAY], [POS])
    assert (result.excluded, result.removed, result.complete) == (undisturbed.excluded + 1, 1, True)
    stored = f"SELECT pos_order_id FROM pos_orders WHERE shop_id = '{SECOND_SHOP}' ORDER BY inserted_at, 1"
    assert bench.query(stored) == [(str(order.order_id),) for order in orders[1:]]


# Statuses, scopes


def ids_asked_for(bench: Bench) -> list[str]:
    return [
        ad_id
        for request in bench.sandbox.requests.all("ads")
        for part in json.loads(parse_qs(request.query)["filtering"][0])
        if part["field"] == "ad.id"
        for ad_id in part["value"]
    ]


@pytest.mark.parametrize("days_per_request", [1, 2, 31])
def test_an_ads_status_is_asked_for_once_a_run(bench: Bench, tmp_path: Path, days_per_request: int) -> None:
    bench.tenant = demo_tenant(tmp_path / "again", meta_days=days_per_request)
    bench.sync(WEEK, [META])
    delivered = {ad_id for (ad_id,) in bench.query("SELECT DISTINCT ad_id FROM meta_ad_insights")}
    assert sorted(ids_asked_for(bench)) == sorted(delivered)
    assert bench.query("SELECT count(*) FROM meta_ad_insights WHERE status IS NULL") == [(0,)]


def test_an_ad_that_meta_says_nothing_of_is_not_asked_for_again(bench: Bench, tmp_path: Path) -> None:
    bench.tenant = demo_tenant(tmp_path / "again", meta_days=2)
    bench.sandbox.faults.add(Fault(faults.json_body({"data": []}), path=f"act_{FIRST_ACCOUNT}/ads", times=None))
    bench.sync(WEEK, [META])
    assert max(Counter(ids_asked_for(bench)).values()) == 1
    unknown = bench.query("SELECT DISTINCT account_id FROM meta_ad_insights WHERE status IS NULL")
    assert unknown == [(FIRST_ACCOUNT,)]


def test_what_is_disabled_is_neither_asked_for_nor_touched(bench: Bench) -> None:
    bench.sync(WEEK[:2])
    bench.execute(f"UPDATE meta_ad_accounts SET enabled = false WHERE account_id = '{FIRST_ACCOUNT}'")
    bench.execute(f"UPDATE pos_shops SET enabled = false WHERE shop_id = '{FIRST_SHOP}'")

    def rows() -> dict[str, list[Row]]:
        by_scope = "SELECT * FROM meta_ad_insights WHERE account_id = '{}' ORDER BY date, ad_id"
        by_shop = "SELECT * FROM pos_orders WHERE shop_id = '{}' ORDER BY pos_order_id"
        return {s: bench.query(by_scope.format(s)) for s in (FIRST_ACCOUNT, SECOND_ACCOUNT)} | {
            s: bench.query(by_shop.format(s)) for s in (FIRST_SHOP, SECOND_SHOP)
        }

    before = rows()
    world = bench.sandbox.world
    for account in (FIRST_ACCOUNT, SECOND_ACCOUNT):
        world.restate(account, MONDAY, 3.0)
    for shop in (FIRST_SHOP, SECOND_SHOP):
        order = next(o for o in world.orders(int(shop), MONDAY) if not is_excluded(o))
        world.delete_order(int(shop), order.order_id)
    bench.sandbox.requests.clear()
    results = bench.sync(WEEK[:2])

    after = rows()
    assert after[FIRST_ACCOUNT] == before[FIRST_ACCOUNT] != []
    assert after[FIRST_SHOP] == before[FIRST_SHOP] != []
    assert after[SECOND_ACCOUNT] != before[SECOND_ACCOUNT]
    assert len(after[SECOND_SHOP]) == len(before[SECOND_SHOP]) - 1
    assert all(result.complete for result in results)
    asked = [r for r in bench.sandbox.requests.all() if FIRST_ACCOUNT in r.path or FIRST_SHOP in r.path]
    assert asked == []


def test_each_key_is_used_for_its_own_shops(sandbox: SandboxServer, engine: sa.Engine, tmp_path: Path) -> None:
    tenant = find_tenant(load_tenants(copied_demo_tenants(tmp_path / "demo")), "mekong")
    bench = Bench(sandbox, engine, tenant)
    bench.sync(WEEK[:2])
    assert bench.query("SELECT DISTINCT shop_id FROM pos_orders ORDER BY 1") == [("320001",), ("320002",)]
    assert {r.status for r in sandbox.requests.all("orders")} == {200}, "a key is refused at the other's shop"


# Going on after errors


def test_going_on_stores_everything_but_what_failed_and_lists_every_error(bench: Bench) -> None:
    bench.sync(WEEK)
    undisturbed = bench.tables()
    bench.start_over()
    add = bench.sandbox.faults.add
    add(failing(faults.http_error(500), f"act_{FIRST_ACCOUNT}/insights", WEEK[1]))
    add(failing(faults.http_error(503), f"act_{SECOND_ACCOUNT}/insights", WEEK[1]))
    add(failing(faults.html(502), f"shops/{SECOND_SHOP}/orders", WEEK[1]))
    add(failing(faults.http_error(500), f"shops/{FIRST_SHOP}/orders", WEEK[4]))
    with pytest.raises(SyncFailedError) as failure:
        bench.sync(WEEK, go_on=True)

    listed = [(type(e), e.place.since, e.place.account_id or e.place.shop_id) for e in failure.value.errors]
    assert listed == [
        (TransientError, WEEK[1], FIRST_ACCOUNT),
        (TransientError, WEEK[1], SECOND_ACCOUNT),
        (TransientError, WEEK[1], SECOND_SHOP),
        (TransientError, WEEK[4], FIRST_SHOP),
    ]
    assert all(e.place.since == e.place.until for e in failure.value.errors)
    assert str(failure.value).startswith("4 errors: ")
    assert [(f.source, f.day) for f in failure.value.failures] == [(META, WEEK[1]), (POS, WEEK[1]), (POS, WEEK[4])]
    meta_days = [day for day in WEEK if day != WEEK[1]]
    pos_days = [day for day in WEEK if day not in (WEEK[1], WEEK[4])]
    assert bench.steps() == [s for s in steps(WEEK) if s not in [(WEEK[1], META), (WEEK[1], POS), (WEEK[4], POS)]]
    insights, orders = undisturbed
    assert bench.tables() == ([r for r in insights if r[0] in meta_days], [r for r in orders if r[0] in pos_days])


def test_going_on_leaves_a_failed_day_as_it_was_before(bench: Bench) -> None:
    bench.sync(WEEK[:3])
    before = bench.tables()
    world = bench.sandbox.world
    for day in WEEK[:3]:
        world.restate(FIRST_ACCOUNT, day, 2.0)
    bench.sandbox.faults.add(failing(faults.http_error(500), f"act_{SECOND_ACCOUNT}/insights", WEEK[1]))
    with pytest.raises(SyncFailedError):
        bench.sync(WEEK[:3], go_on=True)
    restated = [day for day in WEEK[:3] if rows_of(bench.tables()[0], day) != rows_of(before[0], day)]
    assert restated == [WEEK[0], WEEK[2]]


def rows_of(rows: list[Row], day: date) -> list[Row]:
    return [row for row in rows if row[0] == day]


def test_a_token_error_ends_its_source_for_the_rest_and_not_the_other(bench: Bench) -> None:
    bench.sandbox.faults.add(failing(faults.graph_error("expired_token"), f"act_{SECOND_ACCOUNT}/insights", WEEK[2]))
    with pytest.raises(SyncFailedError) as failure:
        bench.sync(WEEK, go_on=True)
    assert [(type(e), e.place.since) for e in failure.value.errors] == [(TokenError, WEEK[2])]
    assert bench.stored_days() == {META: WEEK[:2], POS: WEEK}
    asked = [parse_qs(r.query)["time_range"][0] for r in bench.sandbox.requests.all("insights")]
    assert [range_ for range_ in asked if json.loads(range_)["since"] > WEEK[2].isoformat()] == []


def test_a_rate_limit_that_outlasts_its_wait_ends_its_source_and_not_the_other(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(faults.rate_limited("9999"), path=f"act_{SECOND_ACCOUNT}/insights", times=None))
    with pytest.raises(SyncFailedError) as failure:
        bench.sync(WEEK, go_on=True)
    assert [type(e) for e in failure.value.errors] == [RateLimitedError]
    assert bench.sandbox.requests.count("insights", SECOND_ACCOUNT) == 1
    assert bench.stored_days() == {META: [], POS: WEEK}


WINDOW, DAYS_ALONE = (WEEK[0], WEEK[2]), [(day, day) for day in WEEK[:3]]


@pytest.mark.parametrize(
    ("go_on", "days_per_request", "asked"),
    [
        (False, 1, []),
        (False, 31, []),
        (True, 1, DAYS_ALONE),
        # The first account fails for the window, so that the second is asked for each day alone.
        (True, 31, DAYS_ALONE),
    ],
    ids=["stop, single days", "stop, a window", "continue, single days", "continue, a window"],
)
@pytest.mark.parametrize("source", [META, POS])
def test_what_the_second_is_asked_after_the_first_failed(
    bench: Bench, tmp_path: Path, source: str, go_on: bool, days_per_request: int, asked: list[tuple[date, date]]
) -> None:
    bench.tenant = demo_tenant(tmp_path / "again", meta_days=days_per_request, pos_days=days_per_request)
    path = f"act_{FIRST_ACCOUNT}/insights" if source == META else f"shops/{FIRST_SHOP}/orders"
    bench.sandbox.faults.add(failing(faults.http_error(500), path, WEEK[0]))
    with pytest.raises(SyncFailedError if go_on else TransientError):
        bench.sync(WEEK[:3], [source], go_on=go_on)
    assert windows_asked(bench, source, SECOND_ACCOUNT if source == META else SECOND_SHOP) == asked
    first = FIRST_ACCOUNT if source == META else FIRST_SHOP
    later = DAYS_ALONE[1:] if go_on else []
    attempts = [WINDOW] if days_per_request > 1 else []
    assert windows_asked(bench, source, first) == [*attempts, DAYS_ALONE[0], *later]
    assert bench.stored_days()[source] == (WEEK[1:3] if go_on else [])


def windows_asked(bench: Bench, source: str, scope: str) -> list[tuple[date, date]]:
    """The first and last day of each request for the rows of an account or shop."""
    kind = "insights" if source == META else "orders"
    queries = [parse_qs(request.query) for request in bench.sandbox.requests.all(kind, scope)]
    if source == META:
        ranges = [json.loads(query["time_range"][0]) for query in queries]
        return [(date.fromisoformat(one["since"]), date.fromisoformat(one["until"])) for one in ranges]
    zone = bench.sandbox.world.tenants["lumina"].timezone
    instants = [[query[end][0] for end in ("startDateTime", "endDateTime")] for query in queries]
    return [
        (
            datetime.fromtimestamp(int(start), UTC).astimezone(zone).date(),
            datetime.fromtimestamp(int(end), UTC).astimezone(zone).date(),
        )
        for start, end in instants
    ]


def test_going_on_without_any_error_is_an_ordinary_sync(bench: Bench) -> None:
    bench.sync(WEEK[:2], go_on=True)
    assert bench.steps() == steps(WEEK[:2])


def test_without_going_on_the_error_comes_as_itself(bench: Bench) -> None:
    bench.sandbox.faults.add(failing(faults.http_error(500), f"shops/{FIRST_SHOP}/orders", MONDAY))
    with pytest.raises(SourceError) as failure:
        bench.sync(WEEK)
    assert type(failure.value) is TransientError
    assert bench.steps() == [(MONDAY, META)]
    assert bench.sandbox.requests.count("orders", SECOND_SHOP) == 0, "nothing more is asked for"


# Requests are what the APIs ration


@pytest.fixture
def busy_account() -> Iterator[SandboxServer]:
    plan = LUMINA._replace(accounts=LUMINA.accounts[:1])
    world = World(ads=200, orders=1, now=lambda: NOW, plans=[plan])
    with SandboxServer(world=world, behaviour=demanding()) as sandbox:
        yield sandbox


def test_a_month_of_200_ads_takes_20_requests_at_most(
    busy_account: SandboxServer, engine: sa.Engine, tmp_path: Path
) -> None:
    bench = Bench(busy_account, engine, demo_tenant(tmp_path), insights_page=500)
    results = bench.sync(days_from(date(2026, 9, 20), 30), [META])
    assert len(results) == 30
    assert bench.query("SELECT count(DISTINCT ad_id), count(*) > 5000 FROM meta_ad_insights") == [(200, True)]
    assert bench.query("SELECT count(*) FROM meta_ad_insights WHERE status IS NULL") == [(0,)]
    counts = busy_account.requests.counts()
    # 11 pages hold the rows, 2 empty pages with a next lie between them, one has the statuses of all ads.
    assert counts == {"accounts": 1, "insights": 13, "ads": 1, "account_insights": 1}
    assert sum(counts.values()) <= 20
