"""Costs of orders that are stored already, and what is stored of the people who placed them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from sync_pipeline.rows.costs import ProductCost, ProductCosts
from sync_pipeline.sync import POS
from sync_pipeline.sync.costs import (
    DayCosts,
    Uncosted,
    compare_costs,
    costs_by_catalogue,
    read_product_costs,
    recost_orders,
    sold_without_cost,
    store_product_costs,
)
from sync_pipeline.sync.errors import RowRejectedError
from sync_pipeline.warehouse.tenancy import TenantWarehouse, Warehouse
from sync_pipeline_tests.sync.bench import Bench, days_from

DAYS = days_from(date(2026, 10, 5), 3)
FIRST, SECOND, THIRD = DAYS


@contextmanager
def held(bench: Bench) -> Iterator[TenantWarehouse]:
    tenant = bench.tenant
    with Warehouse(bench.engine).tenant(tenant.tenant_id, name=tenant.name, timezone=tenant.timezone) as warehouse:
        yield warehouse


def query(bench: Bench, statement: str, **values: object) -> list[tuple[object, ...]]:
    with bench.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), values)]


def add_order(bench: Bench, number: int, day: date, items: str, uncosted: int) -> None:
    with bench.engine.begin() as connection:
        connection.execute(
            sa.text("""
                INSERT INTO pos_orders (
                    tenant_id, shop_id, pos_order_id, inserted_at, date_local, total, cod, cogs, total_quantity,
                    uncosted_quantity, data
                ) VALUES (
                    'lumina', '310001', :number, now(), :day, 100, 0, 0, 3, :uncosted,
                    jsonb_build_object('items', CAST(:items AS jsonb))
                )
            """),
            {"number": str(number), "day": day, "items": items, "uncosted": uncosted},
        )


def item(product: str, quantity: int, name: str = "Serum", note: str = "") -> str:
    return (
        f'{{"product_id": "{product}", "quantity": {quantity}, "note_product": "{note}", '
        f'"variation_info": {{"name": "{name}", "display_id": "{product}-S"}}}}'
    )


def test_orders_just_synced_are_costed_as_they_would_be_now(bench: Bench) -> None:
    bench.sync(DAYS, [POS])
    with held(bench) as warehouse:
        compared = list(compare_costs(bench.tenant, warehouse, costs_by_catalogue(bench.tenant, warehouse), DAYS))
    stored = query(bench, "SELECT date_local, count(*), sum(cogs) FROM pos_orders GROUP BY 1 ORDER BY 1")
    assert [(one.day, one.orders, one.stored) for one in compared] == stored
    assert [one.changed for one in compared] == [0] * len(DAYS)
    assert [one.current for one in compared] == [one.stored for one in compared]
    assert sum(one.stored for one in compared) > 0


def test_comparing_writes_nothing_and_recosting_just_what_differs(bench: Bench) -> None:
    bench.sync(DAYS, [POS])
    everything = "SELECT ctid::text, * FROM pos_orders ORDER BY shop_id, pos_order_id"
    before = query(bench, everything)
    known = read_product_costs(bench.tenant)
    serum = ProductCost("310001", "LUM-SER", "serum", Decimal("200.00"), SECOND, SECOND, len(known) + 2)
    costs = ProductCosts([*known, serum])
    with held(bench) as warehouse:
        compared = {one.day: one for one in compare_costs(bench.tenant, warehouse, costs, DAYS)}
        assert query(bench, everything) == before
        changed = list(recost_orders(bench.tenant, warehouse, costs))
        assert list(recost_orders(bench.tenant, warehouse, costs)) == []
    assert changed == [compared[SECOND]]
    assert 0 < changed[0].changed < changed[0].orders
    assert changed[0].current > changed[0].stored
    after = query(bench, everything)
    assert len([row for row in after if row not in before]) == changed[0].changed
    [(cogs,)] = query(bench, "SELECT sum(cogs) FROM pos_orders WHERE date_local = :day", day=SECOND)
    assert cogs == changed[0].current


def test_a_day_without_orders_is_compared_as_such(bench: Bench) -> None:
    with held(bench) as warehouse:
        [compared] = compare_costs(bench.tenant, warehouse, ProductCosts(), [FIRST])
    assert compared == DayCosts(FIRST, orders=0, changed=0, stored=Decimal(0), current=Decimal(0))


def test_products_sold_without_cost_are_those_of_items_without_one(bench: Bench) -> None:
    costs = ProductCosts([ProductCost(None, "KNOWN", None, Decimal(5), None, SECOND, 2)])
    with held(bench) as warehouse:
        add_order(bench, 1, FIRST, f"[{item('KNOWN', 2)}, {item('LOST', 1)}]", uncosted=1)
        add_order(bench, 2, THIRD, f"[{item('KNOWN', 4)}, {item('LOST', 2)}]", uncosted=6)
        add_order(bench, 3, THIRD, f"[{item('NOTED', 7, note='Soap-25')}]", uncosted=0)
        add_order(bench, 4, THIRD + timedelta(days=1), f"[{item('LATER', 9)}]", uncosted=9)
        found = sold_without_cost(warehouse, costs, FIRST, THIRD)
    assert found == [
        Uncosted("310001", "KNOWN", "KNOWN-S", "Serum", 4, THIRD),
        Uncosted("310001", "LOST", "LOST-S", "Serum", 3, THIRD),
    ]


def test_products_are_no_longer_listed_once_the_file_has_their_cost(bench: Bench) -> None:
    with held(bench) as warehouse:
        add_order(bench, 1, FIRST, f"[{item('LOST', 1)}]", uncosted=1)
        assert [one.product_id for one in sold_without_cost(warehouse, ProductCosts(), FIRST, FIRST)] == ["LOST"]
        costs = ProductCosts([ProductCost("310001", "LOST", None, Decimal(5), None, None, 2)])
        assert sold_without_cost(warehouse, costs, FIRST, FIRST) == []


def test_an_order_whose_cost_no_longer_fits_is_named_and_nothing_of_its_day_is_written(bench: Bench) -> None:
    costs = ProductCosts([ProductCost(None, "DEAR", None, Decimal("999999999999.99"), None, None, 2)])
    with held(bench) as warehouse:
        add_order(bench, 41, FIRST, f"[{item('DEAR', 1)}]", uncosted=1)
        add_order(bench, 42, FIRST, f"[{item('DEAR', 5)}]", uncosted=5)
        with pytest.raises(RowRejectedError, match="42") as caught:
            list(recost_orders(bench.tenant, warehouse, costs))
    assert caught.value.place.shop_id == "310001"
    assert caught.value.place.since == FIRST
    assert query(bench, "SELECT sum(cogs) FROM pos_orders") == [(0,)]


def test_the_stored_costs_are_the_files(bench: Bench) -> None:
    with held(bench) as warehouse:
        costs = store_product_costs(bench.tenant, warehouse)
        assert warehouse.product_costs() == [tuple(cost) for cost in costs]
    assert costs == read_product_costs(bench.tenant)


@pytest.mark.parametrize("listed", [None, "null", "[]"])
def test_stored_items_under_order_items_are_costed(bench: Bench, listed: str | None) -> None:
    with held(bench) as warehouse:
        add_order(bench, 1, FIRST, listed or "[]", uncosted=0)
        if listed is None:
            bench.execute("UPDATE pos_orders SET data = data - 'items'")
        bench.execute(
            "UPDATE pos_orders SET data = data || jsonb_build_object('order_items', jsonb_build_array("
            "jsonb_build_object('product_id', 'KNOWN', 'quantity', 3)))"
        )
        costs = ProductCosts([ProductCost(None, "KNOWN", None, Decimal(5), None, None, 2)])
        [compared] = recost_orders(bench.tenant, warehouse, costs)
    assert compared.current == 15


CUSTOMER = re.compile(
    r"bill_full_name|bill_phone_number|bill_email|phone|Customer \d{4}|0000000000|customer@example|Example Street"
)


@pytest.mark.parametrize("kept", [False, True])
def test_orders_name_their_customers_only_where_the_tenant_wants_it(bench: Bench, kept: bool) -> None:
    bench.tenant = bench.tenant.model_copy(update={"store_customer_data": kept})
    bench.sync([FIRST], [POS])
    stored = [str(data) for (data,) in query(bench, "SELECT data::text FROM pos_orders")]
    assert stored
    assert [CUSTOMER.search(data) is not None for data in stored] == [kept] * len(stored)
    assert all('"items"' in data and '"total_price"' in data for data in stored)


def test_a_tenant_that_stops_keeping_customers_names_loses_them_with_the_next_sync(bench: Bench) -> None:
    own = bench.tenant
    bench.tenant = own.model_copy(update={"store_customer_data": True})
    bench.sync([FIRST], [POS])
    bench.tenant = own
    [result] = bench.sync([FIRST], [POS])
    assert result.changed == result.rows > 0
    assert not any(CUSTOMER.search(str(data)) for (data,) in query(bench, "SELECT data::text FROM pos_orders"))
