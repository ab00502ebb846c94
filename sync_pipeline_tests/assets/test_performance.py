"""Performance per ad through Dagster: in the same run as the sync and after it, with figures of each day."""

from datetime import date, timedelta
from decimal import Decimal

import dagster as dg

from sync_pipeline_tests.assets.conftest import DAYS, SYNC_JOB, Synced
from sync_pipeline_tests.pipeline import Pipeline

AD_PERFORMANCE = "lumina/ad_performance"
SOURCES = """
    SELECT (SELECT sum(spend) FROM meta_ad_insights), count(*), sum(total), sum(cogs), sum(total_quantity),
        count(DISTINCT date_local) FROM pos_orders
"""
PERFORMANCE = """
    SELECT sum(spend), sum(orders), sum(revenue), sum(cogs), sum(quantity), count(DISTINCT date) FROM ad_performance
"""
BY_DAY = """
    SELECT date, count(*), sum(spend), sum(orders), sum(revenue), round(sum(revenue) / sum(ad_cost), 4)
    FROM ad_performance GROUP BY date ORDER BY date
"""


def test_totals_of_sixty_days_are_exactly_those_of_the_sources(pipeline: Pipeline) -> None:
    first = date(2026, 8, 10)
    assert pipeline.run(SYNC_JOB, first, first + timedelta(days=59)).success
    [sources] = pipeline.query(SOURCES)
    assert sources[-1] == 60
    assert all(amount > 0 for amount in sources)
    assert pipeline.query(PERFORMANCE) == [sources]


def test_each_day_shows_its_figures_and_its_best(synced: Synced, sync_run: dg.ExecuteInProcessResult) -> None:
    shown = synced.materialized(AD_PERFORMANCE, sync_run.run_id)
    assert list(shown) == [day.isoformat() for day in DAYS]
    for day, rows, spend, orders, revenue, roas in synced.query(BY_DAY):
        figures = shown[day.isoformat()]
        names = ("dagster/partition_row_count", "spend", "orders", "revenue", "roas")
        assert [figures[name] for name in names] == [rows, float(spend), orders, float(revenue), float(roas)]

        best = "ad_cost, orders, revenue, roas FROM ad_performance_by_associate"
        [(name, cost, orders, revenue, roas)] = synced.query(
            f"SELECT marketing_associate, {best} WHERE date = '{day}' AND marketing_associate IS NOT NULL "
            "ORDER BY revenue DESC LIMIT 1"
        )
        first = figures["best_associates"].splitlines()[2]
        assert first.startswith(f"| {name} | {cost:,.2f} | {orders} | {revenue:,.2f} | {roas:.2f} |")
        assert len(figures["best_ads"].splitlines()) > 3


def test_it_is_computed_after_both_sources_in_the_same_run(sync_run: dg.ExecuteInProcessResult) -> None:
    order = [event.step_key for event in sync_run.all_events if event.is_step_success]
    assert order.index("lumina__sync") < order.index("lumina__ad_performance") < order.index("lumina__checks")


def test_a_tenant_file_with_other_fees_takes_effect_with_the_next_materialization(synced: Synced) -> None:
    query = "SELECT sum(order_fees), sum(orders - cancelled_orders), sum(cod_fees), sum(collected) FROM ad_performance"
    [(fees, charged, cod_fees, collected)] = synced.query(query)
    assert fees == Decimal("75.50") * charged
    assert cod_fees > 0
    file = synced.tenants / "lumina.yaml"
    before = "fees: {shipping: 55, fulfilment: 12, packaging: 8.50, cod_percent: 2.5}"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, "fees: {shipping: 10.01}"))
    synced.reload()
    assert synced.run(SYNC_JOB, DAYS.since, DAYS.until, assets=[AD_PERFORMANCE]).success
    assert synced.query(query) == [(Decimal("10.01") * charged, charged, 0, collected)]
    assert synced.sandbox.requests.count() == 0


def test_a_day_without_anything_is_materialized_with_no_rows(synced: Synced) -> None:
    synced.execute("DELETE FROM meta_ad_insights WHERE date = '2026-10-06'")
    synced.execute("DELETE FROM pos_orders WHERE date_local = '2026-10-06'")
    day = date(2026, 10, 6)
    result = synced.run(SYNC_JOB, day, day, assets=[AD_PERFORMANCE])
    assert result.success
    assert synced.materialized(AD_PERFORMANCE, result.run_id) == {"2026-10-06": {"dagster/partition_row_count": 0}}
    assert synced.query("SELECT count(DISTINCT date) FROM ad_performance") == [(2,)]
