"""A day worked by hand: five ads and ten orders, and every figure that comes of them derived on paper.

The tenant pays 75.50 for each order that is not cancelled, and 2.5 % of the cash collected for delivered ones. Account
222 spends another currency: 58.5 of the tenant's for one of its own.
"""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync_pipeline.rates import Rates
from sync_pipeline.warehouse import performance
from sync_pipeline.warehouse.figures import DERIVED, STORED
from sync_pipeline.warehouse.performance import DayFigures, Earner

BEFORE, DAY, AFTER = date(2026, 10, 2), date(2026, 10, 5), date(2026, 10, 6)
RATES = Rates(per_order=Decimal("75.50"), cod_percent=Decimal("2.5"), spend_multipliers={"222": Decimal("58.5")})

BRIGHT, CLEAR, FAR, LATE, MUTE = "11111111", "22222222", "33333333", "44444444", "55555555"
UNKNOWN, OF_ANOTHER_TENANT = "77777777", "88888888"

# Ad, day, account, campaign, mapping, ad name, associate; spend, impressions, clicks, link clicks, leads.
INSIGHTS: list[tuple[Any, ...]] = [
    (BRIGHT, DAY, "111", "C1", "serum", "BRIGHT_UGC_1_ALY_1", "ALY", "500.00", 10_000, 200, 150, 5),
    (CLEAR, DAY, "111", "C1", "serum", "CLEAR_UGC_1_BEA_1", "BEA", "300.00", 4_000, 90, 60, 0),
    (FAR, DAY, "222", "C2", "toner", "FAR_UGC_1_ALY_1", "ALY", "10.01", 900, 30, 20, 1),
    (LATE, BEFORE, "111", "C9", "soap", "LATE_OLD_1_DEX_1", "DEX", "60.00", 100, 3, 2, 0),
    (LATE, AFTER, "111", "C2", "toner", "LATE_UGC_1_BEA_1", "BEA", "70.00", 200, 4, 3, 0),
    (MUTE, DAY, "111", "C3", None, "MUTE", None, "45.00", 12, 1, 0, 0),
]

# Shop, number, ad in p_utm_content, Pancake's ad; status, total, cod; cogs, quantity, uncosted quantity, mapping.
ORDERS: list[tuple[Any, ...]] = [
    ("s1", "1", BRIGHT, CLEAR, 3, "1000.00", "999.30", "250.00", 2, 0, "serum"),
    ("s1", "2", None, BRIGHT, 16, "600.00", "0.00", "100.00", 1, 0, "serum"),
    ("s1", "3", UNKNOWN, CLEAR, 5, "800.00", "800.00", "200.00", 1, 0, "serum"),
    ("s1", "4", CLEAR, None, 6, "400.00", "400.00", "80.00", 1, 0, "toner"),
    ("s2", "1", FAR, None, 2, "1500.50", "1500.50", "300.00", 3, 1, "toner"),
    ("s2", "2", None, LATE, 1, "700.00", "700.00", "120.00", 1, 0, "toner"),
    ("s1", "5", None, None, 0, "500.00", "500.00", "90.00", 1, 0, "serum"),
    ("s1", "6", None, None, 99, "250.00", "0.00", "0.00", 1, 1, None),
    ("s2", "3", UNKNOWN, None, None, "0.00", "0.00", "0.00", 0, 0, None),
    ("s1", "7", OF_ANOTHER_TENANT, None, 9, "350.00", "350.00", "70.00", 1, 0, "serum"),
]

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("ad_id", "shop_id", "mapping", "account_id", "campaign_id", "campaign_name", "adset_id")),
    **dict.fromkeys(("adset_name", "ad_name", "marketing_associate", "matched_by", "projection_date")),
    **dict.fromkeys((figure.name for figure in STORED), 0),
    **{figure.name: None if figure.denominator else 0 for figure in DERIVED},
}


def named(ad_id: str, account: str, campaign: str, mapping: str | None, name: str, who: str | None) -> dict[str, Any]:
    return {
        "ad_id": ad_id,
        "account_id": account,
        "campaign_id": campaign,
        "campaign_name": f"Campaign {campaign}",
        "adset_id": f"set-{ad_id}",
        "adset_name": f"Set of {name}",
        "mapping": mapping,
        "ad_name": name,
        "marketing_associate": who,
    }


def figures(**columns: str | int | None) -> dict[str, Any]:
    return {name: Decimal(value) if isinstance(value, str) else value for name, value in columns.items()}


EXPECTED = [
    {
        # Orders 1 and 2, both delivered. 1 names CLEAR too, but p_utm_content comes first.
        # fees 2 x 75.50; 999.30 collected x 2.5 % = 24.9825; margin 1600 - 350 - 151 - 24.98 - 500.
        # At 20 % returns: 0.8 x (1600 - 350 - 24.9825) - 151 = 829.014. Break-even at 1600 / 1074.02.
        **named(BRIGHT, "111", "C1", "serum", "BRIGHT_UGC_1_ALY_1", "ALY"),
        "matched_by": "p_utm_content+ad_id",
        **figures(spend="500.00", ad_cost="500.00", impressions=10_000, clicks=200, link_clicks=150, leads=5),
        **figures(orders=2, quantity=3, revenue="1600.00", cod="999.30", cogs="350.00"),
        **figures(delivered_orders=2, delivered_amount="1600.00", delivered_cod="999.30", delivered_cogs="350.00"),
        **figures(realised_outbound_fees="151.00", realised_cod_fees="24.98", orders_margin_at_return_rate="829.01"),
        **figures(realised_margin="574.02", projected_margin="574.02", margin_at_return_rate="329.01"),
        **figures(roas="3.2000", delivered_roas="3.2000", break_even_roas="1.4897"),
        **figures(cost_per_order="250.00", cost_per_delivered_order="250.00"),
        **figures(delivery_rate="1.0000", return_rate="0.0000", settled_share="1.0000", cancellation_rate="0.0000"),
        **figures(delivery_rate_of_sent="1.0000", return_rate_of_sent="0.0000", rts_rate="0.0000"),
        **figures(collected="999.30", net_cogs="350.00", order_fees="151.00", cod_fees="24.98"),
        **figures(net_revenue="1600.00", contribution_margin="574.02"),
    },
    {
        # Order 3, returned, whose p_utm_content names no known ad; order 4, cancelled and so without fees.
        # Revenue is of both, net revenue of neither; margin 0 - 75.50 - 300. No ROAS breaks even.
        # At 20 % returns: 0.8 x (800 - 200 - 20) - 75.50 = 388.50, of the order that is not cancelled.
        **named(CLEAR, "111", "C1", "serum", "CLEAR_UGC_1_BEA_1", "BEA"),
        "matched_by": "p_utm_content+ad_id",
        **figures(spend="300.00", ad_cost="300.00", impressions=4_000, clicks=90, link_clicks=60),
        **figures(orders=2, quantity=2, revenue="1200.00", cod="1200.00", cogs="280.00"),
        **figures(returned_orders=1, returned_amount="800.00", returned_cod="800.00", returned_cogs="200.00"),
        **figures(cancelled_orders=1, cancelled_amount="400.00", cancelled_cod="400.00", cancelled_cogs="80.00"),
        **figures(realised_outbound_fees="75.50", orders_margin_at_return_rate="388.50"),
        **figures(realised_margin="-375.50", projected_margin="-375.50", margin_at_return_rate="88.50"),
        **figures(roas="4.0000", delivered_roas="0.0000", cost_per_order="150.00"),
        **figures(delivery_rate="0.0000", return_rate="0.5000", settled_share="1.0000", cancellation_rate="0.5000"),
        **figures(delivery_rate_of_sent="0.0000", return_rate_of_sent="1.0000", rts_rate="1.0000"),
        **figures(order_fees="75.50", contribution_margin="-375.50"),
    },
    {
        # The first order of shop s2, shipped. 10.01 x 58.5 = 585.585; 1500.50 / 585.59 = 2.56237;
        # contribution margin 1500.50 - 300 - 75.50 - 585.59. Its cash is not collected yet, so that it is expected:
        # 0.8 x (1500.50 - 300 - 37.5125) - 75.50 = 854.89.
        **named(FAR, "222", "C2", "toner", "FAR_UGC_1_ALY_1", "ALY"),
        "matched_by": "p_utm_content",
        **figures(spend="10.01", ad_cost="585.59", impressions=900, clicks=30, link_clicks=20, leads=1),
        **figures(orders=1, quantity=3, uncosted_quantity=1, revenue="1500.50", cod="1500.50", cogs="300.00"),
        **figures(shipped_orders=1, shipped_amount="1500.50", shipped_cod="1500.50", shipped_cogs="300.00"),
        **figures(open_margin="854.89", orders_margin_at_return_rate="854.89"),
        **figures(realised_margin="-585.59", projected_margin="269.30", margin_at_return_rate="269.30"),
        **figures(roas="2.5624", delivered_roas="0.0000", cost_per_order="585.59"),
        **figures(settled_share="0.0000", cancellation_rate="0.0000"),
        **figures(delivery_rate_of_sent="0.0000", return_rate_of_sent="0.0000"),
        **figures(net_cogs="300.00", order_fees="75.50", net_revenue="1500.50", contribution_margin="539.41"),
    },
    {
        # No delivery on the day: it has the names of the day after, which is nearer than three days before.
        # Nothing was spent, so there is no ROAS; nothing was sent, so there are no rates.
        # 0.8 x (700 - 120 - 17.50) - 75.50 = 374.50.
        **named(LATE, "111", "C2", "toner", "LATE_UGC_1_BEA_1", "BEA"),
        "matched_by": "ad_id",
        **figures(orders=1, quantity=1, revenue="700.00", cod="700.00", cogs="120.00"),
        **figures(confirmed_orders=1, confirmed_amount="700.00", confirmed_cod="700.00", confirmed_cogs="120.00"),
        **figures(open_margin="374.50", orders_margin_at_return_rate="374.50"),
        **figures(projected_margin="374.50", margin_at_return_rate="374.50", cost_per_order="0.00"),
        **figures(settled_share="0.0000", cancellation_rate="0.0000"),
        **figures(net_cogs="120.00", order_fees="75.50", net_revenue="700.00", contribution_margin="504.50"),
    },
    {
        # Spend without orders: a ROAS of 0, but no cost per order.
        **named(MUTE, "111", "C3", None, "MUTE", None),
        **figures(spend="45.00", ad_cost="45.00", impressions=12, clicks=1),
        **figures(realised_margin="-45.00", projected_margin="-45.00", margin_at_return_rate="-45.00"),
        **figures(contribution_margin="-45.00", roas="0.0000", delivered_roas="0.0000"),
    },
    {
        # Orders 5 and 7: the ad that 7 names is known to another tenant only. Margin 850 - 160 - 151.
        # 0.8 x (850 - 160 - 21.25) - 151 = 384.
        **figures(orders=2, quantity=2, revenue="850.00", cod="850.00", cogs="160.00"),
        "shop_id": "s1",
        "mapping": "serum",
        **figures(
            unconfirmed_orders=1, unconfirmed_amount="500.00", unconfirmed_cod="500.00", unconfirmed_cogs="90.00"
        ),
        **figures(waiting_pickup_orders=1, waiting_pickup_amount="350.00"),
        **figures(waiting_pickup_cod="350.00", waiting_pickup_cogs="70.00"),
        **figures(open_margin="384.00", orders_margin_at_return_rate="384.00"),
        **figures(projected_margin="384.00", margin_at_return_rate="384.00", cost_per_order="0.00"),
        **figures(settled_share="0.0000", cancellation_rate="0.0000"),
        **figures(net_cogs="160.00", order_fees="151.00", net_revenue="850.00", contribution_margin="539.00"),
    },
    {
        # Order 6: a status that nobody knows counts, as something else; margin 250 - 75.50, or 0.8 x 250 - 75.50.
        **figures(orders=1, quantity=1, uncosted_quantity=1, revenue="250.00", order_fees="75.50"),
        "shop_id": "s1",
        **figures(other_orders=1, other_amount="250.00"),
        **figures(open_margin="124.50", orders_margin_at_return_rate="124.50"),
        **figures(projected_margin="124.50", margin_at_return_rate="124.50", cost_per_order="0.00"),
        **figures(settled_share="0.0000", cancellation_rate="0.0000"),
        **figures(net_revenue="250.00", contribution_margin="174.50"),
    },
    {
        # Order 3 of shop s2: without status, without amount, but an order with its fees.
        **figures(orders=1, order_fees="75.50", other_orders=1),
        "shop_id": "s2",
        **figures(open_margin="-75.50", orders_margin_at_return_rate="-75.50"),
        **figures(projected_margin="-75.50", margin_at_return_rate="-75.50", cost_per_order="0.00"),
        **figures(settled_share="0.0000", cancellation_rate="0.0000"),
        **figures(contribution_margin="-75.50"),
    },
]


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to a warehouse with the day, and with another tenant that has the same ads and order numbers."""
    with engine.connect() as connection:
        store(connection, "acme", INSIGHTS, ORDERS)
        foreign_ads = [(*row[:7], "9999.00", *row[8:]) for row in INSIGHTS]
        foreign_ads.append((OF_ANOTHER_TENANT, DAY, "111", "C8", "soap", "THEIRS", "THEO", "1.00", 1, 1, 1, 1))
        store(connection, "other", foreign_ads, [(*row[:5], "77.00", *row[6:]) for row in ORDERS])
        yield connection


def store(
    connection: sa.Connection, tenant: str, insights: list[tuple[Any, ...]], orders: list[tuple[Any, ...]]
) -> None:
    with connection.begin():
        connection.execute(sa.text("INSERT INTO tenants VALUES (:t, :t, 'Asia/Manila')"), {"t": tenant})
        for ad, day, account, campaign, mapping, name, associate, *delivered in insights:
            add_insight(connection, tenant, (account, ad, day, campaign, mapping, name, associate, *delivered))
        for order in orders:
            add_order(connection, tenant, order, DAY)


def add_insight(connection: sa.Connection, tenant: str, values: tuple[Any, ...]) -> None:
    names = ["account", "ad", "day", "campaign", "mapping", "name", "associate"]
    names += ["spend", "impressions", "clicks", "link_clicks", "leads"]
    connection.execute(
        sa.text("""
            INSERT INTO meta_ad_insights (
                tenant_id, account_id, ad_id, date, campaign_id, campaign_name, adset_id, adset_name, ad_name,
                marketing_associate, mapping, spend, impressions, clicks, link_clicks, leads
            ) VALUES (
                :tenant, :account, :ad, :day, :campaign, 'Campaign ' || :campaign, 'set-' || :ad, 'Set of ' || :name,
                :name, :associate, :mapping, :spend, :impressions, :clicks, :link_clicks, :leads
            )
        """),
        {"tenant": tenant, **dict(zip(names, values, strict=True))},
    )


def add_order(connection: sa.Connection, tenant: str, values: tuple[Any, ...], day: date) -> None:
    names = ("shop", "number", "utm_ad", "ad", "status", "total", "cod", "cogs", "quantity", "uncosted", "mapping")
    connection.execute(
        sa.text("""
            INSERT INTO pos_orders (
                tenant_id, shop_id, pos_order_id, inserted_at, date_local, utm_ad_id, ad_id, status, total, cod, cogs,
                total_quantity, uncosted_quantity, mapping, data
            ) VALUES (
                :tenant, :shop, :number, CAST(:day AS timestamp) AT TIME ZONE 'Asia/Manila', :day, :utm_ad, :ad,
                :status, :total, :cod, :cogs, :quantity, :uncosted, :mapping, '{}'
            )
        """),
        {"tenant": tenant, "day": day, **dict(zip(names, values, strict=True))},
    )


def rows(connection: sa.Connection, query: str) -> list[dict[str, Any]]:
    with connection.begin():
        return [dict(row) for row in connection.execute(sa.text(query)).mappings()]


def stored_performance(connection: sa.Connection) -> list[dict[str, Any]]:
    return rows(connection, "SELECT * FROM ad_performance ORDER BY tenant_id, date, ad_id, shop_id, mapping")


def recompute(connection: sa.Connection, since: date = DAY, until: date = DAY) -> int:
    return performance.recompute(connection, "acme", since, until, RATES)


def test_every_figure_of_the_day_is_the_one_on_paper(connection: sa.Connection) -> None:
    assert recompute(connection) == 8
    assert stored_performance(connection) == [
        {"tenant_id": "acme", "date": DAY, **NOTHING, **expected, "rules": RATES.fingerprint} for expected in EXPECTED
    ]


def test_every_order_says_which_ad_it_went_to_and_by_which_rule(connection: sa.Connection) -> None:
    found = rows(connection, "SELECT * FROM order_attribution WHERE tenant_id = 'acme' ORDER BY shop_id, pos_order_id")
    assert [
        (row["shop_id"], row["pos_order_id"], row["ad_id"], row["matched_by"], row["status_group"]) for row in found
    ] == [
        ("s1", "1", BRIGHT, "p_utm_content", "delivered"),
        ("s1", "2", BRIGHT, "ad_id", "delivered"),
        ("s1", "3", CLEAR, "ad_id", "returned"),
        ("s1", "4", CLEAR, "p_utm_content", "cancelled"),
        ("s1", "5", None, None, "unconfirmed"),
        ("s1", "6", None, None, "other"),
        ("s1", "7", None, None, "waiting_pickup"),
        ("s2", "1", FAR, "p_utm_content", "shipped"),
        ("s2", "2", LATE, "ad_id", "confirmed"),
        ("s2", "3", None, None, "other"),
    ]


@pytest.mark.parametrize(
    ("group", "statuses"),
    [
        ("unconfirmed", [0, 17]),
        ("restocking", [11]),
        ("confirmed", [1, 20]),
        ("waiting_pickup", [8, 12, 13, 9]),
        ("shipped", [2]),
        ("delivered", [3, 16]),
        ("partly_returned", [15]),
        ("returning", [4]),
        ("returned", [5]),
        ("cancelled", [6, -1]),
        ("other", [99, -3, 10, None]),
    ],
)
def test_every_status_is_in_one_group(connection: sa.Connection, group: str, statuses: list[int | None]) -> None:
    with connection.begin():
        connection.execute(sa.text("DELETE FROM pos_orders WHERE tenant_id = 'acme'"))
        for number, status in enumerate(statuses):
            add_order(connection, "acme", ("s1", str(number), None, None, status, 10, 0, 0, 1, 0, None), DAY)
    recompute(connection)
    [row] = rows(connection, "SELECT * FROM ad_performance WHERE orders > 0")
    assert (row["orders"], row["revenue"]) == (len(statuses), 10 * len(statuses))
    assert (row[f"{group}_orders"], row[f"{group}_amount"]) == (len(statuses), 10 * len(statuses))


def test_excluded_orders_count_in_no_other_figure(connection: sa.Connection) -> None:
    with connection.begin():
        connection.execute(sa.text("DELETE FROM pos_orders WHERE tenant_id = 'acme'"))
        for number, status in enumerate([7, -2]):
            add_order(connection, "acme", ("s1", str(number), None, None, status, 10, 8, 2, 1, 1, None), DAY)
    recompute(connection)
    [row] = rows(connection, "SELECT * FROM ad_performance WHERE ad_id IS NULL")
    counted = {figure.name: row[figure.name] for figure in (*STORED, *DERIVED) if row[figure.name]}
    assert counted == {"excluded_orders": 2, "excluded_amount": 20, "excluded_cod": 16, "excluded_cogs": 4}


# Ad cost, orders, revenue; ROAS, contribution margin, cost per order; rates of sent orders; projected margin; rates.
VIEWS: dict[str, dict[str | None, tuple[Any, ...]]] = {
    "marketing_associate": {
        "ALY": (
            "1085.59",
            3,
            "3100.50",
            "2.8561",
            "1113.43",
            "361.86",
            "0.6667",
            "0.0000",
            "843.32",
            "1.0000",
            "0.0000",
        ),
        "BEA": ("300.00", 3, "1900.00", "6.3333", "129.00", "100.00", "0.0000", "1.0000", "-1.00", "0.0000", "0.5000"),
        None: ("45.00", 4, "1100.00", "24.4444", "593.00", "11.25", None, None, "388.00", None, None),
    },
    "campaign_id": {
        "C1": ("800.00", 4, "2800.00", "3.5000", "198.52", "200.00", "0.6667", "0.3333", "198.52", "0.5000", "0.2500"),
        "C2": ("585.59", 2, "2200.50", "3.7577", "1043.91", "292.80", "0.0000", "0.0000", "643.80", None, None),
        "C3": ("45.00", 0, "0.00", "0.0000", "-45.00", None, None, None, "-45.00", None, None),
        None: ("0.00", 4, "1100.00", None, "638.00", "0.00", None, None, "433.00", None, None),
    },
    "mapping": {
        "serum": (
            "800.00",
            6,
            "3650.00",
            "4.5625",
            "737.52",
            "133.33",
            "0.6667",
            "0.3333",
            "582.52",
            "0.5000",
            "0.2500",
        ),
        "toner": ("585.59", 2, "2200.50", "3.7577", "1043.91", "292.80", "0.0000", "0.0000", "643.80", None, None),
        None: ("45.00", 2, "250.00", "5.5556", "54.00", "22.50", None, None, "4.00", None, None),
    },
}


@pytest.mark.parametrize(
    ("view", "key"), [("associate", "marketing_associate"), ("campaign", "campaign_id"), ("mapping", "mapping")]
)
def test_the_views_sum_up_and_take_their_ratios_of_the_sums(connection: sa.Connection, view: str, key: str) -> None:
    recompute(connection)
    columns = ["ad_cost", "orders", "revenue", "roas", "contribution_margin", "cost_per_order"]
    columns += ["delivery_rate_of_sent", "return_rate_of_sent", "projected_margin", "delivery_rate", "return_rate"]
    found = rows(connection, f"SELECT * FROM ad_performance_by_{view} WHERE tenant_id = 'acme' AND date = '{DAY}'")
    assert {row[key]: tuple(row[column] for column in columns) for row in found} == {
        name: tuple(Decimal(value) if isinstance(value, str) else value for value in values)
        for name, values in VIEWS[key].items()
    }
    if view == "campaign":
        assert {row["campaign_name"] for row in found} == {"Campaign C1", "Campaign C2", "Campaign C3", None}


def test_the_days_sums_and_its_best_are_those_of_its_rows(connection: sa.Connection) -> None:
    recompute(connection)
    assert performance.figures(connection, "acme", [DAY, BEFORE]) == {
        DAY: DayFigures(
            DAY,
            rows=8,
            spend=Decimal("855.01"),
            ad_cost=Decimal("1430.59"),
            orders=10,
            revenue=Decimal("6100.50"),
            cogs=Decimal("1210.00"),
            realised_margin=Decimal("-432.07"),
            projected_margin=Decimal("1230.32"),
            contribution_margin=Decimal("1835.43"),
            roas=Decimal("4.2643"),
            delivered_roas=Decimal("1.1184"),
            delivery_rate=Decimal("0.5000"),
            return_rate=Decimal("0.2500"),
            settled_share=Decimal("0.4000"),
        )
    }
    best = performance.best_ads(connection, "acme", [DAY], 2)
    assert [(one.name, one.orders) for one in best[DAY]] == [("BRIGHT_UGC_1_ALY_1", 2), ("FAR_UGC_1_ALY_1", 1)]
    assert performance.best_associates(connection, "acme", [DAY], 10) == {
        DAY: [
            Earner("ALY", Decimal("1085.59"), 3, Decimal("3100.50"), Decimal("2.8561"), Decimal("843.32")),
            Earner("BEA", Decimal("300.00"), 3, Decimal("1900.00"), Decimal("6.3333"), Decimal("-1.00")),
        ]
    }


def test_the_day_again_gives_the_same_and_the_other_tenant_keeps_its_own(connection: sa.Connection) -> None:
    performance.recompute(connection, "other", DAY, DAY, Rates())
    theirs = stored_performance(connection)
    recompute(connection)
    first = stored_performance(connection)
    recompute(connection)
    assert stored_performance(connection) == first
    assert [row for row in first if row["tenant_id"] == "other"] == theirs
    [matched] = [row for row in theirs if row["ad_id"] == OF_ANOTHER_TENANT]
    assert (matched["orders"], matched["revenue"], matched["spend"]) == (1, 77, 1)


def test_a_whole_percentage_of_cash_is_not_cut_to_nothing(connection: sa.Connection) -> None:
    # 999.30 was collected in all, for the one delivered order that was paid in cash.
    performance.recompute(connection, "acme", DAY, DAY, Rates(cod_percent=Decimal(2)))
    fees = "SELECT sum(cod_fees) FROM ad_performance WHERE tenant_id = 'acme' AND date = :day"
    assert connection.execute(sa.text(fees), {"day": DAY}).scalar_one() == Decimal("19.99")


def test_only_the_days_asked_for_are_touched(connection: sa.Connection) -> None:
    assert recompute(connection, AFTER, AFTER) == 1
    assert recompute(connection, DAY, AFTER) == 9
    days = rows(connection, "SELECT date, count(*) FROM ad_performance GROUP BY date ORDER BY date")
    assert [tuple(day.values()) for day in days] == [(DAY, 8), (AFTER, 1)]


def test_rows_vanish_with_what_they_came_from(connection: sa.Connection) -> None:
    recompute(connection, BEFORE, AFTER)
    with connection.begin():
        connection.execute(sa.text("DELETE FROM pos_orders WHERE tenant_id = 'acme'"))
    assert recompute(connection) == 4, "the ads with delivery stay"
    with connection.begin():
        connection.execute(
            sa.text("DELETE FROM meta_ad_insights WHERE tenant_id = 'acme' AND date = :day"), {"day": DAY}
        )
    assert recompute(connection) == 0
    left = rows(connection, "SELECT date FROM ad_performance WHERE tenant_id = 'acme' ORDER BY date")
    assert [row["date"] for row in left] == [BEFORE, AFTER]


@pytest.mark.parametrize(
    "which", [f"ad_id = '{BRIGHT}'", "shop_id = 's1' AND mapping = 'serum'", "shop_id = 's1' AND mapping IS NULL"]
)
def test_a_doubled_row_is_refused(connection: sa.Connection, which: str) -> None:
    recompute(connection)
    computed = {figure.name for figure in DERIVED}
    columns = ", ".join(["tenant_id", "date", *(name for name in NOTHING if name not in computed)])
    copy = f"INSERT INTO ad_performance ({columns}) SELECT {columns} FROM ad_performance WHERE {which}"
    with pytest.raises(sa.exc.IntegrityError, match=r"ad_performance_(ad|unmatched)_key"), connection.begin():
        connection.execute(sa.text(copy))
