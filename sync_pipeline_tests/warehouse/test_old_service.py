"""The old service's figures of a week, worked by hand by its rules."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync_pipeline.rates import Rates
from sync_pipeline.warehouse import performance
from sync_pipeline_tests.warehouse.test_figures import add_ad
from sync_pipeline_tests.warehouse.test_performance import rows

MONDAY, WEDNESDAY, SUNDAY = date(2026, 10, 5), date(2026, 10, 7), date(2026, 10, 11)
NEXT_MONDAY = date(2026, 10, 12)
# Its amounts: 60 shipping, 25 fulfilment, 5 insurance; 2.24 % of COD; VAT 12 % and tax 1 % on ads; 20 % returns.
RATES = Rates(per_order=Decimal(90), cod_percent=Decimal("2.24"), ad_tax_percent=Decimal(13))

GIFT = '[{"id": 2, "name": "Gift"}]'
REPURCHASE = '[{"id": 9, "name": "Repurchase"}]'
ITEMS = '[{"product_id": "p"}]'

# Day, status, cod, COGS, tracking; tags, items, source and cart mark of the data.
ORDERS: list[tuple[Any, ...]] = [
    (MONDAY, 0, "500", "100", None, GIFT, ITEMS, "Facebook", None),
    (MONDAY, 1, "700", "140", None, REPURCHASE, ITEMS, "Facebook", None),
    (MONDAY, 9, "300", "60", "T1", None, ITEMS, "Facebook", None),
    (MONDAY, 13, "400", "0", "T2", "[]", "[]", "Facebook", None),
    (WEDNESDAY, 11, "250", "50", None, None, ITEMS, "Facebook", None),
    (WEDNESDAY, 2, "1000", "200", "T3", '["gift"]', ITEMS, "Website", None),
    (WEDNESDAY, 3, "2000", "400", "T4", None, ITEMS, "Facebook", "true"),
    (WEDNESDAY, 3, "1500", "300", "T5", '"[\\"repurchase\\"]"', ITEMS, "Facebook", None),
    (SUNDAY, 4, "600", "120", "T6", None, ITEMS, "Facebook", None),
    (SUNDAY, 5, "800", "160", "T7", '["repurchase"]', ITEMS, "Facebook", None),
    (SUNDAY, 6, "350", "70", None, None, ITEMS, "Facebook", None),
    # In no bucket of its own.
    (SUNDAY, 16, "450", "90", "T8", None, ITEMS, "Facebook", None),
    # Left out: deleted; without a product; duplicate and without product, but cancelled only; sold elsewhere.
    (SUNDAY, 7, "9000", "9", None, None, ITEMS, "Facebook", None),
    (SUNDAY, -2, "9000", "9", None, None, ITEMS, "Facebook", None),
    (SUNDAY, 3, "9000", "9", "T9", None, '[{"product_id": null}, {"product_id": ""}]', "Facebook", None),
    (SUNDAY, 6, "9000", "9", None, '[{"name": "Duplicate"}]', ITEMS, "Facebook", None),
    (SUNDAY, 6, "9000", "9", None, '"No Product"', ITEMS, "Facebook", None),
    (SUNDAY, 3, "9000", "9", "T9", None, ITEMS, "TikTok Shop", None),
    (SUNDAY, 3, "9000", "9", "T9", None, ITEMS, "Shopee", None),
    # The week after.
    (NEXT_MONDAY, 3, "110", "11", "T9", None, ITEMS, "Facebook", None),
]
EXPECTED: dict[str, Any] = {
    # Twelve orders; with tracking 9, 13, 2, 3, 3, 4, 5 and 16.
    "orders": 12,
    "cod": "8850",
    "cogs": "1690",
    "processed_orders": 8,
    "repurchase_orders": 3,
    "repurchase_cod": "3000",
    "abandoned_now_orders": 0,
    "abandoned_now_cod": "0",
    "abandoned_ever_orders": 1,
    "abandoned_ever_cod": "2000",
    "unconfirmed_orders": 1,
    "unconfirmed_cod": "500",
    "repurchase_unconfirmed_orders": 0,
    "repurchase_unconfirmed_cod": "0",
    "confirmed_orders": 1,
    "confirmed_cod": "700",
    "repurchase_confirmed_orders": 1,
    "repurchase_confirmed_cod": "700",
    "waiting_pickup_orders": 2,
    "waiting_pickup_cod": "700",
    "repurchase_waiting_pickup_orders": 0,
    "repurchase_waiting_pickup_cod": "0",
    "restocking_orders": 1,
    "restocking_cod": "250",
    "repurchase_restocking_orders": 0,
    "repurchase_restocking_cod": "0",
    "shipped_orders": 1,
    "shipped_cod": "1000",
    "repurchase_shipped_orders": 0,
    "repurchase_shipped_cod": "0",
    "delivered_orders": 2,
    "delivered_cod": "3500",
    "repurchase_delivered_orders": 1,
    "repurchase_delivered_cod": "1500",
    "rts_orders": 2,
    "rts_cod": "1400",
    "repurchase_rts_orders": 1,
    "repurchase_rts_cod": "800",
    "cancelled_orders": 1,
    "cancelled_cod": "350",
    "repurchase_cancelled_orders": 0,
    "repurchase_cancelled_cod": "0",
    "restocking_cogs": "50",
    "delivered_cogs": "700",
    "rts_cogs": "280",
    "cancelled_cogs": "70",
    # 500 + 300 + 400 + 1000 + 2000 + 450: neither repurchased nor cancelled, restocking or returned.
    "revenue": "4650",
    # Eleven not cancelled at 90; five of them shipped, delivered or returned.
    "fees": "990",
    "fees_of_sent": "450",
    # 2.24 % of 8850 - 1400 - 350, and of 3500.
    "cod_fee": "159.04",
    "delivered_cod_fee": "78.40",
    # 0.8 x (8850 - 350 - 250).
    "cod_at_return_rate": "6600",
    # 600 on Monday, 200 on Sunday, 13 % of each more; two ads.
    "spend": "800",
    "spend_with_taxes": "904",
    "leads": 40,
    "link_clicks": 60,
    "impressions": 1000,
    "ads_running": 2,
    # By its formula: 4650 - (1690 - 70 - 50) - 990 - 904 - 159.04 + 280.
    "contribution_margin": "1306.96",
    # 3500 - 450 - 78.40 - 700 - 800.
    "net_margin": "1471.60",
    # 6600 - 800 - 990 - 78.40 - 1570 + 280.
    "margin_at_return_rate": "3441.60",
    # 800 / 4650; 4650 / 12; 800 / 12; 800 / 8; 12 / 40; 2 / 4; 1 / 12; 1306.96 / 800.
    "ar_percent": "17.20",
    "aov": "387.50",
    "cpp": "66.67",
    "processed_cpp": "100.00",
    "conversion_percent": "30.00",
    "rts_percent": "50.00",
    "cancellation_percent": "8.33",
    "profit_efficiency_percent": "163.37",
    # 800 / 60; 60 / 1000; 800 / 40.
    "cpc": "13.33",
    "ctr_percent": "6.00",
    "cpl": "20.00",
}


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A warehouse with the week, and with orders of a shop that is disabled."""
    with engine.connect() as connection:
        with connection.begin():
            connection.execute(sa.text("INSERT INTO tenants VALUES ('acme', 'A', 'UTC')"))
            connection.execute(
                sa.text(
                    "INSERT INTO pos_shops (tenant_id, shop_id, enabled, disabled_from) "
                    "VALUES ('acme', 's1', true, NULL), ('acme', 's2', false, '2026-10-05')"
                )
            )
            for number, order in enumerate(ORDERS):
                add_order(connection, "s1", number, order)
            add_order(connection, "s2", 0, (MONDAY, 3, "9000", "9", "T9", None, ITEMS, "Facebook", None))
        add_ad(connection, MONDAY, "600.00", "11111111")
        add_ad(connection, SUNDAY, "200.00", "22222222")
        performance.recompute(connection, "acme", MONDAY, NEXT_MONDAY, RATES)
        yield connection


def add_order(connection: sa.Connection, shop: str, number: int, order: tuple[Any, ...]) -> None:
    names = ("day", "status", "cod", "cogs", "tracking", "tags", "items", "source", "cart")
    connection.execute(
        sa.text("""
            INSERT INTO pos_orders (
                tenant_id, shop_id, pos_order_id, inserted_at, date_local, status, total, cod, cogs, total_quantity,
                uncosted_quantity, tracking, data
            ) VALUES (
                'acme', :shop, :number, CAST(:day AS timestamp) AT TIME ZONE 'UTC', :day, :status, 0, :cod, :cogs, 1, 0,
                :tracking, jsonb_build_object(
                    'tags', CAST(:tags AS jsonb), 'items', CAST(:items AS jsonb), 'order_sources_name', :source,
                    'is_abandoned_order', CAST(:cart AS jsonb)
                )
            )
        """),
        {"shop": shop, "number": str(number), **dict(zip(names, order, strict=True))},
    )


def test_the_figures_of_a_week_are_those_worked_by_hand(connection: sa.Connection) -> None:
    week, after = rows(connection, "SELECT * FROM old_service_figures_by_week ORDER BY week_start")
    assert (week.pop("tenant_id"), week.pop("week_start")) == ("acme", MONDAY)
    assert week == {name: Decimal(value) if isinstance(value, str) else value for name, value in EXPECTED.items()}
    assert (after["week_start"], after["orders"], after["spend"], after["revenue"]) == (NEXT_MONDAY, 1, 0, 110)


def test_sums_of_the_days_are_those_of_the_week(connection: sa.Connection) -> None:
    sums = [name for name in EXPECTED if name not in RATIOS]
    names = ", ".join(f"sum({name}) AS {name}" for name in sums)
    until = f"WHERE date BETWEEN '{MONDAY}' AND '{SUNDAY}'"
    [days] = rows(connection, f"SELECT {names} FROM old_service_figures {until}")
    assert days == {name: Decimal(EXPECTED[name]) for name in sums}


RATIOS = {
    *("ar_percent", "aov", "cpp", "processed_cpp", "conversion_percent", "rts_percent", "cancellation_percent"),
    *("profit_efficiency_percent", "cpc", "ctr_percent", "cpl"),
}


def test_a_day_without_settings_has_no_fees_and_margins(connection: sa.Connection) -> None:
    with connection.begin():
        connection.execute(sa.text("DELETE FROM figure_settings WHERE date = :day"), {"day": WEDNESDAY})
    [week, _] = rows(connection, "SELECT * FROM old_service_figures_by_week ORDER BY week_start")
    assert (week["fees"], week["contribution_margin"], week["net_margin"]) == (None, None, None)
    assert (week["revenue"], week["rts_percent"]) == (4650, 50)
