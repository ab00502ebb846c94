"""Twenty orders of all statuses worked by hand, and properties of the figures of any orders."""

import random
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync_pipeline.dated_values import Dated
from sync_pipeline.rates import DatedRates, Rates
from sync_pipeline.rows.statuses import ALL_GROUPS, COUNTED, OPEN, SETTLED, STATUS_GROUPS
from sync_pipeline.warehouse import performance
from sync_pipeline.warehouse.figures import ALL, STORED, comment
from sync_pipeline.warehouse.recomputation import outdated_performance_days
from sync_pipeline_tests.warehouse.test_performance import add_insight, add_order, figures, rows

DAY, LATER = date(2026, 10, 5), date(2026, 10, 12)
AD = "11111111"
RATES = Rates(
    per_order=Decimal("75.50"),
    cod_percent=Decimal("2.5"),
    return_fee=Decimal("30.00"),
    lost_share=Decimal("0.1"),
    ad_tax_percent=Decimal(13),
)
DOCS = Path(__file__).parents[2] / "docs" / "figures.md"

# Status, total, cod, COGS. Order of 16 was paid in advance.
TWENTY: list[tuple[int, str, str, str]] = [
    (0, "100.00", "100.00", "10.00"),
    (17, "200.00", "190.00", "20.00"),
    (11, "300.00", "300.00", "30.00"),
    (1, "400.00", "400.00", "40.00"),
    (20, "500.00", "500.00", "50.00"),
    (8, "110.00", "110.00", "11.00"),
    (9, "120.00", "120.00", "12.00"),
    (12, "130.00", "130.00", "13.00"),
    (13, "140.00", "140.00", "14.00"),
    (2, "1000.00", "900.00", "100.00"),
    (3, "2000.00", "1990.00", "400.00"),
    (16, "600.00", "0.00", "150.00"),
    (15, "800.00", "500.00", "200.00"),
    (4, "700.00", "700.00", "70.00"),
    (5, "900.00", "900.00", "300.00"),
    (6, "250.00", "250.00", "25.00"),
    (-1, "50.00", "50.00", "5.00"),
    (7, "77.00", "77.00", "7.00"),
    (-2, "33.00", "33.00", "3.00"),
    (99, "60.00", "60.00", "6.00"),
]
EXPECTED = {
    # 1000 spent in the tenant's currency, and 13 % of it in taxes.
    **figures(spend="1000.00", ad_cost="1000.00", ad_taxes="130.00"),
    **figures(impressions=500, clicks=40, link_clicks=30, leads=20),
    # All but 7 and -2.
    **figures(orders=18, quantity=18, uncosted_quantity=0, revenue="8360.00", cod="7340.00", cogs="1456.00"),
    **figures(unconfirmed_orders=2, unconfirmed_amount="300.00", unconfirmed_cod="290.00", unconfirmed_cogs="30.00"),
    **figures(restocking_orders=1, restocking_amount="300.00", restocking_cod="300.00", restocking_cogs="30.00"),
    **figures(confirmed_orders=2, confirmed_amount="900.00", confirmed_cod="900.00", confirmed_cogs="90.00"),
    **figures(waiting_pickup_orders=4, waiting_pickup_amount="500.00"),
    **figures(waiting_pickup_cod="500.00", waiting_pickup_cogs="50.00"),
    **figures(shipped_orders=1, shipped_amount="1000.00", shipped_cod="900.00", shipped_cogs="100.00"),
    **figures(delivered_orders=2, delivered_amount="2600.00", delivered_cod="1990.00", delivered_cogs="550.00"),
    **figures(partly_returned_orders=1, partly_returned_amount="800.00"),
    **figures(partly_returned_cod="500.00", partly_returned_cogs="200.00"),
    **figures(returning_orders=1, returning_amount="700.00", returning_cod="700.00", returning_cogs="70.00"),
    **figures(returned_orders=1, returned_amount="900.00", returned_cod="900.00", returned_cogs="300.00"),
    **figures(cancelled_orders=2, cancelled_amount="300.00", cancelled_cod="300.00", cancelled_cogs="30.00"),
    **figures(excluded_orders=2, excluded_amount="110.00", excluded_cod="110.00", excluded_cogs="10.00"),
    **figures(other_orders=1, other_amount="60.00", other_cod="60.00", other_cogs="6.00"),
    # 3, 16, 15 and 5 were sent and are settled: 4 x 75.50. 2.5 % of 1990 + 500 = 62.25. One return; 10 % of 300 lost.
    **figures(realised_outbound_fees="302.00", realised_cod_fees="62.25", return_fees="30.00", lost_goods="30.00"),
    # Twelve open orders of 3760, COGS 376, COD 3650, fees of it 91.25; three of four are expected to be delivered:
    # 0.75 x (3760 - 376 - 91.25) - 0.25 x (12 x 30 + 0.1 x 376) - 12 x 75.50 = 2469.5625 - 99.40 - 906.
    **figures(open_margin="1464.16"),
    # Sixteen orders of 8060, COGS 1426, COD 7040, fees of it 176:
    # 0.8 x (8060 - 1426 - 176) - 0.2 x (16 x 30 + 0.1 x 1426) - 16 x 75.50 = 5166.40 - 124.52 - 1208.
    **figures(orders_margin_at_return_rate="3833.88"),
    # 2600 + 800 - 550 - 200 - 302 - 62.25 - 30 - 30 - 1000 - 130; then 1464.16 more; and 3833.88 - 1130.
    **figures(realised_margin="1095.75", projected_margin="2559.91", margin_at_return_rate="2703.88"),
    # 8360 / 1000; 3400 / 1130; 3400 / 2225.75, the margin before ads; 1000 / 18; 1130 / 3.
    **figures(roas="8.3600", delivered_roas="3.0088", break_even_roas="1.5276"),
    **figures(cost_per_order="55.56", cost_per_delivered_order="376.67"),
    # Six are settled: 3, 16, 15, 5, 6, -1. Six were sent: 2, 3, 16, 15, 4, 5.
    **figures(delivery_rate="0.5000", return_rate="0.1667", settled_share="0.3333"),
    **figures(delivery_rate_of_sent="0.3333", return_rate_of_sent="0.5000"),
    # 4 and 5 of 3, 16, 15, 4 and 5; 6 and -1 of eighteen.
    **figures(rts_rate="0.4000", cancellation_rate="0.1111"),
    # As before: without 15, 4, 5, 6 and -1, but with the fees of all that are not cancelled.
    **figures(order_fees="1208.00", cod_fees="49.75", collected="1990.00", net_cogs="856.00", net_revenue="5660.00"),
    **figures(contribution_margin="2546.25"),
}


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        with connection.begin():
            connection.execute(sa.text("INSERT INTO tenants VALUES ('acme', 'A', 'UTC')"))
        yield connection


def add_orders(connection: sa.Connection, day: date, shop: str, statuses: Sequence[int | None]) -> None:
    with connection.begin():
        for number, status in enumerate(statuses):
            name = f"{day}-{number}"
            add_order(connection, "acme", (shop, name, None, None, status, "100.00", "90.00", "20.00", 1, 0, None), day)


def add_ad(connection: sa.Connection, day: date, spend: str, ad: str = AD, associate: str | None = "ALY") -> None:
    name = (f"Ad {ad}", associate)
    with connection.begin():
        add_insight(connection, "acme", ("111", ad, day, f"C{ad[0]}", "serum", *name, spend, 500, 40, 30, 20))


def delivery_rates(connection: sa.Connection) -> dict[str, tuple[Any, ...]]:
    found = rows(connection, "SELECT * FROM delivery_rates ORDER BY shop_id, as_of DESC")
    return {
        row["shop_id"]: (
            row["as_of"], row["delivery_rate"], row["source"], row["settled_days"], row["settled_orders"],
            row["delivered_orders"],
        )
        for row in reversed(found)
    }  # fmt: skip


def test_twenty_orders_give_the_figures_worked_by_hand(connection: sa.Connection) -> None:
    add_ad(connection, DAY, "1000.00")
    with connection.begin():
        for number, (status, *amounts) in enumerate(TWENTY):
            add_order(connection, "acme", ("s1", str(number), AD, None, status, *amounts, 1, 0, None), DAY)
        connection.execute(
            sa.text("INSERT INTO delivery_rates VALUES ('acme', 's1', :day, 0.75, 'shop', 60, 400, 300)"), {"day": DAY}
        )
    assert performance.recompute(connection, "acme", DAY, DAY, RATES) == 1
    [row] = rows(connection, "SELECT * FROM ad_performance")
    assert {figure.name: row[figure.name] for figure in ALL} == EXPECTED
    assert (row["projection_date"], row["rules"]) == (DAY, RATES.fingerprint)
    assert EXPECTED.keys() == {figure.name for figure in ALL}


def test_cash_of_two_delivered_orders_of_an_ad_is_added_up(connection: sa.Connection) -> None:
    add_ad(connection, DAY, "100.00")
    with connection.begin():
        for number, (status, cod) in enumerate([(3, "100.10"), (3, "250.25"), (16, "1.00"), (2, "7000.00")]):
            values = ("s1", str(number), AD, None, status, "300.00", cod, "10.00", 1, 0, None)
            add_order(connection, "acme", values, DAY)
    performance.recompute(connection, "acme", DAY, DAY, RATES)
    [row] = rows(connection, "SELECT collected, delivered_cod, cod_fees, realised_cod_fees FROM ad_performance")
    # 2.5 % of 351.35 is 8.78375.
    assert row == figures(collected="351.35", delivered_cod="351.35", cod_fees="8.78", realised_cod_fees="8.78")


def test_a_day_is_stored_with_its_settings(connection: sa.Connection) -> None:
    performance.recompute(connection, "acme", DAY, DAY, RATES)
    [settings] = rows(connection, "SELECT * FROM figure_settings")
    assert settings == {
        "tenant_id": "acme",
        "date": DAY,
        **figures(outbound_fee="75.50", return_fee="30.00", cod_percent="2.5000", lost_share="0.1000"),
        **figures(ad_tax_percent="13.0000", return_rate="0.2000"),
    }


KEYS = {"associate": "marketing_associate", "campaign": "campaign_id", "mapping": "mapping"}
SUMS = ", ".join(f"sum({figure.name}) AS {figure.name}" for figure in STORED)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sums_over_every_view_equal_the_total(connection: sa.Connection, seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311
    add_random_orders(connection, generator, [*(n for numbers in STATUS_GROUPS.values() for n in numbers), 99, None])
    [total] = rows(connection, f"SELECT {SUMS} FROM ad_performance")
    for view in KEYS:
        [of_view] = rows(connection, f"SELECT {SUMS} FROM ad_performance_by_{view}")
        assert of_view == total
    [stored] = rows(connection, "SELECT count(*) AS orders, sum(total) AS amount FROM pos_orders")
    assert total["orders"] + total["excluded_orders"] == stored["orders"] == 150
    assert total["revenue"] + total["excluded_amount"] == stored["amount"]
    for what, whole in (("orders", "orders"), ("amount", "revenue"), ("cod", "cod"), ("cogs", "cogs")):
        assert sum(total[f"{group}_{what}"] for group in COUNTED) == total[whole]
    [attributed] = rows(connection, "SELECT count(*) AS orders FROM order_attribution")
    assert attributed == {"orders": 150}


@pytest.mark.parametrize("seed", [4, 5])
def test_settled_orders_are_projected_as_they_were_realised(connection: sa.Connection, seed: int) -> None:
    settled = [number for group in SETTLED for number in STATUS_GROUPS[group]]
    add_random_orders(connection, random.Random(seed), settled)  # noqa: S311
    for relation in ("ad_performance", *(f"ad_performance_by_{view}" for view in KEYS)):
        found = rows(connection, f"SELECT realised_margin, projected_margin, settled_share FROM {relation}")
        assert all(row["realised_margin"] == row["projected_margin"] for row in found)
        assert {row["settled_share"] for row in found} <= {None, 1}
    [changed] = rows(connection, "SELECT count(*) AS days FROM ad_performance WHERE realised_margin <> 0")
    assert changed["days"] > 5


def add_random_orders(connection: sa.Connection, generator: random.Random, statuses: Sequence[int | None]) -> None:
    """Store 150 orders of two shops on three days, of four ads and of none, and compute their performance."""
    days = [DAY + timedelta(days=n) for n in range(3)]
    for day in days:
        for ad in range(1, 5):
            add_ad(connection, day, f"{generator.randint(1, 90_000) / 100:.2f}", f"{ad}" * 8, f"A{ad % 2}")
    with connection.begin():
        for number in range(150):
            shop, ad = generator.choice(["s1", "s2"]), generator.choice([*(f"{ad}" * 8 for ad in range(1, 5)), None])
            money = [f"{generator.randint(0, 500_000) / 100:.2f}" for _ in range(3)]
            row = (shop, str(number), ad, None, generator.choice(statuses), *money, 1, 0, None)
            add_order(connection, "acme", row, generator.choice(days))
    performance.save_delivery_rates(connection, "acme", LATER, RATES)
    performance.recompute(connection, "acme", days[0], days[-1], RATES)


def test_the_delivery_rate_is_of_the_last_sixty_settled_days(connection: sa.Connection) -> None:
    # Three of four were delivered on each of sixty days. Neither the day before counts, nor one that is 75 % settled.
    for number in range(60):
        add_orders(connection, DAY - timedelta(days=number), "s1", [3, 15, 16, 5, -2])
    add_orders(connection, DAY - timedelta(days=60), "s1", [5, 5, 5, 5])
    add_orders(connection, DAY + timedelta(days=1), "s1", [5, 6, 6, 2])
    assert performance.save_delivery_rates(connection, "acme", LATER, RATES) == 1
    assert delivery_rates(connection) == {"s1": (LATER, Decimal("0.7500"), "shop", 60, 240, 180)}


def test_a_day_counts_as_settled_from_eighty_percent(connection: sa.Connection) -> None:
    add_orders(connection, DAY, "s1", [3, 3, 3, 6, 1])
    performance.save_delivery_rates(connection, "acme", LATER, RATES)
    assert delivery_rates(connection) == {"s1": (LATER, Decimal("0.7500"), "shop", 1, 4, 3)}


def test_a_new_shop_has_the_delivery_rate_of_the_tenant(connection: sa.Connection) -> None:
    add_orders(connection, DAY, "s1", [3, 3, 5])
    add_orders(connection, LATER, "s2", [1, 2])
    performance.save_delivery_rates(connection, "acme", LATER, RATES)
    assert delivery_rates(connection) == {
        "s1": (LATER, Decimal("0.6667"), "shop", 1, 3, 2),
        "s2": (LATER, Decimal("0.6667"), "tenant", 1, 3, 2),
    }


def test_a_new_shop_has_the_rate_of_shops_without_common_days(connection: sa.Connection) -> None:
    # Ten open orders of s2 keep the day of all shops together from being settled.
    add_orders(connection, DAY, "s1", [3, 3, 3, 5])
    add_orders(connection, DAY, "s2", [2] * 10)
    add_orders(connection, DAY - timedelta(days=1), "s3", [3, 3, 3, 3])
    add_orders(connection, DAY - timedelta(days=1), "s2", [2] * 10)
    performance.save_delivery_rates(connection, "acme", LATER, RATES)
    assert delivery_rates(connection) == {
        "s1": (LATER, Decimal("0.7500"), "shop", 1, 4, 3),
        "s2": (LATER, Decimal("0.8750"), "tenant", 2, 8, 7),
        "s3": (LATER, Decimal("1.0000"), "shop", 1, 4, 4),
    }


def test_days_of_a_disabled_shop_give_no_delivery_rate(connection: sa.Connection) -> None:
    add_orders(connection, DAY, "s1", [3])
    add_orders(connection, DAY, "s2", [5])
    with connection.begin():
        connection.execute(
            sa.text(
                "INSERT INTO pos_shops (tenant_id, shop_id, enabled, disabled_from) VALUES ('acme', 's2', false, :day)"
            ),
            {"day": DAY},
        )
    performance.save_delivery_rates(connection, "acme", LATER, RATES)
    assert delivery_rates(connection) == {"s1": (LATER, Decimal("1.0000"), "shop", 1, 1, 1)}


def test_without_settled_days_the_return_rate_is_assumed(connection: sa.Connection) -> None:
    add_orders(connection, DAY, "s1", [1, 2])
    performance.save_delivery_rates(connection, "acme", LATER, Rates(return_rate=Decimal("0.35")))
    assert delivery_rates(connection) == {"s1": (LATER, Decimal("0.6500"), "return_rate", 0, 0, 0)}


def test_delivery_rates_are_kept_with_their_days(connection: sa.Connection) -> None:
    add_orders(connection, DAY, "s1", [3, 5])
    performance.save_delivery_rates(connection, "acme", DAY, RATES)
    add_orders(connection, LATER, "s1", [3, 3, 3])
    performance.save_delivery_rates(connection, "acme", LATER, RATES)
    found = rows(connection, "SELECT as_of, delivery_rate FROM delivery_rates ORDER BY as_of")
    assert [tuple(row.values()) for row in found] == [(DAY, Decimal("0.5000")), (LATER, Decimal("0.8000"))]


def test_the_rate_of_a_day_stays_when_orders_change(connection: sa.Connection) -> None:
    add_orders(connection, DAY, "s1", [3, 5])
    add_orders(connection, LATER, "s1", [1])
    assert performance.save_delivery_rates(connection, "acme", LATER, Rates()) == 1
    performance.recompute(connection, "acme", DAY, LATER, Rates())
    with connection.begin():
        connection.execute(sa.text("UPDATE pos_orders SET status = 3 WHERE status = 5"))
    assert performance.save_delivery_rates(connection, "acme", LATER, Rates()) == 0
    assert delivery_rates(connection)["s1"][:3] == (LATER, Decimal("0.5000"), "shop")
    assert outdated_performance_days(connection, "acme", Rates()) == []


def test_a_rate_of_more_settled_days_replaces_the_stored_one(connection: sa.Connection) -> None:
    # The first run of a new tenant sees one cancelled order of its day; a backfill on that day brings the others.
    add_orders(connection, LATER, "s1", [6])
    performance.save_delivery_rates(connection, "acme", LATER, Rates())
    add_orders(connection, LATER + timedelta(days=1), "s1", [1])
    performance.recompute(connection, "acme", DAY, LATER + timedelta(days=1), Rates())
    assert delivery_rates(connection)["s1"] == (LATER, Decimal("0.0000"), "shop", 1, 1, 0)
    add_orders(connection, DAY, "s1", [3, 3, 3])
    assert performance.save_delivery_rates(connection, "acme", LATER, Rates()) == 1
    assert delivery_rates(connection)["s1"] == (LATER, Decimal("0.7500"), "shop", 2, 4, 3)
    assert outdated_performance_days(connection, "acme", Rates()) == [LATER, LATER + timedelta(days=1)]
    assert performance.save_delivery_rates(connection, "acme", LATER, Rates()) == 0


def test_a_better_rate_than_assumed_makes_figures_outdated(connection: sa.Connection) -> None:
    add_orders(connection, LATER, "s1", [1])
    performance.save_delivery_rates(connection, "acme", LATER, Rates())
    performance.recompute(connection, "acme", DAY, LATER, Rates())
    assert performance.save_delivery_rates(connection, "acme", LATER, Rates()) == 0
    assert outdated_performance_days(connection, "acme", Rates()) == []
    add_orders(connection, DAY, "s1", [3, 5])
    assert performance.save_delivery_rates(connection, "acme", LATER, Rates()) == 1
    assert delivery_rates(connection)["s1"][:3] == (LATER, Decimal("0.5000"), "shop")
    assert outdated_performance_days(connection, "acme", Rates()) == [LATER]


def test_open_orders_are_projected_with_the_rate_of_their_shop(connection: sa.Connection) -> None:
    # Both of one ad: 0.5 x 80 and 1 x 80.
    add_orders(connection, DAY, "s1", [3, 5])
    add_orders(connection, DAY, "s2", [3])
    add_ad(connection, LATER, "1.00")
    with connection.begin():
        for shop in ("s1", "s2"):
            add_order(connection, "acme", (shop, "1", AD, None, 1, "100.00", "0", "20.00", 1, 0, None), LATER)
    performance.save_delivery_rates(connection, "acme", LATER, Rates())
    performance.recompute(connection, "acme", LATER, LATER, Rates())
    [row] = rows(connection, "SELECT open_margin, projection_date FROM ad_performance")
    assert row == {"open_margin": Decimal("120.00"), "projection_date": LATER}


def dated(*values: tuple[str, date | None, date | None]) -> tuple[Dated[Decimal], ...]:
    return tuple(Dated(value=Decimal(value), start_date=start, end_date=end) for value, start, end in values)


def rates_from(change: date) -> DatedRates:
    """Rates of which each changes on a day; the second multiplier has a gap before it."""
    before = change - timedelta(days=1)
    return DatedRates(
        outbound_fees=(dated(("10", None, before), ("20", change, None)), Decimal(5)),
        return_fee=dated(("3", None, None), ("4", change, None)),
        cod_percent=dated(("1", None, before), ("2", change, None)),
        ad_taxes=(Decimal(10), dated(("2", change, None))),
        spend_multipliers={"111": dated(("50", None, before), ("60", change, None))},
        lost_share=Decimal(0),
        return_rate=Decimal("0.20"),
    )


def test_each_day_is_computed_with_its_own_rates(connection: sa.Connection) -> None:
    change = DAY + timedelta(days=1)
    for day in (DAY, change):
        add_ad(connection, day, "1.00")
        add_orders(connection, day, "s1", [3, 5])
    performance.recompute(connection, "acme", DAY, change, rates_from(change))
    names = "realised_outbound_fees, realised_cod_fees, return_fees, ad_cost, ad_taxes"
    sums = ", ".join(f"sum({name}) AS {name}" for name in names.split(", "))
    found = rows(connection, f"SELECT date, {sums} FROM ad_performance GROUP BY date ORDER BY date")
    assert [tuple(map(float, list(row.values())[1:])) for row in found] == [
        (30.00, 0.90, 3.00, 50.00, 5.00),
        (50.00, 1.80, 4.00, 60.00, 7.20),
    ]


def test_a_changed_rate_makes_only_its_days_outdated(connection: sa.Connection) -> None:
    days = [DAY + timedelta(days=n) for n in range(4)]
    for day in days:
        add_ad(connection, day, "1.00")
    performance.recompute(connection, "acme", days[0], days[-1], rates_from(days[2]))
    assert outdated_performance_days(connection, "acme", rates_from(days[2])) == []
    assert outdated_performance_days(connection, "acme", rates_from(days[1])) == [days[1]]
    assert outdated_performance_days(connection, "acme", rates_from(days[0])) == days[:2]


@pytest.mark.parametrize(
    "change",
    [
        {"per_order": Decimal(1)},
        {"cod_percent": Decimal(1)},
        {"return_fee": Decimal(1)},
        {"lost_share": Decimal(1)},
        {"ad_tax_percent": Decimal(1)},
        {"return_rate": Decimal(1)},
        {"spend_multipliers": {"1": Decimal(1)}},
    ],
)
def test_every_rate_is_part_of_the_fingerprint(change: dict[str, Any]) -> None:
    assert Rates(**change).fingerprint != Rates().fingerprint


def test_another_way_to_write_a_rate_is_no_change() -> None:
    one = Rates(per_order=Decimal("7.50"), spend_multipliers={"1": Decimal(2), "2": Decimal(3)})
    other = Rates(per_order=Decimal("7.5"), spend_multipliers={"2": Decimal("3.0"), "1": Decimal("2.00")})
    assert one.fingerprint == other.fingerprint


def test_groups_of_the_formulas_cover_all_orders() -> None:
    groups = {figure.name: figure.groups for figure in STORED}
    assert set(groups["orders"]) == set(ALL_GROUPS) - {"excluded"}
    assert set(groups["open_margin"]) == set(OPEN) == set(groups["orders"]) - set(SETTLED)


def test_the_documentation_lists_every_figure() -> None:
    _, _, section = DOCS.read_text(encoding="utf-8").partition("## Columns of ad_performance")
    table = [line for line in section.splitlines() if line.startswith("| `")]
    assert table == [f"| `{figure.name}` | {figure.unit} | {figure.formula} | {figure.note} |" for figure in ALL]


def test_the_documentation_lists_every_status() -> None:
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    for group, numbers in STATUS_GROUPS.items():
        settled, is_open = ("yes" if group in groups else "" for groups in (SETTLED, OPEN))
        assert f"| {group} | {', '.join(map(str, numbers))} | {settled} | {is_open} |" in lines


def test_comments_state_formula_and_meaning(connection: sa.Connection) -> None:
    found = rows(
        connection,
        "SELECT attname AS name, col_description(attrelid, attnum) AS said FROM pg_attribute "
        "WHERE attrelid = 'ad_performance'::regclass AND attnum > 0",
    )
    said = {row["name"]: row["said"] for row in found}
    assert {figure.name: said[figure.name] for figure in ALL} == {figure.name: comment(figure) for figure in ALL}
    assert said["contribution_margin"].count("deprecated") == 1
