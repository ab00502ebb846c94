"""Disabled ad accounts and shops: the trigger behind `enabled`, and the figures that exclude their rows."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync_pipeline.date_ranges import today_in
from sync_pipeline.warehouse import exclusions, performance
from sync_pipeline.warehouse.checks import DayChecks
from sync_pipeline.warehouse.errors import UnknownDirectoryEntryError
from sync_pipeline.warehouse.exclusions import AD_ACCOUNTS, ALWAYS, SHOPS, Directory
from sync_pipeline_tests.warehouse.test_performance import RATES, add_insight, add_order

DAYS = [date(2026, 10, day) for day in (4, 5, 6)]
FIRST, SECOND, THIRD = DAYS
# Their days never have the same date at the same moment.
FIRST_TO_WAKE, LAST_TO_WAKE = "Pacific/Kiritimati", "Pacific/Niue"


@pytest.fixture
def warehouse(engine: sa.Engine) -> sa.Engine:
    """Two accounts that spend 100 and 10 a day, and two shops with an order of 1000 and of 200 a day."""
    with engine.connect() as connection:
        with connection.begin():
            connection.execute(sa.text("INSERT INTO tenants VALUES ('acme', 'Acme', 'Asia/Manila')"))
            for account, ad, spend in (("1", "1001", "100"), ("2", "2002", "10")):
                connection.execute(
                    sa.text("INSERT INTO meta_ad_accounts (tenant_id, account_id, name) VALUES ('acme', :id, 'Main')"),
                    {"id": account},
                )
                for day in DAYS:
                    add_insight(
                        connection, "acme", (account, ad, day, "C", "serum", f"Ad {ad}", "ALY", spend, 1, 1, 1, 0)
                    )
            for shop, ad, total in (("s1", "1001", "1000"), ("s2", "2002", "200")):
                connection.execute(
                    sa.text("INSERT INTO pos_shops (tenant_id, shop_id, name) VALUES ('acme', :id, 'Shop')"),
                    {"id": shop},
                )
                for number, day in enumerate(DAYS):
                    order = (shop, str(number), ad, None, 1, total, "0", "50", 2, 1, "serum")
                    add_order(connection, "acme", order, day)
        performance.recompute(connection, "acme", FIRST, THIRD, RATES)
    return engine


@pytest.fixture
def connection(warehouse: sa.Engine) -> Iterator[sa.Connection]:
    with warehouse.connect() as connection:
        yield connection


def execute(connection: sa.Connection, statement: str) -> None:
    with connection.begin():
        connection.execute(sa.text(statement))


def query(connection: sa.Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.begin():
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def state(connection: sa.Connection, directory: Directory, entry_id: str) -> tuple[Any, ...]:
    [found] = query(
        connection,
        f"SELECT enabled, disabled_from::text, recompute_from::text FROM {directory.table.name} "
        f"WHERE {directory.key} = '{entry_id}'",
    )
    return found


def recompute(connection: sa.Connection) -> list[date]:
    """Recompute what is pending, and return the days."""
    pending = exclusions.pending(connection, "acme")
    for day in pending.days:
        performance.recompute(connection, "acme", day, day, RATES)
    exclusions.finish(connection, "acme", pending)
    return sorted(pending.days)


def figures(connection: sa.Connection) -> list[tuple[Any, ...]]:
    found = query(
        connection, "SELECT date, sum(spend), sum(orders), sum(revenue) FROM ad_performance GROUP BY 1 ORDER BY 1"
    )
    return [(day, int(spend), int(orders), int(revenue)) for day, spend, orders, revenue in found]


def unreconciled(connection: sa.Connection) -> list[object]:
    found = DayChecks(connection, "acme", RATES).reconciled(DAYS)
    assert found
    return [one for one in found if one.source != one.performance]


@pytest.mark.parametrize(
    ("directory", "entry_id", "counted"),
    [(AD_ACCOUNTS, "1", (10, 2, 1200)), (SHOPS, "s1", (110, 1, 200))],
    ids=["ad account", "shop"],
)
class TestDisabling:
    def test_from_a_day_excludes_that_and_later_days(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        change = exclusions.disable(warehouse, "acme", directory, entry_id, SECOND)
        assert (change.before.enabled, change.before.disabled_from) == (True, None)
        assert (change.after.enabled, change.after.disabled_from) == (False, SECOND)
        assert len(unreconciled(connection)) > 0
        assert recompute(connection) == [SECOND, THIRD]
        assert figures(connection) == [(FIRST, 110, 2, 1200), (SECOND, *counted), (THIRD, *counted)]
        assert unreconciled(connection) == []
        assert recompute(connection) == []

    def test_always_excludes_every_day(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        change = exclusions.disable(warehouse, "acme", directory, entry_id, ALWAYS)
        assert change.after.disabled_from == ALWAYS
        assert state(connection, directory, entry_id) == (False, "-infinity", "-infinity")
        assert recompute(connection) == DAYS
        assert figures(connection) == [(day, *counted) for day in DAYS]
        assert unreconciled(connection) == []

    def test_without_a_day_keeps_all_past_figures(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        before = today_in("Asia/Manila")
        change = exclusions.disable(warehouse, "acme", directory, entry_id, None)
        assert change.after.disabled_from in {before, today_in("Asia/Manila")}
        assert recompute(connection) == []
        assert figures(connection) == [(day, 110, 2, 1200) for day in DAYS]
        assert counted != (110, 2, 1200)

    def test_without_a_day_uses_the_day_that_the_caller_calls_today(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        change = exclusions.disable(warehouse, "acme", directory, entry_id, None, today=THIRD)
        assert change.after.disabled_from == THIRD
        exclusions.disable(warehouse, "acme", directory, entry_id, None, today=SECOND)
        recompute(connection)
        assert figures(connection)[1:] == [(SECOND, 110, 2, 1200), (THIRD, *counted)]

    def test_again_without_a_day_keeps_the_day(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        exclusions.disable(warehouse, "acme", directory, entry_id, SECOND)
        change = exclusions.disable(warehouse, "acme", directory, entry_id, None)
        assert change.before == change.after
        recompute(connection)
        assert figures(connection)[1:] == [(SECOND, *counted), (THIRD, *counted)]

    def test_from_a_later_day_brings_the_days_before_back(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        exclusions.disable(warehouse, "acme", directory, entry_id, FIRST)
        recompute(connection)
        exclusions.disable(warehouse, "acme", directory, entry_id, THIRD)
        assert recompute(connection) == DAYS
        assert figures(connection) == [(FIRST, 110, 2, 1200), (SECOND, 110, 2, 1200), (THIRD, *counted)]
        assert unreconciled(connection) == []

    def test_is_undone_by_enabling(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        exclusions.disable(warehouse, "acme", directory, entry_id, SECOND)
        recompute(connection)
        assert figures(connection)[1:] == [(SECOND, *counted), (THIRD, *counted)]
        change = exclusions.enable(warehouse, "acme", directory, entry_id)
        assert (change.before.disabled_from, change.after.disabled_from) == (SECOND, None)
        assert recompute(connection) == [SECOND, THIRD]
        assert figures(connection) == [(day, 110, 2, 1200) for day in DAYS]

    def test_in_plain_sql_has_the_same_effect(
        self, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        update = f"UPDATE {directory.table.name} SET {{}} WHERE {directory.key} = '{entry_id}'"
        before = today_in("Asia/Manila")
        execute(connection, update.format("enabled = false"))
        today = state(connection, directory, entry_id)[1]
        assert today in {str(before), str(today_in("Asia/Manila"))}
        assert state(connection, directory, entry_id) == (False, today, today)
        execute(connection, update.format(f"disabled_from = '{THIRD}'"))
        assert state(connection, directory, entry_id) == (False, str(THIRD), str(THIRD))
        assert recompute(connection) == [THIRD]
        assert figures(connection) == [(FIRST, 110, 2, 1200), (SECOND, 110, 2, 1200), (THIRD, *counted)]
        execute(connection, update.format("enabled = true"))
        assert state(connection, directory, entry_id) == (True, None, str(THIRD))
        assert recompute(connection) == [THIRD]
        assert figures(connection) == [(day, 110, 2, 1200) for day in DAYS]

    def test_while_figures_are_computed_stays_pending(
        self, warehouse: sa.Engine, connection: sa.Connection, directory: Directory, entry_id: str, counted: Any
    ) -> None:
        exclusions.disable(warehouse, "acme", directory, entry_id, SECOND)
        pending = exclusions.pending(connection, "acme")
        exclusions.disable(warehouse, "acme", directory, entry_id, THIRD)
        exclusions.finish(connection, "acme", pending)
        assert recompute(connection) == [SECOND, THIRD]
        assert figures(connection)[1:] == [(SECOND, 110, 2, 1200), (THIRD, *counted)]


@pytest.mark.parametrize("directory", [AD_ACCOUNTS, SHOPS], ids=["ad account", "shop"])
def test_an_enabled_row_with_a_day_is_refused(connection: sa.Connection, directory: Directory) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="disabled_from_check"):
        execute(connection, f"UPDATE {directory.table.name} SET disabled_from = '2026-10-05'")


def test_today_is_that_of_the_tenants_timezone(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        for timezone in (FIRST_TO_WAKE, LAST_TO_WAKE):
            execute(connection, f"INSERT INTO tenants VALUES ('{timezone}', 'T', '{timezone}')")
            insert = "INSERT INTO pos_shops (tenant_id, shop_id, enabled) VALUES"
            before = today_in(timezone)
            execute(connection, f"{insert} ('{timezone}', '1', false)")
            [(day,)] = query(connection, f"SELECT disabled_from FROM pos_shops WHERE tenant_id = '{timezone}'")
            assert day in {before, today_in(timezone)}
        assert query(connection, "SELECT count(DISTINCT disabled_from) FROM pos_shops") == [(2,)]


def test_a_day_without_any_counted_row_comes_back(warehouse: sa.Engine, connection: sa.Connection) -> None:
    for directory, ids in ((AD_ACCOUNTS, ("1", "2")), (SHOPS, ("s1", "s2"))):
        for entry_id in ids:
            exclusions.disable(warehouse, "acme", directory, entry_id, ALWAYS)
    recompute(connection)
    assert figures(connection) == []
    execute(connection, "UPDATE pos_shops SET enabled = true WHERE shop_id = 's2'")
    assert recompute(connection) == DAYS
    assert figures(connection) == [(day, 0, 1, 200) for day in DAYS]


def test_an_order_keeps_the_ad_of_a_disabled_account(warehouse: sa.Engine, connection: sa.Connection) -> None:
    exclusions.disable(warehouse, "acme", AD_ACCOUNTS, "1", ALWAYS)
    recompute(connection)
    names = "ad_id, account_id, ad_name, marketing_associate, mapping"
    assert query(
        connection, f"SELECT {names}, spend, revenue FROM ad_performance WHERE date = '{SECOND}' ORDER BY 1"
    ) == [
        ("1001", "1", "Ad 1001", "ALY", "serum", Decimal(0), Decimal(1000)),
        ("2002", "2", "Ad 2002", "ALY", "serum", Decimal(10), Decimal(200)),
    ]


def test_checks_of_figures_ignore_excluded_rows(warehouse: sa.Engine, connection: sa.Connection) -> None:
    execute(connection, "UPDATE meta_ad_insights SET currency = CASE account_id WHEN '1' THEN 'USD' ELSE 'PHP' END")
    execute(connection, "UPDATE pos_orders SET currency = CASE shop_id WHEN 's1' THEN 'USD' ELSE 'PHP' END")
    checks = DayChecks(connection, "acme", RATES)
    assert {currency for _, _, currency in checks.currencies(DAYS)} == {"PHP", "USD"}
    assert [share.part for share in checks.uncosted(DAYS)] == [2, 2, 2]
    exclusions.disable(warehouse, "acme", AD_ACCOUNTS, "1", SECOND)
    exclusions.disable(warehouse, "acme", SHOPS, "s1", SECOND)
    assert {(day, currency) for day, _, currency in checks.currencies(DAYS) if currency == "USD"} == {(FIRST, "USD")}
    assert [share.part for share in checks.uncosted(DAYS)] == [2, 1, 1]


def test_an_unknown_account_or_shop_is_named(warehouse: sa.Engine) -> None:
    with pytest.raises(UnknownDirectoryEntryError, match="acme has no ad account '9'; it has 1, 2") as raised:
        exclusions.disable(warehouse, "acme", AD_ACCOUNTS, "9", None)
    assert (raised.value.noun, raised.value.entry_id, raised.value.known) == ("ad account", "9", ["1", "2"])
    with pytest.raises(UnknownDirectoryEntryError, match="no shop of other is stored yet; run one of its workflows"):
        exclusions.enable(warehouse, "other", SHOPS, "s1")
