"""Costs that change after orders are stored: which days that concerns, and how they are brought up to date."""

import json
from datetime import date
from decimal import Decimal

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.test_utils import BasicLoadingContext

from sync_pipeline_tests.assets.conftest import DAYS, Synced

FIRST, SECOND, THIRD = (day.isoformat() for day in DAYS)
SINCE_JULY = ",LUM-SER,serum,110.00,2026-07-01,\n"
# Ten more from the second day on.
DEARER = ",LUM-SER,serum,110.00,2026-07-01,2026-10-05\n,LUM-SER,serum,120.00,2026-10-06,\n"
COGS = "SELECT date_local::text, sum(cogs) FROM pos_orders GROUP BY 1 ORDER BY 1"
SOLD = """
    SELECT o.date_local::text, sum((item ->> 'quantity')::int)
    FROM pos_orders AS o CROSS JOIN jsonb_array_elements(o.data -> 'items') AS item
    WHERE item -> 'variation_info' ->> 'product_display_id' = 'LUM-SER' GROUP BY 1 ORDER BY 1
"""
ORDERS = "SELECT ctid::text, * FROM pos_orders ORDER BY shop_id, pos_order_id"
PERFORMANCE = "SELECT ctid::text, * FROM ad_performance ORDER BY 1"


@pytest.fixture
def dearer(synced: Synced) -> Synced:
    """The three days, with a cost file that the second and the third are no longer costed by."""
    text = synced.costs_file.read_text()
    assert text.count(SINCE_JULY) == 1
    synced.costs_file.write_text(text.replace(SINCE_JULY, DEARER))
    return synced


def stale_status(pipeline: Synced, asset: str) -> StaleStatus:
    graph = pipeline.definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(pipeline.instance, graph, BasicLoadingContext(pipeline.instance))
    return resolver.get_status(dg.AssetKey(asset.split("/")))


def test_a_changed_cost_file_marks_just_the_days_it_concerns_and_stores_no_order(dearer: Synced) -> None:
    before, sold = dict(dearer.query(COGS)), dict(dearer.query(SOLD))
    tables = dearer.query(ORDERS), dearer.query(PERFORMANCE)
    result = dearer.materialize("lumina/product_costs")
    assert result.success

    marks = {day: one for (name, day), one in dearer.evaluations(result).items() if name == "cogs_current"}
    assert {day: one.passed for day, one in marks.items()} == {FIRST: True, SECOND: False, THIRD: False}
    for day in (SECOND, THIRD):
        now = before[day] + 10 * sold[day]
        assert now > before[day]
        assert marks[day].warns_only
        assert f"COGS is stored as {before[day]}, by the present costs it is {now}" in marks[day].sentence
        assert marks[day].figures["cogs_stored"] == float(before[day])
        assert marks[day].figures["cogs_current"] == float(now)
    assert (dearer.query(ORDERS), dearer.query(PERFORMANCE)) == tables
    [event] = result.asset_materializations_for_node("lumina__product_costs")
    assert event.metadata["days_to_recompute"].value == 2


def test_order_costs_recomputes_these_days_from_what_is_stored_and_clears_the_marks(dearer: Synced) -> None:
    before, sold = dict(dearer.query(COGS)), dict(dearer.query(SOLD))
    first_day = f"SELECT ctid::text, * FROM ad_performance WHERE date = '{FIRST}' ORDER BY 1"
    untouched = dearer.query(first_day)
    assert dearer.materialize("lumina/product_costs").success
    result = dearer.materialize("lumina/order_costs")
    assert result.success
    assert dearer.sandbox.requests.count() == 0

    now = {FIRST: before[FIRST], SECOND: before[SECOND] + 10 * sold[SECOND], THIRD: before[THIRD] + 10 * sold[THIRD]}
    assert dict(dearer.query(COGS)) == now
    assert dict(dearer.query("SELECT date::text, sum(cogs) FROM ad_performance GROUP BY 1")) == now
    assert dearer.query(first_day) == untouched
    refreshed = dearer.materialized("lumina/ad_performance", result.run_id)
    assert {day: figures["cogs"] for day, figures in refreshed.items()} == {
        day: float(now[day]) for day in (SECOND, THIRD)
    }
    marks = {day: one.passed for (name, day), one in dearer.evaluations(result).items() if name == "cogs_current"}
    assert marks == {SECOND: True, THIRD: True}
    assert dearer.failed() == {}


def test_order_costs_with_nothing_to_do_changes_nothing(synced: Synced) -> None:
    tables = synced.query(ORDERS), synced.query(PERFORMANCE)
    result = synced.materialize("lumina/order_costs")
    assert result.success
    assert synced.materialized("lumina/ad_performance", result.run_id) == {}
    assert (synced.query(ORDERS), synced.query(PERFORMANCE)) == tables


def test_a_changed_mapping_moves_orders_that_matched_no_ad(synced: Synced) -> None:
    text = synced.costs_file.read_text()
    synced.costs_file.write_text(text.replace(",LUM-SER,serum,", ",LUM-SER,potion,"))
    counted = "SELECT sum(orders) FROM ad_performance WHERE ad_id IS NULL AND mapping LIKE '%{}%'"
    [(before,)] = synced.query(counted.format("serum"))
    assert before
    assert synced.materialize("lumina/product_costs", "lumina/order_costs").success
    assert synced.query(counted.format("serum")) == [(None,)]
    assert synced.query(counted.format("potion")) == [(before,)]
    assert synced.failed() == {}


def test_a_product_that_only_the_catalogue_knows_by_its_custom_id_is_costed_by_it(synced: Synced) -> None:
    """The items name ids alone, as those of shops do that send no `variation_info`."""
    before = synced.query(COGS)
    for shop, order, items in synced.query("SELECT shop_id, pos_order_id, data -> 'items' FROM pos_orders"):
        bare = json.dumps([{**item, "variation_info": None} for item in items])
        synced.execute(
            f"UPDATE pos_orders SET cogs = 0, uncosted_quantity = total_quantity, data = "
            f"jsonb_set(data, '{{items}}', '{bare}') WHERE shop_id = '{shop}' AND pos_order_id = '{order}'"
        )
    assert synced.materialize("lumina/order_costs").success
    assert synced.query(COGS) == before
    assert synced.query("SELECT sum(uncosted_quantity) FROM pos_orders") == [(0,)]

    synced.execute("DELETE FROM pos_products")
    assert synced.materialize("lumina/order_costs").success
    assert dict(synced.query(COGS)) != dict(before)


def test_unchanged_costs_make_nothing_stale_and_changed_ones_do(synced: Synced) -> None:
    assert synced.materialize("lumina/product_costs").success
    assert synced.materialize("lumina/order_costs").success
    assert stale_status(synced, "lumina/order_costs") == StaleStatus.FRESH

    assert synced.materialize("lumina/product_costs").success
    assert stale_status(synced, "lumina/order_costs") == StaleStatus.FRESH

    text = synced.costs_file.read_text()
    synced.costs_file.write_text(text.replace("\n", "\n\n", 1))
    assert synced.materialize("lumina/product_costs").success
    assert stale_status(synced, "lumina/order_costs") == StaleStatus.FRESH, "lines that moved cost the same"

    synced.costs_file.write_text(text.replace(SINCE_JULY, DEARER))
    assert synced.materialize("lumina/product_costs").success
    assert stale_status(synced, "lumina/order_costs") == StaleStatus.STALE

    assert synced.materialize("lumina/order_costs").success
    assert stale_status(synced, "lumina/order_costs") == StaleStatus.FRESH


def test_the_sync_itself_goes_by_the_new_costs(dearer: Synced) -> None:
    before, sold = dict(dearer.query(COGS)), dict(dearer.query(SOLD))
    result = dearer.run("lumina__daily_sync", date(2026, 10, 6), date(2026, 10, 6))
    assert result.success
    now = dict(dearer.query(COGS))
    assert now[SECOND] == before[SECOND] + Decimal(10) * sold[SECOND]
    assert now[THIRD] == before[THIRD]
    found = {day: one.passed for (name, day), one in dearer.evaluations(result).items() if name == "cogs_current"}
    assert found == {FIRST: True, SECOND: True, THIRD: False}


SHOP_IN_MINOR_UNITS = "    money_divisor: {310001: 100}"
REVENUE = "SELECT date::text, sum(revenue) FROM ad_performance GROUP BY 1 ORDER BY 1"
TOTALS = "SELECT date_local::text, sum(total) FROM pos_orders GROUP BY 1 ORDER BY 1"


def test_order_costs_applies_a_changed_setting_without_the_api(synced: Synced) -> None:
    before = synced.query(TOTALS)
    synced.replace_in_tenant("    shops: all ", f"{SHOP_IN_MINOR_UNITS}\n    shops: all ")
    result = synced.materialize("lumina/order_costs")
    assert result.success
    assert synced.sandbox.requests.count() == 0
    assert synced.query(TOTALS) != before
    assert synced.query(REVENUE) == synced.query(TOTALS)
    *_, event = result.asset_materializations_for_node("lumina__order_costs")
    assert (
        event.metadata["orders_recomputed"].value
        == synced.query("SELECT count(*) FROM pos_orders WHERE shop_id = '310001'")[0][0]
    )
    assert synced.materialized("lumina/ad_performance", result.run_id).keys() == {FIRST, SECOND, THIRD}
    assert synced.failed() == {}


def test_the_next_run_of_one_day_applies_a_changed_setting_to_all(synced: Synced) -> None:
    before = synced.query(TOTALS)
    names = "SELECT DISTINCT marketing_associate FROM {} ORDER BY 1"
    synced.replace_in_tenant("    shops: all ", f"{SHOP_IN_MINOR_UNITS}\n    shops: all ")
    synced.replace_in_tenant("  accounts: all ", "  naming: {associate_position: 2}\n  accounts: all ")
    result = synced.run("lumina__daily_sync", date(2026, 10, 6), date(2026, 10, 6))
    assert result.success
    assert {day for (day, total), (_, old) in zip(synced.query(TOTALS), before, strict=True) if total < old} == {
        FIRST,
        SECOND,
        THIRD,
    }
    assert synced.query(REVENUE) == synced.query(TOTALS)
    assert synced.query(names.format("meta_ad_insights WHERE spend > 0")) == synced.query(
        names.format("ad_performance WHERE spend > 0")
    )
    assert synced.failed() == {}


def test_the_next_run_applies_changed_fees_to_all_days(synced: Synced) -> None:
    synced.replace_in_tenant("fees: {shipping: 55, fulfilment: 12, packaging: 8.50,", "fees: {shipping: 60,")
    assert synced.run("lumina__daily_sync", date(2026, 10, 6), date(2026, 10, 6)).success
    as_the_file_says = "SELECT date::text, sum(order_fees) = 60 * sum(orders - cancelled_orders) FROM ad_performance"
    assert synced.query(f"{as_the_file_says} GROUP BY 1 ORDER BY 1") == [(FIRST, True), (SECOND, True), (THIRD, True)]
