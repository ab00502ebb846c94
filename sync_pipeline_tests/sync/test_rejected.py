"""Rows that cannot be read cost only themselves, whatever is wrong with them."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.errors import RowRejectedError, SyncError, SyncFailedError, TooManyRejectedError
from sync_pipeline.sync.pos import refresh_products, shops_of_run
from sync_pipeline.sync.rejections import Rejections, too_many
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.rejected import RejectedRow, rejected_by_source
from sync_pipeline.warehouse.tenancy import Warehouse
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
TUESDAY = date(2026, 10, 6)
WEEK = days_from(MONDAY, 7)
ORDERS_OF_SHOP = f"/shops/{SECOND_SHOP}/orders$"
INSIGHTS_OF_ACCOUNT = f"/act_{SECOND_ACCOUNT}/insights$"
MARKER = "MARIA-MARKER"


def spoil(bench: Bench, effect: Effect, path: str, *, query: str = "", day: date | None = None) -> Fault:
    return bench.sandbox.faults.add(Fault(effect, path=path, query=query, covers_day=day, times=None))


def orders(bench: Bench, day: date = MONDAY, shop: str = SECOND_SHOP) -> list[str]:
    query = f"SELECT pos_order_id FROM pos_orders WHERE date_local = '{day}' AND shop_id = '{shop}' ORDER BY 1"
    return [order_id for (order_id,) in bench.query(query)]


def ads(bench: Bench, day: date = MONDAY, account: str = SECOND_ACCOUNT) -> list[str]:
    query = f"SELECT ad_id FROM meta_ad_insights WHERE date = '{day}' AND account_id = '{account}' ORDER BY 1"
    return [ad_id for (ad_id,) in bench.query(query)]


def rejected(bench: Bench) -> list[Row]:
    return bench.query(
        "SELECT source, day, kind, coalesce(account_id, shop_id), row_id, field FROM rejected_rows ORDER BY id"
    )


def strict(tenant: Tenant) -> Tenant:
    return tenant.model_copy(update={"on_bad_row": "fail"})


# One row


UNREADABLE_ORDERS: dict[str, tuple[Effect, str]] = {
    "a status as text": (faults.bad_rows({"status": "Confirmed"}, most=1), "status"),
    "no inserted_at": (faults.bad_rows(absent=["inserted_at"], most=1), "inserted_at"),
    "an item that is null": (faults.bad_rows({"items": [None]}, most=1), "items"),
    "a price as text": (faults.bad_rows({"total_price_after_sub_discount": MARKER}, most=1), "total_price_after"),
    "a quantity as text": (faults.bad_rows({"items": [{"quantity": MARKER}]}, most=1), "quantity"),
}


@pytest.mark.parametrize(("effect", "field"), UNREADABLE_ORDERS.values(), ids=UNREADABLE_ORDERS)
def test_an_unreadable_order_costs_only_itself(bench: Bench, effect: Effect, field: str) -> None:
    bench.sync([MONDAY])
    insights, _ = undisturbed = bench.tables()
    everything = orders(bench)
    bench.start_over()
    spoil(bench, effect, ORDERS_OF_SHOP)
    _, result = bench.sync([MONDAY])

    [(source, day, kind, shop, row_id, found)] = rejected(bench)
    assert (source, day, kind, shop) == (POS, MONDAY, "order", SECOND_SHOP)
    assert found.startswith(field)
    assert orders(bench) == [order_id for order_id in everything if order_id != row_id]
    others = [row for row in undisturbed[1] if (row[2], row[3]) != (SECOND_SHOP, row_id)]
    assert bench.tables() == (insights, others)
    assert (result.rejected, result.rows, result.complete) == (1, len(others), True)
    assert bench.query("SELECT rejected, complete FROM sync_log WHERE source = 'pos'") == [(1, True)]
    [warning] = bench.rejected
    assert warning.startswith(f"{MONDAY} pos: 1 row cannot be read and is left out: ")
    assert f"order {row_id} of shop {SECOND_SHOP}: {field}" in warning


UNREADABLE_INSIGHTS: dict[str, tuple[Effect, str]] = {
    "spend as text": (faults.bad_rows({"spend": MARKER}, most=1), "spend"),
    "no day": (faults.bad_rows(absent=["date_start", "date_stop"], most=1), "date_start"),
    "actions as text": (faults.bad_rows({"actions": MARKER}, most=1), "actions"),
    "an action count as text": (
        faults.bad_rows({"actions": [{"action_type": "lead", "value": MARKER}]}, most=1),
        "actions.lead",
    ),
}


@pytest.mark.parametrize(("effect", "field"), UNREADABLE_INSIGHTS.values(), ids=UNREADABLE_INSIGHTS)
def test_an_unreadable_insight_costs_only_itself(bench: Bench, effect: Effect, field: str) -> None:
    bench.sync([MONDAY], [META])
    everything = ads(bench)
    bench.start_over()
    spoil(bench, effect, INSIGHTS_OF_ACCOUNT, query="level=ad")
    [result] = bench.sync([MONDAY], [META])
    [(source, day, kind, account, row_id, found)] = rejected(bench)
    assert (source, day, kind, account, found) == (META, MONDAY, "insight", SECOND_ACCOUNT, field)
    assert ads(bench) == [ad_id for ad_id in everything if ad_id != row_id]
    assert (result.rejected, result.complete) == (1, True)


@pytest.mark.parametrize(
    "effect",
    [
        faults.bad_rows(no_object=True, most=1),
        faults.bad_rows({"id": None}, most=1),
        faults.bad_rows({"id": 1.5}, most=1),
    ],
    ids=["null", "id null", "id a fraction"],
)
def test_an_order_without_a_readable_id_costs_only_itself(bench: Bench, effect: Effect) -> None:
    bench.sync([MONDAY], [POS])
    everything = orders(bench)
    bench.start_over()
    spoil(bench, effect, ORDERS_OF_SHOP)
    [result] = bench.sync([MONDAY], [POS])
    [(*_, kind, shop, row_id, _field)] = rejected(bench)
    assert (kind, shop, row_id) == ("order", SECOND_SHOP, None)
    assert (result.rejected, result.complete) == (1, True)
    assert len(orders(bench)) == len(everything) - 1
    assert set(orders(bench)) < set(everything)


def test_an_insight_that_is_null_costs_only_itself(bench: Bench) -> None:
    bench.sync([MONDAY], [META])
    everything = ads(bench)
    bench.start_over()
    spoil(bench, faults.bad_rows(no_object=True, most=1), INSIGHTS_OF_ACCOUNT, query="level=ad")
    [result] = bench.sync([MONDAY], [META])
    assert rejected(bench) == [(META, MONDAY, "insight", SECOND_ACCOUNT, None, "entry")]
    assert len(ads(bench)) == len(everything) - 1
    assert (result.rejected, result.complete) == (1, True)


def test_an_unreadable_account_total_is_no_total(bench: Bench) -> None:
    spoil(bench, faults.bad_rows({"spend": "many"}), INSIGHTS_OF_ACCOUNT, query="level=account")
    [result] = bench.sync([MONDAY], [META])
    assert rejected(bench) == [(META, MONDAY, "account day", SECOND_ACCOUNT, None, "spend")]
    assert (result.rejected, result.complete) == (1, True)
    assert ads(bench)
    [(reported,)] = bench.query("SELECT reported FROM sync_log")
    assert reported[FIRST_ACCOUNT] is not None
    assert reported[SECOND_ACCOUNT] is None


def test_an_unreadable_ad_status_is_unknown(bench: Bench) -> None:
    spoil(bench, faults.bad_rows({"status": ["ACTIVE"]}, most=1), f"/act_{SECOND_ACCOUNT}/ads$")
    [result] = bench.sync([MONDAY], [META])
    assert (result.rejected, result.complete) == (0, True)
    unknown = "SELECT count(*) FROM meta_ad_insights WHERE status IS NULL"
    assert bench.query(unknown) == [(1,)]


def test_what_can_be_read_is_read(bench: Bench) -> None:
    items = [{"quantity": 1.5, "note_product": "Rice-100"}, {"quantity": "0.25"}]
    spoil(bench, faults.bad_rows({"items": items}, most=1), ORDERS_OF_SHOP)
    actions = [None, {"action_type": "lead", "value": "0.5"}]
    spoil(bench, faults.bad_rows({"actions": actions}, most=1), INSIGHTS_OF_ACCOUNT, query="level=ad")
    results = bench.sync([MONDAY])
    assert [result.rejected for result in results] == [0, 0]
    assert rejected(bench) == []
    figures = "SELECT total_quantity, uncosted_quantity, cogs FROM pos_orders WHERE total_quantity = 1.75"
    assert [tuple(map(str, row)) for row in bench.query(figures)] == [("1.75", "0.25", "150.00")]
    assert bench.query("SELECT count(*) FROM meta_ad_insights WHERE leads = 1") != [(0,)]


# What is stored already


def test_a_stored_row_stays_while_its_newer_version_is_rejected(bench: Bench) -> None:
    bench.sync([MONDAY])
    before = bench.tables()
    order_id, ad_id = orders(bench)[0], ads(bench)[0]
    spoil(bench, faults.bad_rows({"status": "Confirmed"}, ids=[order_id]), ORDERS_OF_SHOP)
    spoil(bench, faults.bad_rows({"spend": "many"}, ids=[ad_id]), INSIGHTS_OF_ACCOUNT, query="level=ad")
    for _ in range(2):
        meta, pos = bench.sync([MONDAY])
        assert bench.tables() == before
        assert (meta.removed, meta.rejected, pos.removed, pos.rejected) == (0, 1, 0, 1)
        assert [row[4] for row in rejected(bench)] == [ad_id, order_id]


def test_missing_rows_are_still_removed_beside_a_rejected_one(bench: Bench) -> None:
    bench.sync([MONDAY], [POS])
    kept, gone, *_ = orders(bench)
    bench.sandbox.world.delete_order(int(SECOND_SHOP), int(gone))
    spoil(bench, faults.bad_rows({"status": "Confirmed"}, ids=[kept]), ORDERS_OF_SHOP)
    [result] = bench.sync([MONDAY], [POS])
    assert (result.removed, result.rejected) == (1, 1)
    assert kept in orders(bench)
    assert gone not in orders(bench)


def test_no_row_is_removed_where_a_rejected_one_has_no_id(bench: Bench) -> None:
    bench.sync([MONDAY], [POS])
    before = {shop: orders(bench, shop=shop) for shop in (FIRST_SHOP, SECOND_SHOP)}
    for shop in before:
        bench.sandbox.world.delete_order(int(shop), int(before[shop][0]))
    spoil(bench, faults.bad_rows(no_object=True, most=1), ORDERS_OF_SHOP)
    [result] = bench.sync([MONDAY], [POS])
    assert (result.removed, result.complete) == (1, True)
    assert orders(bench, shop=SECOND_SHOP) == before[SECOND_SHOP]
    assert orders(bench, shop=FIRST_SHOP) == before[FIRST_SHOP][1:]
    bench.sandbox.faults.clear()
    [result] = bench.sync([MONDAY], [POS])
    assert result.removed == 1
    assert orders(bench, shop=SECOND_SHOP) == before[SECOND_SHOP][1:]


def test_a_rejected_row_makes_no_short_listing_complete(bench: Bench) -> None:
    bench.sync([MONDAY], [POS])
    before = orders(bench)
    good = {"id": before[0], "inserted_at": "2026-10-05T03:00:00", "status": 1}
    bad = {"id": before[1], "inserted_at": "2026-10-05T03:00:00", "status": "Confirmed"}
    body = {"success": True, "data": [good, bad], "total_entries": 3, "total_pages": 1}
    spoil(bench, faults.json_body(body), ORDERS_OF_SHOP)
    [result] = bench.sync([MONDAY], [POS])
    assert (result.rejected, result.complete, result.removed) == (1, False, 0)
    assert orders(bench) == before
    assert len(bench.incomplete) == 1


def test_rejected_rows_vanish_when_the_day_is_read_cleanly(bench: Bench) -> None:
    spoil(bench, faults.bad_rows({"status": "Confirmed"}, most=1), ORDERS_OF_SHOP, day=MONDAY)
    spoil(bench, faults.bad_rows({"spend": "many"}, most=1), INSIGHTS_OF_ACCOUNT, query="level=ad", day=TUESDAY)
    bench.tenant = bench.tenant.model_copy(
        update={
            "meta": bench.tenant.meta.model_copy(update={"days_per_request": 1}),  # type: ignore[union-attr]
            "pancake": tuple(key.model_copy(update={"days_per_request": 1}) for key in bench.tenant.pancake),
        }
    )
    bench.sync([MONDAY, TUESDAY])
    assert [(row[0], row[1]) for row in rejected(bench)] == [(POS, MONDAY), (META, TUESDAY)]
    bench.sandbox.faults.clear()
    bench.sync([MONDAY])
    assert [(row[0], row[1]) for row in rejected(bench)] == [(META, TUESDAY)], "another day's stay"
    bench.sync([TUESDAY])
    assert rejected(bench) == []
    assert bench.query("SELECT DISTINCT rejected FROM sync_log WHERE run_id <> 'run-1'") == [(0,)]


def test_rejected_rows_of_a_disabled_shop_stay_uncounted(bench: Bench) -> None:
    spoil(bench, faults.bad_rows({"status": "Confirmed"}, most=1), ORDERS_OF_SHOP)
    bench.sync([MONDAY], [POS])
    assert rejected_by_source(bench.engine, "lumina")[POS].rows == 1
    bench.execute(f"UPDATE pos_shops SET enabled = false WHERE shop_id = '{SECOND_SHOP}'")
    bench.sync([MONDAY], [POS])
    assert len(rejected(bench)) == 1
    assert rejected_by_source(bench.engine, "lumina") == {}


def test_an_older_version_read_before_is_not_stored(bench: Bench) -> None:
    """The count of the first pass does not settle, and the order cannot be read in the second one."""
    bench.orders_page = 3
    bench.sync([MONDAY], [POS])
    everything = orders(bench)
    bench.start_over()
    bench.sandbox.world.add_order(int(SECOND_SHOP), MONDAY, after_page=1)
    first = bench.sandbox.world.orders(int(SECOND_SHOP), MONDAY)
    changed = next(str(order.order_id) for order in first if str(order.order_id) in everything)
    readable_pages = -(-(len(first) + 1) // 3)
    bench.sandbox.faults.add(
        Fault(
            faults.bad_rows({"status": "Confirmed"}, ids=[changed]),
            path=ORDERS_OF_SHOP,
            skip=readable_pages,
            times=None,
        )
    )
    [result] = bench.sync([MONDAY], [POS])
    assert [row[4] for row in rejected(bench)] == [changed]
    assert changed not in orders(bench)
    assert result.complete


# Windows


def test_a_window_with_an_unreadable_row_is_stored_as_one(bench: Bench) -> None:
    bench.sync(WEEK, [POS])
    order_id = orders(bench, WEEK[3])[0]
    requests = bench.sandbox.requests.count("orders")
    bench.start_over()
    spoil(bench, faults.bad_rows({"status": "Confirmed"}, ids=[order_id]), ORDERS_OF_SHOP)
    results = bench.sync(WEEK, [POS])
    assert [result.rejected for result in results] == [0, 0, 0, 1, 0, 0, 0]
    assert [row[1] for row in rejected(bench)] == [WEEK[3]]
    assert bench.sandbox.requests.count("orders") == requests


@pytest.mark.parametrize("source", [META, POS])
def test_a_row_without_a_day_is_of_the_day_that_lists_it(bench: Bench, source: str) -> None:
    bench.sync(WEEK)
    if source == POS:
        spoil(
            bench,
            faults.bad_rows(absent=["inserted_at"], ids=[orders(bench, WEEK[3])[0]]),
            ORDERS_OF_SHOP,
        )
    else:
        spoil(
            bench,
            faults.bad_rows(absent=["date_start"], most=1),
            INSIGHTS_OF_ACCOUNT,
            query="level=ad",
            day=WEEK[3],
        )
    before = bench.tables()
    results = bench.sync(WEEK, [source])
    assert [result.rejected for result in results] == [0, 0, 0, 1, 0, 0, 0]
    assert [row[1] for row in rejected(bench)] == [WEEK[3]]
    assert bench.tables() == before


# When the format has changed


@given(rejected_count=st.integers(0, 2000), others=st.integers(0, 20_000))
@example(rejected_count=0, others=0)
@example(rejected_count=20, others=0)
@example(rejected_count=21, others=0)
@example(rejected_count=21, others=188)
@example(rejected_count=21, others=189)
def test_too_many_means_more_than_twenty_and_a_tenth(rejected_count: int, others: int) -> None:
    rows = rejected_count + others
    assert too_many(rejected_count, rows) == (rejected_count > 20 and rejected_count / rows > 0.1 if rows else False)


def test_a_changed_format_fails_the_day_and_stores_nothing(bench: Bench) -> None:
    world = bench.sandbox.world
    bench.sync([MONDAY, TUESDAY], [POS])
    before = bench.tables()
    for _ in range(25):
        world.add_order(int(SECOND_SHOP), TUESDAY, total_price="many", total_price_after_sub_discount="many")
    listed = sum(len(world.orders(int(shop), TUESDAY)) for shop in (FIRST_SHOP, SECOND_SHOP))
    with pytest.raises(TooManyRejectedError) as failure:
        bench.sync([MONDAY, TUESDAY], [POS])
    error = failure.value
    assert (error.rejected, error.place.since, error.place.until) == (25, TUESDAY, TUESDAY)
    assert 25 < error.rows <= listed
    assert f"25 of {error.rows} rows cannot be read, so the format of the API must have changed" in str(error)
    assert "total_price_after_sub_discount is not a number" in str(error)
    assert bench.steps() == [(MONDAY, POS)]
    assert bench.tables() == before
    assert rejected(bench) == []


def test_a_tenth_of_a_day_or_twenty_rows_do_not_fail_it(bench: Bench) -> None:
    for _ in range(20):
        bench.sandbox.world.add_order(int(SECOND_SHOP), MONDAY, total_price="many", total_price_after_sub_discount="x")
    [result] = bench.sync([MONDAY], [POS])
    assert result.rejected == 20
    bench.start_over()
    for number in range(230):
        bad = {"total_price": "many", "total_price_after_sub_discount": "x"} if number < 22 else {}
        bench.sandbox.world.add_order(int(SECOND_SHOP), MONDAY, **bad)
    [result] = bench.sync([MONDAY], [POS])
    assert result.rejected == 22


def test_going_on_stores_the_other_days_of_a_changed_format(bench: Bench) -> None:
    for _ in range(25):
        bench.sandbox.world.add_order(int(SECOND_SHOP), TUESDAY, total_price="many", total_price_after_sub_discount="x")
    with pytest.raises(SyncFailedError) as failure:
        bench.sync(WEEK[:3], [POS], go_on=True)
    [error] = failure.value.errors
    assert isinstance(error, TooManyRejectedError)
    assert bench.stored_days()[POS] == [WEEK[0], WEEK[2]]


# What is no matter of a row


@pytest.mark.parametrize(
    ("effect", "query"),
    [
        (faults.bad_rows({"account_id": "99"}, most=1), "level=ad"),
        (faults.bad_rows({"date_stop": "2026-10-09"}, most=1), "level=ad"),
        (faults.bad_rows({"account_id": "99"}, most=1), "level=account"),
        (faults.bad_rows({"date_start": "2026-09-01", "date_stop": "2026-09-01"}, most=1), "level=ad"),
        (faults.bad_rows({"date_start": "2026-09-01", "date_stop": "2026-09-01", "spend": "x"}, most=1), "level=ad"),
        (faults.bad_rows({"date_start": "2026-10-04", "date_stop": "2026-10-04"}, most=1), "level=ad"),
        (faults.bad_rows({"date_start": "2026-10-06", "date_stop": "2026-10-06"}, most=1), "level=ad"),
        (faults.bad_rows({"date_start": "2026-10-04", "date_stop": "2026-10-04"}, most=1), "level=account"),
        (faults.bad_rows({"date_start": "2026-10-06", "date_stop": "2026-10-06"}, most=1), "level=account"),
    ],
    ids=[
        *("another account", "several days", "another account's total", "another day", "another day, unreadable"),
        *("the day before", "the day after", "a total of the day before", "a total of the day after"),
    ],
)
def test_a_response_to_another_request_fails_the_day(bench: Bench, effect: Effect, query: str) -> None:
    bench.sync([MONDAY], [META])
    before = bench.tables()
    spoil(bench, effect, INSIGHTS_OF_ACCOUNT, query=query)
    with pytest.raises(SyncError):
        bench.sync([MONDAY], [META])
    assert bench.tables() == before
    assert rejected(bench) == []


@pytest.mark.parametrize(
    "inserted_at", ["2026-10-04T15:59:59", "2026-10-05T16:00:00"], ids=["the second before", "the second after"]
)
def test_an_order_of_a_day_not_requested_fails_the_day(bench: Bench, inserted_at: str) -> None:
    bench.sync([MONDAY], [POS])
    before = bench.tables()
    spoil(bench, faults.bad_rows({"inserted_at": inserted_at}, most=1), ORDERS_OF_SHOP)
    with pytest.raises(
        SyncError, match=r"order [0-9]+ was inserted on 2026-10-0[46], which was not asked for"
    ) as failure:
        bench.sync([MONDAY], [POS])
    assert (failure.value.place.shop_id, failure.value.place.since) == (SECOND_SHOP, MONDAY)
    assert bench.tables() == before
    assert rejected(bench) == []


@pytest.mark.parametrize(
    ("effect", "path", "query", "source"),
    [
        (faults.bad_rows({"status": "Confirmed"}, most=1), ORDERS_OF_SHOP, "", POS),
        (faults.bad_rows({"spend": "many"}, most=1), INSIGHTS_OF_ACCOUNT, "level=ad", META),
        (faults.bad_rows({"spend": "many"}, most=1), INSIGHTS_OF_ACCOUNT, "level=account", META),
    ],
    ids=["order", "insight", "account day"],
)
def test_in_strict_mode_an_unreadable_row_fails(
    bench: Bench, effect: Effect, path: str, query: str, source: str
) -> None:
    bench.tenant = strict(bench.tenant)
    spoil(bench, effect, path, query=query)
    with pytest.raises(RowRejectedError) as failure:
        bench.sync([MONDAY], [source])
    assert (failure.value.place.since, failure.value.place.until) == (MONDAY, MONDAY)
    assert bench.tables() == ([], [])
    assert rejected(bench) == []


# Products


def refresh(bench: Bench, run_id: str = "run-1") -> tuple[int, int]:
    """Refresh the catalogues; return how many variations and how many rejected products there are."""
    tenant = bench.tenant
    with Warehouse(bench.engine).tenant(tenant.tenant_id, name="Lumina", timezone=tenant.timezone) as held:
        clients = bench.pancake_clients()
        found = refresh_products(tenant, clients, held, shops_of_run(tenant, clients, held, run_id).shops, run_id)
    return len(found.rows), len(found.rejected)


def test_an_unreadable_product_costs_only_itself(bench: Bench) -> None:
    variations, _ = refresh(bench)
    stored = "SELECT shop_id, product_id, variation_id FROM pos_products ORDER BY 1, 2, 3"
    before = bench.query(stored)
    fault = spoil(bench, faults.bad_rows({"variations": MARKER}, most=1), f"/shops/{SECOND_SHOP}/products$")
    found, count = refresh(bench)
    assert count == 1
    assert fault.hits == 1
    assert found < variations
    assert bench.query(stored) == before
    [(source, day, kind, shop, product_id, field)] = rejected(bench)
    assert (source, day, kind, shop, field) == (POS, None, "product", SECOND_SHOP, "variations")
    assert product_id in {row[1] for row in before}
    assert rejected_by_source(bench.engine, "lumina")[POS].since is None

    bench.sync([MONDAY], [POS])
    assert len(rejected(bench)) == 1, "a product is no row of the day"
    bench.sandbox.faults.clear()
    assert refresh(bench) == (variations, 0)
    assert rejected(bench) == []


def test_in_strict_mode_an_unreadable_product_fails(bench: Bench) -> None:
    bench.tenant = strict(bench.tenant)
    spoil(bench, faults.bad_rows({"variations": "none"}, most=1), f"/shops/{SECOND_SHOP}/products$")
    with pytest.raises(RowRejectedError):
        refresh(bench)


def test_a_changed_format_of_products_stores_none(bench: Bench) -> None:
    products = [{"id": f"p{number}", "variations": "none"} for number in range(21)]
    body = {"success": True, "data": [*products, {"id": "good", "name": "Rice"}], "total_entries": 22, "total_pages": 1}
    spoil(bench, faults.json_body(body), f"/shops/{SECOND_SHOP}/products$")
    with pytest.raises(TooManyRejectedError, match=r"21 of [0-9]+ rows cannot be read") as failure:
        refresh(bench)
    assert "product p0 of shop 310002: variations is not a list" in str(failure.value)
    assert bench.query("SELECT * FROM pos_products") == []
    assert rejected(bench) == []


# Privacy


def test_nothing_of_a_rejected_row_is_stored_or_told(bench: Bench) -> None:
    order: Mapping[str, Any] = {
        "status": MARKER,
        "bill_full_name": MARKER,
        "bill_phone_number": "09175550199",
        "items": [{"quantity": "09175550199", "note_product": MARKER}],
    }
    spoil(bench, faults.bad_rows(order, most=3), ORDERS_OF_SHOP)
    bench.sync([MONDAY])
    assert len(rejected(bench)) == 3
    told = bench.everything() + "".join(bench.rejected)
    assert "09175550199" not in told
    assert MARKER not in told


# The rows of a window


def row(row_id: str | None = "1", kind: str = "order") -> RejectedRow:
    return RejectedRow(kind, "status", "is not a number", row_id, shop_id="7")


class TestRejections:
    def test_that_come_several_times_count_once(self) -> None:
        found = Rejections()
        for row_id in ("1", "1", "2"):
            found.add(MONDAY, "7", row(row_id))
        assert [one.row_id for one in found.of_day(MONDAY)] == ["1", "2"]
        assert found.of_day(TUESDAY) == ()

    def test_end_when_the_row_can_be_read(self) -> None:
        found = Rejections()
        found.add(MONDAY, "7", row())
        found.accept(TUESDAY, "7", "order", "1")
        found.accept(MONDAY, "8", "order", "1")
        assert len(found.of_day(MONDAY)) == 1
        found.accept(MONDAY, "7", "order", "1")
        assert found.of_day(MONDAY) == []

    def test_of_one_part_stay_when_another_part_can_be_read(self) -> None:
        found = Rejections()
        found.add(MONDAY, "7", row(), part=("1", "2"))
        found.add(MONDAY, "7", row(), part=None)
        found.accept(MONDAY, "7", "order", "1", part=("1", "3"))
        assert len(found.of_day(MONDAY)) == 2
        found.accept(MONDAY, "7", "order", "1", part=("1", "2"))
        assert len(found.of_day(MONDAY)) == 1

    def test_without_an_id_are_those_of_the_last_pass(self) -> None:
        found = Rejections()
        found.add(MONDAY, "7", row(None))
        found.add(MONDAY, "8", row(None))
        found.begin_pass("7")
        assert len(found.of_day(MONDAY)) == 1
        assert not found.has_unidentified(MONDAY, "7", "order")
        assert found.has_unidentified(MONDAY, "8", "order")
        assert not found.has_unidentified(MONDAY, "8", "insight")


def test_demo_tenants_leave_bad_rows_out(tmp_path: Path) -> None:
    assert demo_tenant(tmp_path).on_bad_row == "reject"
