"""Performance per ad through Dagster: in the same run as the sync and after it, with figures of each day."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import sqlalchemy as sa

from sync_pipeline.assets.performance import refresh_performance
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.assets.conftest import DAYS, SYNC_JOB, Synced
from sync_pipeline_tests.sync.bench import Bench, days_from, demo_tenant

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


def test_totals_of_sixty_days_are_exactly_those_of_the_sources(
    sandbox: SandboxServer, engine: sa.Engine, tmp_path: Path
) -> None:
    bench = Bench(sandbox, engine, demo_tenant(tmp_path))
    days = days_from(date(2026, 8, 10), 60)
    bench.sync(days)
    tenant = bench.tenant
    with Warehouse(engine).tenant(tenant.tenant_id, name=tenant.name, timezone=tenant.timezone) as held:
        figures = refresh_performance(tenant, held, days)
        compared = held.checks(tenant.rates).reconciled(days)
    with engine.connect() as connection:
        [sources] = connection.execute(sa.text(SOURCES)).all()
        [performance] = connection.execute(sa.text(PERFORMANCE)).all()
    assert sources[-1] == len(figures) == 60
    assert all(amount > 0 for amount in sources)
    assert performance == sources
    ads, orders = {"spend", "ad_cost", "ad_taxes"}, {"orders", "excluded_orders", "revenue", "cod", "cogs"}
    assert len(compared) == 60 * len(ads | orders)
    assert [one for one in compared if one.source != one.performance] == []


def test_totals_of_a_job_are_exactly_those_of_the_sources(synced: Synced) -> None:
    [sources] = synced.query(SOURCES)
    assert sources[-1] == len(DAYS)
    assert synced.query(PERFORMANCE) == [sources]


def test_each_day_shows_its_figures_and_its_best(synced: Synced, sync_run: dg.ExecuteInProcessResult) -> None:
    shown = synced.materialized(AD_PERFORMANCE, sync_run.run_id)
    assert list(shown) == [day.isoformat() for day in DAYS]
    for day, rows, spend, orders, revenue, roas in synced.query(BY_DAY):
        figures = shown[day.isoformat()]
        names = ("dagster/partition_row_count", "spend", "orders", "revenue", "roas")
        assert [figures[name] for name in names] == [rows, float(spend), orders, float(revenue), float(roas)]

        best = "ad_cost, orders, revenue, round(roas, 2) FROM ad_performance_by_associate"
        [(name, cost, orders, revenue, roas)] = synced.query(
            f"SELECT marketing_associate, {best} WHERE date = '{day}' AND marketing_associate IS NOT NULL "
            "ORDER BY revenue DESC LIMIT 1"
        )
        table = figures["best_associates"]
        columns = ["Marketing associate", "Ad cost", "Orders", "Revenue", "ROAS", "Projected margin"]
        assert [column.name for column in table.schema.columns] == columns
        first = [table.records[0].data[column] for column in columns]
        assert first[:5] == [name, f"{cost:,.2f}", orders, f"{revenue:,.2f}", f"{roas or ''}"]
        assert len(figures["best_ads"].records) > 1


def test_open_orders_are_projected_with_stored_rates(synced: Synced) -> None:
    shops = synced.query("SELECT DISTINCT shop_id FROM pos_orders ORDER BY 1")
    rates = synced.query("SELECT shop_id FROM delivery_rates WHERE delivery_rate BETWEEN 0 AND 1 ORDER BY 1")
    assert rates == shops
    [(as_of,)] = synced.query("SELECT DISTINCT as_of FROM delivery_rates")
    assert synced.query("SELECT DISTINCT projection_date FROM ad_performance WHERE open_margin <> 0") == [(as_of,)]


def test_a_run_stores_the_settings_of_its_days(synced: Synced) -> None:
    settings = "SELECT date, outbound_fee, cod_percent, return_rate FROM figure_settings ORDER BY date"
    assert synced.query(settings) == [(day, Decimal("75.50"), Decimal("2.5"), Decimal("0.20")) for day in DAYS]


def test_it_is_computed_after_both_sources_in_the_same_run(sync_run: dg.ExecuteInProcessResult) -> None:
    order = [event.step_key for event in sync_run.all_events if event.is_step_success]
    assert order.index("lumina__sync") < order.index("lumina__ad_performance") < order.index("lumina__checks")


def test_a_tenant_file_with_other_fees_takes_effect_with_the_next_materialization(synced: Synced) -> None:
    query = "SELECT sum(order_fees), sum(orders - cancelled_orders), sum(cod_fees), sum(collected) FROM ad_performance"
    [(fees, charged, cod_fees, collected)] = synced.query(query)
    assert fees == Decimal("75.50") * charged
    assert cod_fees > 0
    synced.replace_in_tenant(
        "fees: {shipping: 55, fulfilment: 12, packaging: 8.50, cod_percent: 2.5}", "fees: {shipping: 10.01}"
    )
    assert synced.run(SYNC_JOB, DAYS.since, DAYS.until, assets=[AD_PERFORMANCE]).success
    assert synced.query(query) == [(Decimal("10.01") * charged, charged, 0, collected)]
    assert synced.sandbox.requests.count() == 0


COUNTED_SPEND = """
    SELECT i.date::text, sum(i.spend) FROM meta_ad_insights AS i
    WHERE NOT (i.account_id = '{account}' AND i.date >= '{since}') GROUP BY 1 ORDER BY 1
"""


def test_the_next_run_applies_a_day_set_in_plain_sql(synced: Synced) -> None:
    day = date(2026, 10, 6)
    [(account,)] = synced.query(f"SELECT min(account_id) FROM meta_ad_insights WHERE date = '{day}'")
    counted, everything = (
        synced.query(COUNTED_SPEND.format(account=account, since=since)) for since in (DAYS.until, "2027-01-01")
    )
    assert counted != everything
    update = f"UPDATE meta_ad_accounts SET enabled = {{}} WHERE account_id = '{account}'"
    synced.execute(update.format(f"false, disabled_from = '{DAYS.until}'"))
    assert not synced.checked()["sources_reconciled", str(DAYS.until)].passed
    result = synced.run(SYNC_JOB, day, day)
    assert result.success
    assert synced.query("SELECT date::text, sum(spend) FROM ad_performance GROUP BY 1 ORDER BY 1") == counted
    assert synced.materialized(AD_PERFORMANCE, result.run_id).keys() == {"2026-10-06", "2026-10-07"}
    assert synced.query("SELECT account_id FROM meta_ad_accounts WHERE recompute_from IS NOT NULL") == []
    assert synced.failed() == {}
    synced.execute(update.format("true"))
    result = synced.materialize("lumina/order_costs")
    assert result.success
    assert synced.query("SELECT date::text, sum(spend) FROM ad_performance GROUP BY 1 ORDER BY 1") == everything
    assert synced.materialized(AD_PERFORMANCE, result.run_id).keys() == {"2026-10-07"}
    assert synced.failed() == {}


def test_disabling_in_plain_sql_keeps_all_past_figures(synced: Synced) -> None:
    before = synced.query("SELECT * FROM ad_performance ORDER BY 1, 2, 3, 4, 5")
    synced.execute("UPDATE meta_ad_accounts SET enabled = false WHERE account_id = '100000000000102'")
    synced.execute("UPDATE pos_shops SET enabled = false WHERE shop_id = '310002'")
    assert synced.run(SYNC_JOB, DAYS.since, DAYS.until, assets=[AD_PERFORMANCE]).success
    assert synced.query("SELECT * FROM ad_performance ORDER BY 1, 2, 3, 4, 5") == before
    assert synced.failed() == {}


def test_a_day_without_anything_is_materialized_with_no_rows(synced: Synced) -> None:
    synced.execute("DELETE FROM meta_ad_insights WHERE date = '2026-10-06'")
    synced.execute("DELETE FROM pos_orders WHERE date_local = '2026-10-06'")
    day = date(2026, 10, 6)
    result = synced.run(SYNC_JOB, day, day, assets=[AD_PERFORMANCE])
    assert result.success
    assert synced.materialized(AD_PERFORMANCE, result.run_id) == {"2026-10-06": {"dagster/partition_row_count": 0}}
    assert synced.query("SELECT count(DISTINCT date) FROM ad_performance") == [(2,)]
