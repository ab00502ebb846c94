"""The checks of every day: that they pass on what was synced, and what each says of data made wrong on purpose."""

from datetime import date, timedelta

import dagster as dg
import pytest
from dagster._core.event_api import PartitionKeyFilter

from sync_pipeline_tests.assets.conftest import COSTS_OF_THE_REST, DAYS, SYNC_JOB, Found, Synced
from sync_pipeline_tests.assets.test_days import failure_of

SECOND = "2026-10-06"
DAILY = {
    "insights_readable",
    "orders_readable",
    "spend_matches_account",
    "orders_all_stored",
    "orders_costed",
    "cogs_current",
    "sources_reconciled",
    "statuses_known",
    "figures_current",
    "spend_has_associate",
    "orders_have_ad",
    "one_currency",
}
WITHOUT_DAYS = {
    "credentials_current",
    "products_readable",
    "sold_products_have_costs",
    "cost_dates",
    "cost_ids_unique",
    "cost_products_listed",
}
DAY_AND_CHECK = {(name, day.isoformat()) for name in DAILY for day in DAYS} | {(name, None) for name in WITHOUT_DAYS}

# What every column of a row of `ad_performance` is, but for those that Postgres computes.
STORED_COLUMNS = """
    SELECT string_agg(column_name, ', ') FROM information_schema.columns
    WHERE table_name = 'ad_performance' AND is_generated = 'NEVER' AND column_name <> 'ad_id'
"""


def only_of_the_second_day(found: Found) -> dict[str, str]:
    """The sentences of failed checks, all of which are of the second day."""
    assert {day for _, day in found} == {SECOND}
    return {name: one.sentence for (name, _), one in found.items()}


def test_a_sync_ends_with_every_check_of_every_day_passed(synced: Synced, sync_run: dg.ExecuteInProcessResult) -> None:
    found = synced.evaluations(sync_run)
    assert found.keys() == DAY_AND_CHECK
    assert len(synced.judgements(sync_run)) == len(found), "each is judged once"
    assert {key: one.sentence for key, one in found.items() if not one.passed} == {}


def test_each_evaluation_stands_at_its_partition(synced: Synced, sync_run: dg.ExecuteInProcessResult) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(["lumina", "ad_performance"]), "sources_reconciled")
    for day in DAYS:
        records = synced.instance.event_log_storage.get_asset_check_execution_history(
            key, limit=50, partition_filter=PartitionKeyFilter(key=day.isoformat())
        )
        assert sync_run.run_id in {record.run_id for record in records}


def test_checks_alone_judge_the_same_and_fetch_nothing(synced: Synced, sync_run: dg.ExecuteInProcessResult) -> None:
    before = synced.tables()
    assert synced.checked() == synced.evaluations(sync_run)
    assert synced.sandbox.requests.count() == 0
    assert synced.tables() == before


def test_checks_started_by_hand_without_days_judge_the_last_thirty(synced: Synced) -> None:
    found = synced.checked(days=None)
    assert found.keys() == DAY_AND_CHECK
    assert all(one.passed for one in found.values())


def test_a_lost_insight_row(synced: Synced) -> None:
    [(account, ad, spend), *_] = synced.query(
        f"SELECT account_id, ad_id, spend FROM meta_ad_insights WHERE date = '{SECOND}' ORDER BY spend DESC"
    )
    total = f"SELECT sum(spend) FROM meta_ad_insights WHERE date = '{SECOND}'"
    [(reported,)] = synced.query(f"{total} AND account_id = '{account}'")
    [(whole,)] = synced.query(total)
    synced.execute(f"DELETE FROM meta_ad_insights WHERE date = '{SECOND}' AND ad_id = '{ad}'")
    found = synced.failed()
    wrong = only_of_the_second_day(found)
    assert wrong.keys() == {"spend_matches_account", "sources_reconciled"}
    assert wrong["spend_matches_account"] == (
        f"account {account}: Meta reports {reported}, the stored ads add up to {reported - spend}"
    )
    assert found["spend_matches_account", SECOND].figures == {"reported": float(whole), "stored": float(whole - spend)}
    assert not found["spend_matches_account", SECOND].warns_only
    assert f"spend is {whole - spend} in the sources and {whole} in ad_performance" in wrong["sources_reconciled"]


def test_a_changed_cent(synced: Synced) -> None:
    [(account,)] = synced.query(f"SELECT min(account_id) FROM meta_ad_insights WHERE date = '{SECOND}'")
    total = f"SELECT sum(spend) FROM meta_ad_insights WHERE date = '{SECOND}' AND account_id = '{account}'"
    [(before,)] = synced.query(total)
    synced.execute(
        "UPDATE meta_ad_insights SET spend = spend + 0.01 WHERE (ad_id, date) = "
        f"(SELECT min(ad_id), min(date) FROM meta_ad_insights WHERE date = '{SECOND}' AND account_id = '{account}')"
    )
    [(after,)] = synced.query(total)
    assert str(after - before) == "0.01"
    synced.run(SYNC_JOB, date(2026, 10, 6), date(2026, 10, 6), assets=["lumina/ad_performance"])
    assert only_of_the_second_day(synced.failed()) == {
        "spend_matches_account": f"account {account}: Meta reports {before}, the stored ads add up to {after}"
    }


def test_an_account_whose_every_row_is_lost(synced: Synced) -> None:
    [(account, spend)] = synced.query(
        f"SELECT account_id, sum(spend) FROM meta_ad_insights WHERE date = '{SECOND}' GROUP BY 1 ORDER BY 1 LIMIT 1"
    )
    synced.execute(f"DELETE FROM meta_ad_insights WHERE date = '{SECOND}' AND account_id = '{account}'")
    wrong = only_of_the_second_day(synced.failed())
    assert wrong["spend_matches_account"] == (f"account {account}: Meta reports {spend}, the stored ads add up to 0")


def test_a_total_that_could_not_be_fetched_is_a_warning(synced: Synced) -> None:
    [(account, spend)] = synced.query(
        f"SELECT account_id, sum(spend) FROM meta_ad_insights WHERE date = '{SECOND}' GROUP BY 1 ORDER BY 1 LIMIT 1"
    )
    synced.execute(
        f"UPDATE sync_log SET reported = jsonb_set(reported, '{{{account}}}', 'null') "
        f"WHERE source = 'meta' AND day = '{SECOND}'"
    )
    found = synced.failed()
    assert only_of_the_second_day(found) == {
        "spend_matches_account": f"account {account}: Meta gave no total to compare with, the stored ads add up to "
        f"{spend}"
    }
    verdict = found["spend_matches_account", SECOND]
    assert verdict.warns_only
    assert verdict.figures.keys() == {"stored"}


def test_a_missing_total_hides_no_difference_elsewhere(synced: Synced) -> None:
    accounts = synced.query(f"SELECT DISTINCT account_id FROM meta_ad_insights WHERE date = '{SECOND}' ORDER BY 1")
    (missing,), (wrong,), *_ = accounts
    synced.execute(
        f'UPDATE sync_log SET reported = reported || \'{{"{missing}": null, "{wrong}": "1.00"}}\' '
        f"WHERE source = 'meta' AND day = '{SECOND}'"
    )
    verdict = synced.failed()["spend_matches_account", SECOND]
    assert not verdict.warns_only
    assert f"account {wrong}: Meta reports 1.00, the stored ads add up to " in verdict.sentence
    assert f"account {missing}: Meta gave no total to compare with" in verdict.sentence


def test_a_lost_order(synced: Synced) -> None:
    lost = f"SELECT min(ctid) FROM pos_orders WHERE date_local = '{SECOND}' AND total > 0"
    [(total,)] = synced.query(f"SELECT total FROM pos_orders WHERE ctid = ({lost})")
    [(orders, revenue)] = synced.query(f"SELECT count(*), sum(total) FROM pos_orders WHERE date_local = '{SECOND}'")
    synced.execute(f"DELETE FROM pos_orders WHERE ctid = ({lost})")
    found = synced.failed()
    wrong = only_of_the_second_day(found)
    assert wrong.keys() == {"orders_all_stored", "sources_reconciled"}
    assert wrong["orders_all_stored"] == f"{orders} orders were fetched, {orders - 1} are stored"
    assert not found["orders_all_stored", SECOND].warns_only
    assert f"orders is {orders - 1} in the sources and {orders} in ad_performance" in wrong["sources_reconciled"]
    assert f"revenue is {revenue - total} in the sources and {revenue} in" in wrong["sources_reconciled"]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("counted = counted + 1", "Pancake counts {more} orders for 2026-10-05 to 2026-10-07 and listed {listed}"),
        ("counted = NULL", "Pancake gave no count for 2026-10-05 to 2026-10-07"),
    ],
)
def test_pancake_counts_other_than_it_listed(synced: Synced, said: str, sentence: str) -> None:
    changed = "(reported #>> '{310001,counted}')::int + 1" if "+" in said else "NULL::int"
    synced.execute(
        f"UPDATE sync_log SET reported = jsonb_set(reported, '{{310001,counted}}', coalesce(to_jsonb({changed}), "
        f"'null')) WHERE source = 'pos' AND day = '{SECOND}'"
    )
    [(listed,)] = synced.query("SELECT count(*) FROM pos_orders")
    [(excluded,)] = synced.query("SELECT sum(excluded) FROM sync_log WHERE source = 'pos'")
    listed += int(excluded)
    assert only_of_the_second_day(synced.failed()) == {
        "orders_all_stored": sentence.format(more=listed + 1, listed=listed)
    }


def test_the_last_sync_of_a_day_is_the_one_that_counts(synced: Synced) -> None:
    synced.execute(
        "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, requests, "
        "complete, reported, started, finished) SELECT tenant_id, source, day, 'later', rows + 5, changed, removed, "
        f"excluded, amount, requests, complete, reported, now(), now() FROM sync_log WHERE source = 'pos' "
        f"AND day = '{SECOND}'"
    )
    [(orders,)] = synced.query(f"SELECT count(*) FROM pos_orders WHERE date_local = '{SECOND}'")
    assert only_of_the_second_day(synced.failed()) == {
        "orders_all_stored": f"{orders + 5} orders were fetched, {orders} are stored"
    }


@pytest.mark.parametrize("which", ["ad_id IS NOT NULL AND orders > 0 AND spend > 0", "ad_id IS NULL"])
def test_a_lost_row_of_performance(synced: Synced, which: str) -> None:
    row = f"SELECT min(ctid) FROM ad_performance WHERE date = '{SECOND}' AND {which}"
    [(spend, orders, revenue)] = synced.query(f"SELECT spend, orders, revenue FROM ad_performance WHERE ctid = ({row})")
    [(all_spend, all_orders, all_revenue)] = synced.query(
        f"SELECT sum(spend), sum(orders), sum(revenue) FROM ad_performance WHERE date = '{SECOND}'"
    )
    synced.execute(f"DELETE FROM ad_performance WHERE ctid = ({row})")
    found = synced.failed()
    sentence = found["sources_reconciled", SECOND].sentence
    assert not found["sources_reconciled", SECOND].warns_only
    assert {day for _, day in found} == {SECOND}
    assert f"orders is {all_orders} in the sources and {all_orders - orders} in ad_performance" in sentence
    assert f"revenue is {all_revenue} in the sources and {all_revenue - revenue} in ad_performance" in sentence
    expected = f"spend is {all_spend} in the sources and {all_spend - spend} in ad_performance"
    assert (expected in sentence) == (spend > 0)


def test_a_doubled_row_of_performance(synced: Synced) -> None:
    [(columns,)] = synced.query(STORED_COLUMNS)
    row = f"SELECT min(ctid) FROM ad_performance WHERE date = '{SECOND}' AND orders > 0 AND spend > 0"
    [(spend, orders)] = synced.query(f"SELECT spend, orders FROM ad_performance WHERE ctid = ({row})")
    [(all_spend, all_orders)] = synced.query(
        f"SELECT sum(spend), sum(orders) FROM ad_performance WHERE date = '{SECOND}'"
    )
    synced.execute(
        f"INSERT INTO ad_performance (ad_id, {columns}) SELECT ad_id || '0', {columns} FROM ad_performance "
        f"WHERE ctid = ({row})"
    )
    wrong = only_of_the_second_day(synced.failed())
    assert wrong.keys() == {"sources_reconciled"}
    assert f"spend is {all_spend} in the sources and {all_spend + spend} in" in wrong["sources_reconciled"]
    assert f"orders is {all_orders} in the sources and {all_orders + orders} in" in wrong["sources_reconciled"]


def test_figures_of_a_day_that_the_sources_know_nothing_of(synced: Synced) -> None:
    synced.execute(f"DELETE FROM meta_ad_insights WHERE date = '{SECOND}'")
    synced.execute(f"DELETE FROM pos_orders WHERE date_local = '{SECOND}'")
    [(orders,)] = synced.query(f"SELECT sum(orders) FROM ad_performance WHERE date = '{SECOND}'")
    wrong = only_of_the_second_day(synced.failed())
    assert f"orders is 0 in the sources and {orders} in ad_performance" in wrong["sources_reconciled"]


def test_an_order_without_cost_is_a_warning_with_the_share(synced: Synced) -> None:
    uncosted = f"SELECT min(ctid) FROM pos_orders WHERE date_local = '{SECOND}'"
    synced.execute(f"UPDATE pos_orders SET uncosted_quantity = 1 WHERE ctid = ({uncosted})")
    [(orders,)] = synced.query(f"SELECT count(*) FROM pos_orders WHERE date_local = '{SECOND}' AND total_quantity > 0")
    share = 100 / orders
    found = synced.failed()["orders_costed", SECOND]
    assert found.warns_only
    assert found.sentence == (f"1 of {orders} ({share:.1f} %) orders have a quantity without cost; the limit is 0 %")
    assert found.figures == {"part": 1, "whole": orders, "percent": round(share, 2)}


def test_an_order_of_an_unknown_status_is_a_warning(synced: Synced) -> None:
    orders = f"SELECT ctid FROM pos_orders WHERE date_local = '{SECOND}' AND status = 3 ORDER BY ctid LIMIT"
    synced.execute(f"UPDATE pos_orders SET status = 42 WHERE ctid IN ({orders} 2)")
    synced.execute(f"UPDATE pos_orders SET status = NULL WHERE ctid IN ({orders} 1)")
    found = synced.failed()
    assert only_of_the_second_day(found) == {
        "statuses_known": "orders of no status group: 2 with status 42, 1 with no status"
    }
    assert found["statuses_known", SECOND].warns_only
    assert found["statuses_known", SECOND].figures == {"orders": 3}


def test_figures_of_other_settings_are_a_warning(synced: Synced) -> None:
    [(rows,)] = synced.query(f"SELECT count(*) FROM ad_performance WHERE date = '{SECOND}'")
    # As a migration leaves them.
    synced.execute(f"UPDATE ad_performance SET rules = NULL, return_fees = NULL WHERE date = '{SECOND}'")
    found = synced.failed()
    assert only_of_the_second_day(found) == {
        "figures_current": f"{rows} of {rows} rows were computed by other rules or settings and lack figures or have "
        "earlier ones; materialize order_costs or ad_performance"
    }
    assert found["figures_current", SECOND].warns_only
    assert synced.materialize("lumina/order_costs").success
    assert synced.failed() == {}
    assert synced.query("SELECT count(*) FROM ad_performance WHERE realised_margin IS NULL") == [(0,)]


def test_settings_from_a_day_on_make_that_day_outdated(synced: Synced) -> None:
    fee = "{shipping: [{value: 55}, {value: 60, start_date: 2026-10-06, end_date: 2026-10-06}], fulfilment: 12,"
    synced.replace_in_tenant("fees: {shipping: 55, fulfilment: 12,", f"fees: {fee}")
    assert only_of_the_second_day(synced.failed()).keys() == {"figures_current"}


def test_a_multiplier_that_has_ended_leaves_another_currency(synced: Synced) -> None:
    synced.replace_in_tenant(
        "spend_multiplier: {100000000000103: 58.50}",
        "spend_multiplier: {100000000000103: [{value: 58.50, end_date: 2026-10-05}, "
        "{value: 58.50, start_date: 2026-10-07}]}",
    )
    found = {day: one.sentence for (name, day), one in synced.failed().items() if name == "one_currency"}
    assert found == {SECOND: "ad account 100000000000103 is in USD, not in PHP"}


def test_spend_without_associate_above_the_tenants_limit(synced: Synced) -> None:
    best = f"SELECT ad_id FROM ad_performance WHERE date = '{SECOND}' ORDER BY ad_cost DESC LIMIT 1"
    synced.execute(f"UPDATE ad_performance SET marketing_associate = NULL WHERE date = '{SECOND}' AND ad_id = ({best})")
    [(part, whole)] = synced.query(f"SELECT max(ad_cost), sum(ad_cost) FROM ad_performance WHERE date = '{SECOND}'")
    share = 100 * part / whole
    synced.edit_tenant(
        f"checks: {{max_spend_without_associate: {share:.0f}}}".replace(f"{share:.0f}", f"{share + 1:.0f}")
    )
    assert synced.failed() == {}
    file = synced.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace(f"associate: {share + 1:.0f}", "associate: 5"))
    synced.reload()
    found = synced.failed()
    assert only_of_the_second_day(found) == {
        "spend_has_associate": f"{part} of {whole} ({share:.1f} %) of ad cost has no marketing associate; "
        "the limit is 5 %"
    }
    assert found["spend_has_associate", SECOND].warns_only


def test_orders_without_ad_above_the_tenants_limit(synced: Synced) -> None:
    shares = {
        day.isoformat(): (part, whole, 100 * part / whole)
        for day, part, whole in synced.query(
            "SELECT date, sum(orders) FILTER (WHERE ad_id IS NULL), sum(orders) FROM ad_performance GROUP BY date"
        )
    }
    limit = int(min(share for _, _, share in shares.values()))
    synced.edit_tenant(f"checks: {{max_orders_without_ad: {limit}}}")
    found = synced.failed()
    assert {key: one.sentence for key, one in found.items()} == {
        ("orders_have_ad", day): f"{part} of {whole} ({share:.1f} %) orders matched no ad; the limit is {limit} %"
        for day, (part, whole, share) in shares.items()
        if share > limit
    }
    assert found
    assert all(one.warns_only for one in found.values())


def test_an_account_in_another_currency_without_a_multiplier(synced: Synced) -> None:
    synced.replace_in_tenant("spend_multiplier: {100000000000103: 58.50}", "spend_multiplier: {}")
    found = {day: one for (name, day), one in synced.failed().items() if name == "one_currency"}
    days = synced.query("SELECT DISTINCT date FROM meta_ad_insights WHERE currency = 'USD' AND spend > 0")
    assert found.keys() == {day.isoformat() for (day,) in days}
    assert {one.sentence for one in found.values()} == {"ad account 100000000000103 is in USD, not in PHP"}
    assert all(one.warns_only for one in found.values())


def test_a_shop_in_a_second_currency(synced: Synced) -> None:
    synced.execute(f"UPDATE pos_orders SET currency = 'VND' WHERE date_local = '{SECOND}' AND shop_id = '310002'")
    found = synced.failed()
    assert only_of_the_second_day(found) == {"one_currency": "shop 310002 is in VND, not in PHP"}
    assert found["one_currency", SECOND].figures == {"currencies": ["PHP", "VND"]}


def test_products_sold_without_a_cost_in_the_last_thirty_days_are_listed(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.costs_file.write_text(synced.costs_file.read_text().replace(COSTS_OF_THE_REST, ""))
    assert synced.materialize("lumina/product_costs", "lumina/order_costs").success
    found = synced.checked()["sold_products_have_costs", None]
    assert (found.passed, found.warns_only) == (False, True)
    assert found.sentence.startswith("sold since 2026-09-20 without a valid cost: ")
    products = found.figures["products"]
    assert isinstance(products, list)
    assert {product["name"] for product in products} == {"Soap", "Lip Tint"}
    assert (
        sum(product["quantity"] for product in products)
        == synced.query("SELECT sum(uncosted_quantity) FROM pos_orders")[0][0]
    )
    for product in products:
        assert f"{product['display_id']} of shop {product['shop_id']}" in found.sentence
    last_sold = max(date.fromisoformat(product["last_sold"]) for product in products)
    assert synced.query("SELECT max(date_local) FROM pos_orders WHERE uncosted_quantity > 0") == [(last_sold,)]

    monkeypatch.setattr("sync_pipeline.assets.checks.today_in", lambda _: last_sold + timedelta(days=31))
    assert synced.checked()["sold_products_have_costs", None].passed, "what was sold longer ago is let rest"


def test_overlapping_cost_dates_name_file_and_lines(synced: Synced) -> None:
    text = synced.costs_file.read_text()
    synced.costs_file.write_text(text + ",LUM-SER,serum,120.00,2027-01-01,2027-01-31\n")
    earlier = text.splitlines().index(",LUM-SER,serum,110.00,2026-07-01,") + 1
    later = len(text.splitlines()) + 1
    assert synced.materialize("lumina/product_costs").success
    found = synced.failed()
    assert list(found) == [("cost_dates", None)]
    assert found["cost_dates", None].warns_only
    assert found["cost_dates", None].sentence == (
        f"lumina_costs.csv lines {earlier} and {later}: both give product LUM-SER a cost from 2027-01-01 "
        f"to 2027-01-31; line {later} counts"
    )


def test_reversed_cost_dates_fail_the_costs_and_show_in_the_check(synced: Synced) -> None:
    before = synced.query("SELECT * FROM product_costs ORDER BY line")
    text = synced.costs_file.read_text()
    line = len(text.splitlines()) + 1
    synced.costs_file.write_text(text + ",LUM-NEW,serum,120.00,2026-11-30,2026-11-01\n")
    result = synced.materialize("lumina/product_costs")
    assert not result.success
    problem = f"line {line}: end_date is before start_date"
    description, _ = failure_of(result)
    assert f"lumina_costs.csv: {problem}" in description
    found = synced.evaluations(result)
    assert list(found) == [("cost_dates", None)]
    assert not found["cost_dates", None].passed
    assert f"lumina_costs.csv: {problem}" in found["cost_dates", None].sentence
    assert found["cost_dates", None].figures == {"problems": [problem]}
    assert synced.query("SELECT * FROM product_costs ORDER BY line") == before


def test_a_tenants_checks_know_nothing_of_anothers_rows(synced: Synced) -> None:
    for table in ("meta_ad_insights", "pos_orders", "sync_log"):
        synced.execute("INSERT INTO tenants VALUES ('other', 'Other', 'Asia/Manila') ON CONFLICT DO NOTHING")
        [(columns,)] = synced.query(
            "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns WHERE table_name = "
            f"'{table}' AND column_name NOT IN ('tenant_id', 'id')"
        )
        synced.execute(f"INSERT INTO {table} (tenant_id, {columns}) SELECT 'other', {columns} FROM {table}")
    synced.execute("UPDATE sync_log SET rows = 0, reported = NULL WHERE tenant_id = 'other'")
    assert synced.failed() == {}


def test_a_cost_for_a_shared_display_id_warns(synced: Synced) -> None:
    [(shop, product, display_id)] = synced.query(
        "SELECT shop_id, product_id, display_id FROM pos_products WHERE tenant_id = 'lumina' ORDER BY 1, 2, 3 LIMIT 1"
    )
    line = len(synced.costs_file.read_text().splitlines()) + 1
    synced.costs_file.write_text(synced.costs_file.read_text() + f",{display_id},,5.00,,\n")
    assert synced.checked()["cost_ids_unique", None].passed
    synced.execute(
        "INSERT INTO pos_products (tenant_id, shop_id, product_id, variation_id, display_id, retail_price, listed_at) "
        f"VALUES ('lumina', '{shop}', 'other', 'v', '{display_id}', 0, now())"
    )
    found = synced.checked()["cost_ids_unique", None]
    assert not found.passed
    assert found.warns_only
    assert found.sentence == (
        f"lumina_costs.csv line {line}: {display_id} is the display id of products "
        f"{', '.join(sorted((product, 'other')))} of shop {shop}, and gives none of them a cost; name a product id, "
        "variation id or custom id"
    )


def test_a_cost_of_a_product_in_no_catalogue_warns(synced: Synced) -> None:
    [(product, display_id)] = synced.query(
        "SELECT product_id, display_id FROM pos_products WHERE tenant_id = 'lumina' AND shop_id = '310001' "
        "AND name = 'Serum' ORDER BY 1, 2 LIMIT 1"
    )
    text = synced.costs_file.read_text()
    line = len(text.splitlines()) + 1
    known = f"{text}310001,{product},,5.00,,\n,{display_id},,5.00,,\n"
    synced.costs_file.write_text(known)
    assert synced.checked()["cost_products_listed", None].passed
    synced.costs_file.write_text(f"{known},LUM-TYPO,,5.00,,\n310002,{product},,5.00,,\n")
    found = synced.checked()["cost_products_listed", None]
    assert not found.passed
    assert found.warns_only
    assert found.sentence == (
        f"lumina_costs.csv line {line + 2}: product LUM-TYPO is in no shop's catalogue; correct the id, or delete the "
        f"line; lumina_costs.csv line {line + 3}: product {product} is in no catalogue of shop 310002; correct the id, "
        "or delete the line"
    )
    synced.execute("DELETE FROM pos_products")
    assert synced.checked()["cost_products_listed", None].sentence == "no catalogue is stored yet"
