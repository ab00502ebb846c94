"""`sync-pipeline accounts` and `shops`: lists, what disabling and enabling change, and what they refuse."""

import threading
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_pipeline.cli.exclusions import FutureDayError
from sync_pipeline.date_ranges import today_in
from sync_pipeline.tenants import load_tenant
from sync_pipeline.warehouse import performance
from sync_pipeline.warehouse.database import bound_to
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.waiting import PATIENCE_S, lasting_today, wait_until
from sync_pipeline_tests.warehouse.test_performance import add_insight, add_order

FIRST, SECOND = date(2026, 10, 5), date(2026, 10, 6)
FIGURES = "SELECT date::text, sum(spend)::int, sum(orders)::int FROM ad_performance GROUP BY 1 ORDER BY 1"
MANILA = "Asia/Manila"


@pytest.fixture
def stored(installed: Installed, shell: Shell) -> Installed:
    """Two days of lumina: accounts 111 and 222 spend 100 and 10 a day, shops 1 and 2 have an order a day."""
    rates = load_tenant(shell.tenants, "lumina").rates
    with bound_to(installed.warehouse.engine, "lumina") as connection:
        with connection.begin():
            for statement in (
                f"INSERT INTO tenants VALUES ('lumina', 'L', '{MANILA}')",
                "INSERT INTO meta_ad_accounts (tenant_id, account_id, name, currency, timezone_name, account_status, "
                "listed_at) VALUES ('lumina', '111', E'Main\\x1b[31m', 'PHP', 'Asia/Manila', 1, '2026-10-07T12:00Z'), "
                "('lumina', '222', NULL, NULL, NULL, NULL, NULL)",
                "INSERT INTO pos_shops (tenant_id, shop_id, name) VALUES ('lumina', '1', 'Manila'), "
                "('lumina', '2', 'Cebu')",
            ):
                connection.execute(sa.text(statement))
            for day in (FIRST, SECOND):
                for account, spend in (("111", "100"), ("222", "10")):
                    delivered = ("serum", "AD", "ALY", spend, 1, 1, 1, 0)
                    add_insight(connection, "lumina", (account, f"ad{account}", day, "C1", *delivered))
                for shop in ("1", "2"):
                    order = (shop, f"{day.day}", None, None, 1, "1000", "0", "0", 1, 0, "serum")
                    add_order(connection, "lumina", order, day)
        performance.recompute(connection, "lumina", FIRST, SECOND, rates)
    return installed


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def said(installed: Installed, *arguments: str) -> list[str]:
    result = installed.command(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def query(engine: sa.Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def materialized(installed: Installed) -> dict[str | None, Any]:
    """The ad cost of each day, as Dagster last showed it."""
    key = dg.AssetKey(["lumina", "ad_performance"])
    records = installed.instance.fetch_materializations(key, limit=100).records
    return {
        record.partition_key: record.asset_materialization.metadata["spend"].value
        for record in reversed(records)
        if record.asset_materialization
    }


def test_accounts_and_shops_are_listed_with_their_state(stored: Installed, engine: sa.Engine) -> None:
    header, *lines = said(stored, "accounts", "lumina")
    assert cells(header) == [
        *("TENANT", "ACCOUNT", "NAME", "CURRENCY", "TIMEZONE", "STATUS", "SYNC", "EXCLUDED FROM", "LAST LISTED")
    ]
    assert [cells(line)[:8] for line in lines] == [
        ["lumina", "111", "Main [31m", "PHP", "Asia/Manila", "1", "enabled", "-"],
        ["lumina", "222", "-", "-", "-", "-", "enabled", "-"],
    ]
    said(stored, "accounts", "disable", "lumina", "222", "--from", "2026-10-06")
    said(stored, "shops", "disable", "lumina", "2", "--always")
    assert cells(said(stored, "accounts")[2])[6:8] == ["disabled", "2026-10-06"]
    assert [cells(line)[1:5] for line in said(stored, "shops", "list", "lumina")[1:]] == [
        ["1", "Manila", "enabled", "-"],
        ["2", "Cebu", "disabled", "always"],
    ]
    assert len(said(stored, "shops", "mekong")) == 1


def test_disabling_an_account_recomputes_its_days_at_once(stored: Installed, engine: sa.Engine) -> None:
    before = [("2026-10-05", 110, 2), ("2026-10-06", 110, 2)]
    assert query(engine, FIGURES) == before
    assert said(stored, "accounts", "disable", "lumina", "act_111", "--from", "2026-10-06") == [
        "lumina: ad account 111 is disabled; figures exclude days from 2026-10-06 on",
        "recomputed: 2026-10-06",
    ]
    assert query(engine, FIGURES) == [("2026-10-05", 110, 2), ("2026-10-06", 10, 2)]
    assert materialized(stored) == {"2026-10-06": 10.0}
    assert said(stored, "accounts", "disable", "lumina", "111", "--always") == [
        "lumina: ad account 111 is still disabled; figures exclude every day",
        "recomputed: 2026-10-05 to 2026-10-06",
    ]
    assert query(engine, FIGURES) == [("2026-10-05", 10, 2), ("2026-10-06", 10, 2)]
    assert said(stored, "accounts", "disable", "lumina", "111") == [
        "lumina: ad account 111 is already disabled; figures exclude every day",
        "no stored figures change",
    ]
    assert said(stored, "accounts", "enable", "lumina", "111") == [
        "lumina: ad account 111 is enabled; figures include every day",
        "recomputed: 2026-10-05 to 2026-10-06",
    ]
    assert query(engine, FIGURES) == before
    assert materialized(stored) == {"2026-10-05": 110.0, "2026-10-06": 110.0}


def test_disabling_from_today_uses_the_timezone_of_the_file(stored: Installed, engine: sa.Engine) -> None:
    today = lasting_today(MANILA)
    # At any moment, it is another day in one of the two.
    elsewhere = next(zone for zone in ("Pacific/Kiritimati", "Pacific/Niue") if today_in(zone) != today)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE tenants SET timezone = '{elsewhere}'"))
    said(stored, "shops", "disable", "lumina", "1")
    assert query(engine, "SELECT disabled_from FROM pos_shops WHERE shop_id = '1'") == [(today,)]


def test_disabling_a_shop_from_today_changes_no_past_day(stored: Installed, engine: sa.Engine) -> None:
    before = query(engine, FIGURES)
    today = lasting_today(MANILA)
    assert said(stored, "shops", "disable", "lumina", "1") == [
        f"lumina: shop 1 is disabled; figures exclude days from {today} on",
        "no stored figures change",
    ]
    assert query(engine, FIGURES) == before
    said(stored, "shops", "disable", "lumina", "1", "--from", "2026-10-05")
    assert query(engine, FIGURES) == [("2026-10-05", 110, 1), ("2026-10-06", 110, 1)]


def test_enabling_names_the_days_that_syncs_left_out(stored: Installed) -> None:
    yesterday = lasting_today(MANILA) - timedelta(days=1)
    missing = "days from {} on may be missing, because syncs have left it out; run: sync-pipeline trigger lumina "
    for option, since in ((("--from", "2026-10-06"), "2026-10-06"), (("--always",), "2026-01-01")):
        said(stored, "shops", "disable", "lumina", "1", *option)
        result = stored.command("shops", "enable", "lumina", "1")
        assert result.stderr == f"warning: {missing.format(since)}daily_sync --since {since} --until {yesterday}\n"
    said(stored, "shops", "disable", "lumina", "1")
    assert stored.command("shops", "enable", "lumina", "1").stderr == ""
    result = stored.command("shops", "enable", "lumina", "1")
    assert result.stderr == ""
    assert result.stdout.splitlines()[0] == "lumina: shop 1 is already enabled; figures include every day"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("accounts", "disable", "lumina", "9"), "lumina has no ad account '9'; it has 111, 222"),
        (("shops", "enable", "lumina", "9"), "lumina has no shop '9'; it has 1, 2"),
        (("shops", "disable", "mekong", "9"), "no shop of mekong is stored yet; run one of its workflows first"),
        (("shops", "disable", "lumnia", "1"), "there is no tenant 'lumnia'; there are lumina, mekong"),
        (("shops", "lumnia"), "there is no tenant 'lumnia'; there are lumina, mekong"),
    ],
)
def test_an_unknown_name_is_a_clear_error(stored: Installed, arguments: tuple[str, ...], message: str) -> None:
    result = stored.command(*arguments)
    assert result.exit_code == 1
    assert message in str(result.exception)


def test_a_future_day_is_refused_and_changes_nothing(stored: Installed, engine: sa.Engine) -> None:
    tomorrow = lasting_today(MANILA) + timedelta(days=1)
    result = stored.command("shops", "disable", "lumina", "1", "--from", str(tomorrow))
    assert result.exit_code == 1
    assert isinstance(result.exception, FutureDayError)
    assert (result.exception.day, result.exception.today) == (tomorrow, today_in(MANILA))
    assert query(engine, "SELECT DISTINCT enabled FROM pos_shops") == [(True,)]
    both = stored.command("shops", "disable", "lumina", "1", "--from", "2026-10-05", "--always")
    assert both.exit_code == 2
    assert "use either --from or --always, not both" in both.output


def test_a_run_in_progress_delays_the_figures_only(stored: Installed, engine: sa.Engine) -> None:
    held = threading.Event()
    seen: list[object] = []

    def run() -> None:
        with stored.warehouse.tenant("lumina", name="L", timezone=MANILA):
            held.set()
            seen.append(wait_until(lambda: query(engine, "SELECT shop_id FROM pos_shops WHERE NOT enabled")))
            seen.append(query(engine, FIGURES))

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(PATIENCE_S)
    result = stored.command("shops", "disable", "lumina", "1", "--from", "2026-10-05")
    thread.join(PATIENCE_S)
    assert seen == [[("1",)], [("2026-10-05", 110, 2), ("2026-10-06", 110, 2)]]
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "recomputed: 2026-10-05 to 2026-10-06"
    assert query(engine, FIGURES) == [("2026-10-05", 110, 1), ("2026-10-06", 110, 1)]
