"""Stored rows that are recomputed after rules or settings have changed."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.assets.performance import refresh_with_outdated
from sync_pipeline.rates import Rates
from sync_pipeline.sync import META, POS, recompute
from sync_pipeline.sync.costs import costs_by_catalogue
from sync_pipeline.sync.recompute import Recomputed, recompute_stored
from sync_pipeline.tenants import Naming, Tenant
from sync_pipeline.warehouse.tenancy import TenantWarehouse, Warehouse
from sync_pipeline_tests.sync.bench import FIRST_SHOP, SECOND_SHOP, Bench, days_from

DAYS = days_from(date(2026, 10, 5), 2)
FIRST, SECOND = DAYS


@contextmanager
def held(bench: Bench) -> Iterator[TenantWarehouse]:
    tenant = bench.tenant
    with Warehouse(bench.engine).tenant(tenant.tenant_id, name=tenant.name, timezone=tenant.timezone) as warehouse:
        yield warehouse


def recomputed(bench: Bench, sources: Sequence[str] = (META, POS)) -> Recomputed:
    with held(bench) as warehouse:
        return recompute_stored(bench.tenant, warehouse, sources, costs_by_catalogue(bench.tenant, warehouse))


def outdated_days(bench: Bench) -> list[date]:
    """Compute the performance of all outdated days, as a run does, and return them."""
    with held(bench) as warehouse:
        pending = warehouse.pending_exclusions()
        days = sorted({*warehouse.outdated_performance_days(Rates()), *pending.days})
        for day in days:
            warehouse.recompute_performance(day, day, Rates())
        warehouse.finish_exclusions(pending)
    return days


def with_key(tenant: Tenant, **settings: Any) -> Tenant:
    [key] = tenant.pancake
    return tenant.model_copy(update={"pancake": (key.model_copy(update=settings),)})


def with_meta(tenant: Tenant, **settings: Any) -> Tenant:
    assert tenant.meta is not None
    return tenant.model_copy(update={"meta": tenant.meta.model_copy(update=settings)})


def both_shops(setting: Any) -> dict[str, Any]:
    return {FIRST_SHOP: setting, SECOND_SHOP: setting}


SETTINGS = {
    "divisor": lambda tenant: with_key(tenant, money_divisor={FIRST_SHOP: 100}),
    "line_discounts": lambda tenant: with_key(tenant, line_discounts=both_shops("separate")),
    "ad_id_fields": lambda tenant: tenant.model_copy(update={"ad_id_fields": ("ad_id", "p_utm_campaign")}),
    "naming": lambda tenant: with_meta(
        tenant, naming=Naming(associate_position=2, mapping_pattern="^(?P<mapping>[A-Z]+)")
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_recomputed_rows_are_those_of_a_new_sync(bench: Bench, setting: str) -> None:
    bench.sync(DAYS)
    before = bench.tables()
    bench.tenant = SETTINGS[setting](bench.tenant)
    found = recomputed(bench)
    assert (found.orders_changed > 0) == (setting != "naming")
    assert (found.insights_changed > 0) == (setting == "naming")
    assert found.not_recomputed == []
    stored = bench.tables()
    assert stored != before
    bench.start_over()
    bench.sync(DAYS)
    assert bench.tables() == stored


def test_unchanged_settings_recompute_nothing(bench: Bench) -> None:
    bench.sync(DAYS)
    before = bench.query("SELECT ctid::text, * FROM pos_orders ORDER BY 1")
    assert recomputed(bench) == Recomputed()
    assert bench.query("SELECT ctid::text, * FROM pos_orders ORDER BY 1") == before


def test_only_the_shop_whose_setting_changed_is_recomputed(bench: Bench) -> None:
    bench.sync(DAYS, [POS])
    [(orders,)] = bench.query(f"SELECT count(*) FROM pos_orders WHERE shop_id = '{FIRST_SHOP}'")
    bench.tenant = with_key(bench.tenant, money_divisor={FIRST_SHOP: 100})
    assert recomputed(bench).orders == orders > 0


def test_a_changed_timezone_moves_orders_to_their_day(bench: Bench) -> None:
    bench.sync(DAYS, [POS])
    bench.tenant = bench.tenant.model_copy(update={"timezone": "America/New_York"})
    assert recomputed(bench, [POS]).orders_changed > 0
    assert bench.query(
        "SELECT count(*) FROM pos_orders WHERE date_local <> (inserted_at AT TIME ZONE 'America/New_York')::date"
    ) == [(0,)]


def test_days_that_orders_move_to_have_figures_computed(bench: Bench) -> None:
    bench.sync([FIRST], [POS])
    with held(bench) as warehouse:
        warehouse.recompute_performance(FIRST, FIRST, Rates())
    bench.tenant = bench.tenant.model_copy(update={"timezone": "America/New_York"})
    recomputed(bench, [POS])
    days = [day for (day,) in bench.query("SELECT DISTINCT date_local FROM pos_orders ORDER BY 1")]
    assert days[0] < FIRST
    assert outdated_days(bench) == days
    assert outdated_days(bench) == []


def test_names_of_ads_without_delivery_are_corrected_too(bench: Bench) -> None:
    bench.sync(DAYS)
    bench.execute(f"DELETE FROM meta_ad_insights WHERE date = '{SECOND}'")
    names = f"SELECT DISTINCT marketing_associate FROM ad_performance WHERE date = '{SECOND}' AND ad_id IS NOT NULL"
    with held(bench) as warehouse:
        warehouse.recompute_performance(FIRST, SECOND, Rates())
    before = bench.query(names)
    assert before
    bench.tenant = with_meta(bench.tenant, naming=Naming(associate_position=2))
    recomputed(bench)
    assert outdated_days(bench) == DAYS
    assert bench.query(names) != before


def test_figures_of_orders_with_a_long_note_are_computed(bench: Bench) -> None:
    bench.sync([FIRST], [POS])
    # Letters of three bytes which do not repeat, so that Postgres cannot compress them.
    note = "".join(map(chr, range(0x4E00, 0x4E00 + 2500)))
    bench.execute(
        "UPDATE pos_orders SET rules = NULL, utm_ad_id = NULL, ad_id = NULL, "
        f"data = data || jsonb_build_object('items', '[{{\"note_product\"\\: \"{note}\"}}]'\\:\\:jsonb)"
    )
    recomputed(bench)
    assert bench.query("SELECT DISTINCT length(mapping) FROM pos_orders") == [(500,)]
    with held(bench) as warehouse:
        assert warehouse.recompute_performance(FIRST, FIRST, Rates()) > 0


def test_rows_of_an_earlier_version_are_corrected(bench: Bench) -> None:
    bench.sync(DAYS)
    current = bench.tables()
    bench.execute("UPDATE pos_orders SET rules = NULL, total = 1, mapping = 'x', ad_candidates = NULL")
    bench.execute("UPDATE meta_ad_insights SET rules = NULL, mapping = 'x', marketing_associate = NULL")
    found = recomputed(bench)
    assert (found.orders, found.insights) == (len(current[1]), len(current[0]))
    insights, orders = bench.tables()
    assert orders == current[1]
    # Of these, it is not known by which action types leads were counted.
    assert [row[:-1] for row in insights] == [row[:-1] for row in current[0]]
    assert recomputed(bench) == Recomputed()


def test_a_stored_abandoned_cart_is_removed(bench: Bench) -> None:
    bench.sync([FIRST], [POS])
    [(shop, number)] = bench.query("SELECT shop_id, pos_order_id FROM pos_orders ORDER BY 1, 2 LIMIT 1")
    which = f"shop_id = '{shop}' AND pos_order_id = '{number}'"
    cart = json.dumps({"status": 0, "is_webcake_abandoned_cart": True})
    bench.execute(f"UPDATE pos_orders SET rules = NULL, data = data || '{cart}' WHERE {which}".replace(":", r"\:"))
    with held(bench) as warehouse:
        warehouse.recompute_performance(FIRST, FIRST, Rates())
        assert warehouse.outdated_performance_days(Rates()) == []
    found = recomputed(bench)
    assert (found.orders_removed, bench.query(f"SELECT * FROM pos_orders WHERE {which}")) == (1, [])
    with held(bench) as warehouse:
        assert warehouse.outdated_performance_days(Rates()) == [FIRST]


def test_an_unreadable_order_stays_and_is_reported(bench: Bench) -> None:
    bench.sync([FIRST], [POS])
    [(shop, number, total)] = bench.query("SELECT shop_id, pos_order_id, total FROM pos_orders ORDER BY 1, 2 LIMIT 1")
    which = f"shop_id = '{shop}' AND pos_order_id = '{number}'"
    bench.execute("UPDATE pos_orders SET rules = NULL")
    bench.execute(f"UPDATE pos_orders SET data = data || jsonb_build_object('cod', 'many') WHERE {which}")
    for _ in range(2):
        [sentence] = recomputed(bench).not_recomputed
        assert sentence == (
            f"shop {shop}: 1 stored orders cannot be read and stay as they are: {number} (cod is not a number); "
            f"fetch {FIRST} to {FIRST} again"
        )
        assert bench.query(f"SELECT total, rules FROM pos_orders WHERE {which}") == [(total, None)]
    assert bench.query("SELECT count(*) FROM pos_orders WHERE rules IS NULL") == [(1,)]


def test_an_interrupted_recomputation_is_finished_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.sync([FIRST], [POS])
    stored = bench.tables()
    bench.execute("UPDATE pos_orders SET rules = NULL, total = 1")
    monkeypatch.setattr(recompute, "ORDERS_AT_ONCE", 5)
    original, read = recompute._recomputed, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal read
        read += 1
        if read > 8:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(recompute, "_recomputed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recomputed(bench)
    assert bench.query("SELECT count(*) FROM pos_orders WHERE rules IS NOT NULL") == [(5,)]
    assert recomputed(bench).orders == len(stored[1]) - 5
    assert bench.tables() == stored


def test_orders_of_a_shop_without_a_key_stay(bench: Bench) -> None:
    bench.sync([FIRST], [POS])
    bench.execute("UPDATE pos_orders SET rules = NULL, total = 1")
    bench.execute(f"UPDATE pos_shops SET api_key_variable = 'GONE' WHERE shop_id = '{FIRST_SHOP}'")
    [sentence] = recomputed(bench).not_recomputed
    assert sentence.startswith(f"shop {FIRST_SHOP}: it is not known which key of the tenant file sees it")
    assert bench.query("SELECT DISTINCT shop_id FROM pos_orders WHERE rules IS NULL") == [(FIRST_SHOP,)]
    bench.tenant = with_key(bench.tenant, money_divisor={FIRST_SHOP: 1})
    assert recomputed(bench).not_recomputed == []
    assert bench.query("SELECT * FROM pos_orders WHERE rules IS NULL") == []


def test_other_lead_types_are_reported_until_fetched_again(bench: Bench) -> None:
    bench.sync(DAYS, [META])
    [(rows,)] = bench.query("SELECT count(*) FROM meta_ad_insights")
    bench.tenant = with_meta(bench.tenant, lead_action_types=("landing_page_view",))
    assert recomputed(bench).not_recomputed == [
        f"leads of {rows} insights, {FIRST} to {SECOND}, were counted by other lead_action_types and are not stored by "
        f"type; to fetch them again: `sync-pipeline trigger lumina daily_sync --since {FIRST} --until {SECOND}`"
    ]
    bench.sync([FIRST], [META])
    [sentence] = recomputed(bench).not_recomputed
    assert f", {SECOND} to {SECOND}, " in sentence
    bench.tenant = with_meta(bench.tenant, naming=Naming(associate_position=2))
    [sentence] = recomputed(bench).not_recomputed
    assert f", {SECOND} to {SECOND}, " in sentence
    bench.sync([SECOND], [META])
    assert recomputed(bench) == Recomputed()


def test_changed_fees_make_performance_outdated(bench: Bench) -> None:
    bench.sync(DAYS)
    rates = Rates(per_order=Decimal(60))
    with held(bench) as warehouse:
        for day in DAYS:
            warehouse.recompute_performance(day, day, Rates())
        assert warehouse.outdated_performance_days(Rates()) == []
        assert warehouse.outdated_performance_days(rates) == DAYS
        warehouse.recompute_performance(FIRST, FIRST, rates)
        assert warehouse.outdated_performance_days(rates) == [SECOND]


def test_an_ad_is_matched_by_the_tenant_s_fields(bench: Bench) -> None:
    bench.tenant = bench.tenant.model_copy(update={"ad_id_fields": ("p_utm_term", "p_utm_medium", "ad_id")})
    bench.sync([FIRST])
    bench.execute(
        "UPDATE pos_orders SET rules = NULL, data = data || jsonb_build_object('p_utm_term', 'ad ' || ("
        "SELECT ad_id FROM meta_ad_insights ORDER BY ad_id LIMIT 1))"
    )
    recomputed(bench)
    assert bench.query("SELECT DISTINCT ad_id, matched_by FROM order_attribution") == bench.query(
        "SELECT ad_id, 'p_utm_term' FROM meta_ad_insights ORDER BY ad_id LIMIT 1"
    )


@pytest.mark.parametrize(
    ("source", "change"), [(POS, "pos_orders SET total = 1"), (META, "meta_ad_insights SET spend = 1")]
)
def test_figures_of_a_changed_day_are_outdated(bench: Bench, source: str, change: str) -> None:
    bench.sync(DAYS)
    with held(bench) as warehouse:
        refresh_with_outdated(bench.tenant, warehouse, DAYS)
    bench.sync(DAYS)
    with held(bench) as warehouse:
        assert warehouse.outdated_performance_days(bench.tenant.rates) == []
    # As if the API had changed its rows of the second day since.
    bench.execute(f"UPDATE {change} WHERE {'date_local' if source == POS else 'date'} = '{SECOND}'")
    bench.sync(DAYS, [source])
    with held(bench) as warehouse:
        assert warehouse.outdated_performance_days(bench.tenant.rates) == [SECOND]
