"""Figures of a range of days, worked out by hand from the insights and orders that `ad_performance` is made of.

The tenant pays 10 for each order that is not cancelled, and 2 % of the cash collected for delivered ones. Account 222
spends another currency: 50 of the tenant's for one of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync_pipeline.date_ranges import DayRange
from sync_pipeline.rates import Rates
from sync_pipeline.warehouse import performance
from sync_pipeline.warehouse.reports import MOST_ADS, Figures, Line, Report, StatusGroup, report
from sync_pipeline_tests.warehouse.test_performance import add_insight, add_order

FIRST, SECOND, THIRD = date(2026, 10, 5), date(2026, 10, 6), date(2026, 10, 7)
DAYS = DayRange(FIRST, THIRD)
RATES = Rates(per_order=Decimal(10), cod_percent=Decimal("2.00"), spend_multipliers={"222": Decimal(50)})
SERUM, TONER, SOAP = "11111111", "22222222", "33333333"


def insight(
    ad: str, day: date, account: str, campaign: str, mapping: str, name: str, who: str | None, spend: str
) -> tuple[Any, ...]:
    return (account, ad, day, campaign, mapping, name, who, spend, 100, 5, 3, 1)


INSIGHTS = [
    insight(SERUM, FIRST, "111", "C1", "serum", "Old name", "ALY", "100.00"),
    insight(SERUM, THIRD, "111", "C1", "serum", "New name", "ALY", "300.00"),
    insight(TONER, THIRD, "222", "C2", "toner", "Toner ad", "BEA", "2.00"),
    insight(SOAP, FIRST, "111", "C1", "serum", "Soap ad", None, "30.00"),
]
# Shop, number, ad in p_utm_content, Pancake's ad; status, total, cod; cogs, quantity, uncosted quantity, mapping.
ORDERS: list[tuple[date, tuple[Any, ...]]] = [
    (FIRST, ("s1", "1", SERUM, None, 3, "900.00", "900.00", "200.00", 1, 0, "serum")),
    (FIRST, ("s1", "2", SERUM, None, 5, "500.00", "500.00", "120.00", 1, 0, "serum")),
    (THIRD, ("s1", "3", SERUM, None, 3, "600.00", "0.00", "150.00", 1, 0, "serum")),
    (THIRD, ("s1", "4", SERUM, None, 2, "400.00", "400.00", "80.00", 1, 0, "serum")),
    (THIRD, ("s1", "5", TONER, None, 6, "250.00", "250.00", "60.00", 1, 0, "toner")),
    (THIRD, ("s1", "6", None, None, 1, "350.00", "350.00", "0.00", 2, 2, "serum")),
]


def line(
    *sums: str | int,
    ratios: tuple[str | None, ...],
    margins: tuple[str, str, str],
    delivered: tuple[str | None, ...],
) -> Figures:
    """Spend to contribution margin; ROAS, cost, rates; margins; delivered and break-even ROAS, cost, settled share."""
    names = ("spend", "ad_cost", "orders", "revenue", "cogs", "fees", "contribution_margin")
    names += ("roas", "cost_per_order", "delivery_rate", "return_rate")
    names += ("realised_margin", "projected_margin", "margin_at_return_rate")
    names += ("delivered_roas", "break_even_roas", "cost_per_delivered_order", "settled_share")
    values = [Decimal(one) if isinstance(one, str) else one for one in (*sums, *ratios, *margins, *delivered)]
    return Figures(uncosted_quantity=Decimal(0), **dict(zip(names, values, strict=True)))  # type: ignore[arg-type]


# Orders 1 to 4. Fees 4 x 10 and 2 % of the 900 collected; contribution margin 1900 - (200 + 150 + 80) - 58 - 400,
# without the order returned. Of three settled, two were delivered. ROAS 2400 / 400, where the days' are 14 and 3.33.
# Realised is 1500 - 350 - 3 x 10 - 18 - 400, and 0.8 x (400 - 80 - 8) - 10 more is expected of order 4.
# At 20 % returns 0.8 x (2400 - 550 - 36) - 40 - 400. Break-even at 1500 / 1102.
ALY = line(
    *("400.00", "400.00", 4, "2400.00", "550.00", "58.00", "1012.00"),
    ratios=("6.0000", "100.00", "0.6667", "0.3333"),
    margins=("702.00", "941.60", "1011.20"),
    delivered=("3.7500", "1.3612", "200.00", "0.7500"),
)
# Order 5, cancelled: no fees, no margin of it; 2 x 50 spent. Nothing was sent.
BEA = line(
    *("2.00", "100.00", 1, "250.00", "60.00", "0.00", "-100.00"),
    ratios=("2.5000", "100.00", "0.0000", "0.0000"),
    margins=("-100.00", "-100.00", "-100.00"),
    delivered=("0.0000", None, None, "1.0000"),
)
# The ad without associate, and order 6, which has no ad: 350 - 10 - 30. Two units have no cost. It is open:
# 0.8 x (350 - 7) - 10 - 30.
UNCOSTED = line(
    *("30.00", "30.00", 1, "350.00", "0.00", "10.00", "310.00"),
    ratios=("11.6667", "30.00", None, None),
    margins=("-30.00", "234.40", "234.40"),
    delivered=("0.0000", None, None, "0.0000"),
)


@pytest.fixture
def filled(engine: sa.Engine) -> sa.Engine:
    """A warehouse with the days, and with another tenant that has the same ads and an amount for each."""
    with engine.connect() as connection:
        with connection.begin():
            connection.execute(sa.text("INSERT INTO tenants VALUES ('acme', 'A', 'UTC'), ('other', 'O', 'UTC')"))
            for values in INSIGHTS:
                add_insight(connection, "acme", values)
                add_insight(connection, "other", (*values[:7], "7777.00", *values[8:]))
            for day, order in ORDERS:
                add_order(connection, "acme", order, day)
        for tenant in ("acme", "other"):
            performance.recompute(connection, tenant, FIRST, THIRD, RATES)
    return engine


def reported(engine: sa.Engine, since: date = FIRST, until: date = THIRD) -> Report:
    found = report(engine, "acme", DayRange(since, until), RATES)
    assert found is not None
    return found


def keys(lines: tuple[Line, ...]) -> list[str | None]:
    return [one.key for one in lines]


def costed(figures: Figures, quantity: int) -> Figures:
    values = {name: getattr(figures, name) for name in Figures.__slots__}
    return Figures(**{**values, "uncosted_quantity": Decimal(quantity)})


def test_the_associates_figures_are_those_on_paper_by_margin(filled: sa.Engine) -> None:
    assert reported(filled).associates == (
        Line("ALY", "ALY", ALY),
        Line(None, None, costed(UNCOSTED, 2)),
        Line("BEA", "BEA", BEA),
    )


def test_the_total_is_the_sum_and_its_ratios_are_of_the_sums(filled: sa.Engine) -> None:
    # Settled were 1, 2, 3 and 5. 3000 / 530 = 5.66037; 530 / 6 = 88.333; 1500 / 530; 1500 / 1102; 530 / 2.
    total = line(
        *("432.00", "530.00", 6, "3000.00", "610.00", "68.00", "1222.00"),
        ratios=("5.6604", "88.33", "0.5000", "0.2500"),
        margins=("572.00", "1076.00", "1145.60"),
        delivered=("2.8302", "1.3612", "265.00", "0.6667"),
    )
    assert reported(filled).total == costed(total, 2)


def test_every_day_has_its_figures_or_is_missing(filled: sa.Engine) -> None:
    found = reported(filled, FIRST, THIRD + timedelta(days=1))
    assert [(day, one.ad_cost, one.revenue, one.roas) for day, one in found.daily.items()] == [
        (FIRST, Decimal("130.00"), Decimal("1400.00"), Decimal("10.7692")),
        (THIRD, Decimal("400.00"), Decimal("1600.00"), Decimal("4.0000")),
    ]
    assert found.missing == (SECOND, THIRD + timedelta(days=1))


def test_only_the_days_asked_for_count(filled: sa.Engine) -> None:
    found = reported(filled, FIRST, SECOND)
    assert (found.total.orders, found.total.revenue, found.total.spend) == (2, Decimal("1400.00"), Decimal("130.00"))
    assert keys(found.associates) == ["ALY", None]


def test_ads_campaigns_and_mappings_are_summed_over_the_days_under_their_latest_name(filled: sa.Engine) -> None:
    found = reported(filled)
    # The best ad is that of ALY alone; orders without an ad are none.
    assert found.ads[0] == Line(SERUM, "New name", ALY)
    assert keys(found.ads) == [SERUM, SOAP, TONER]
    assert [(one.key, one.name, one.figures.contribution_margin) for one in found.campaigns] == [
        ("C1", "Campaign C1", Decimal("982.00")),
        (None, None, Decimal("340.00")),
        ("C2", "Campaign C2", Decimal("-100.00")),
    ]
    assert [(one.key, one.figures.revenue) for one in found.mappings] == [
        ("serum", Decimal("2750.00")),
        ("toner", Decimal("250.00")),
    ]


def test_orders_are_counted_per_status_group(filled: sa.Engine) -> None:
    found = reported(filled)
    assert [status for status in found.statuses if status.orders] == [
        StatusGroup("confirmed", 1, Decimal("350.00"), Decimal("350.00")),
        StatusGroup("shipped", 1, Decimal("400.00"), Decimal("400.00")),
        StatusGroup("delivered", 2, Decimal("1500.00"), Decimal("900.00")),
        StatusGroup("returned", 1, Decimal("500.00"), Decimal("500.00")),
        StatusGroup("cancelled", 1, Decimal("250.00"), Decimal("250.00")),
    ]
    assert sum(status.orders for status in found.statuses) == found.total.orders


def test_only_the_best_ads_are_listed(filled: sa.Engine) -> None:
    with filled.connect() as connection:
        with connection.begin():
            for number in range(MOST_ADS):
                ad = f"{90_000_000 + number}"
                add_insight(connection, "acme", insight(ad, SECOND, "111", "C3", "soap", ad, "DEX", f"{number + 1}.00"))
        performance.recompute(connection, "acme", SECOND, SECOND, RATES)
    ads = keys(reported(filled).ads)
    # Those of DEX lose what they cost, 1 to 20; SOAP lost 30 and TONER 100.
    assert ads == [SERUM, *(f"{90_000_000 + number}" for number in range(MOST_ADS - 1))]


def test_days_without_rows_have_no_report(filled: sa.Engine) -> None:
    assert report(filled, "acme", DayRange(SECOND, SECOND), RATES) is None
    assert report(filled, "nobody", DAYS, RATES) is None


def test_days_with_too_few_settled_orders_are_named(filled: sa.Engine) -> None:
    # Both orders of the first day are settled, and two of four of the third.
    assert reported(filled).unsettled == (THIRD,)
    with filled.begin() as connection:
        add_insight(connection, "acme", insight(SOAP, SECOND, "111", "C1", "serum", "Soap ad", None, "1.00"))
    with filled.connect() as connection:
        performance.recompute(connection, "acme", SECOND, SECOND, RATES)
    assert reported(filled).unsettled == (THIRD,), "a day without orders has nothing to settle"


def test_days_of_other_settings_are_named(filled: sa.Engine) -> None:
    assert reported(filled).outdated == ()
    other = report(filled, "acme", DAYS, replace(RATES, return_fee=Decimal(1)))
    assert other is not None
    assert other.outdated == (FIRST, THIRD)


def log(
    engine: sa.Engine, source: str, day: date, *, fetched: str, complete: bool = True, missing: Sequence[str] = ()
) -> None:
    """A line of a day that is over at midnight in UTC."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, "
                "requests, complete, missing, started, finished, fetched_at, over_at) VALUES ('acme', :source, :day, "
                "'run', 1, 1, 0, 0, 0, 1, :complete, :missing, :fetched, :fetched, :fetched, "
                "(CAST(:day AS date) + interval '1 day') AT TIME ZONE 'UTC')"
            ),
            {"source": source, "day": day, "fetched": fetched, "complete": complete, "missing": list(missing)},
        )


def test_days_of_which_a_source_is_not_complete_are_named(filled: sa.Engine) -> None:
    def incomplete() -> list[tuple[date, str, str]]:
        return [(one.day, one.source, one.why("UTC")) for one in reported(filled).incomplete_days]

    assert incomplete() == [], "nothing is known of a source that was never synced"
    log(filled, "meta", FIRST, fetched="2026-10-06T00:00Z")
    log(filled, "meta", THIRD, fetched="2026-10-07T23:59:59Z")
    log(filled, "pos", FIRST, fetched="2026-10-06T00:00Z", complete=False)
    too_early = (THIRD, "meta", "meta was fetched before the day was over, at 2026-10-08 00:00")
    not_all = (FIRST, "pos", "not all of pos could be read")
    assert incomplete() == [not_all, too_early, (THIRD, "pos", "pos was not synced")]
    log(filled, "pos", FIRST, fetched="2026-10-08T00:00Z")
    log(filled, "pos", THIRD, fetched="2026-10-08T00:00Z")
    assert incomplete() == [too_early]
    log(filled, "meta", THIRD, fetched="2026-10-09T00:00Z", complete=False, missing=["111", "112"])
    assert incomplete() == [(THIRD, "meta", "meta lacks 111, 112")]


def test_a_margin_that_a_day_lacks_is_unknown_in_the_sum(filled: sa.Engine) -> None:
    with filled.begin() as connection:
        connection.execute(
            sa.text("UPDATE ad_performance SET open_margin = NULL, rules = NULL WHERE date = :day"), {"day": FIRST}
        )
    found = reported(filled)
    assert (found.total.projected_margin, found.daily[FIRST].projected_margin) == (None, None)
    # 600 - 150 - 10 + 239.60 - 300 of ALY, -100 of BEA and 264.40 without ad.
    assert found.daily[THIRD].projected_margin == Decimal("544.00")
    assert found.total.realised_margin == Decimal("572.00")
    assert found.outdated == (FIRST,)
