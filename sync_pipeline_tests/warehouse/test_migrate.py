"""The migrations make exactly the schema that the code works on, and say so where they have not run."""

import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL

from sync_pipeline.date_ranges import last_end, today_in
from sync_pipeline.warehouse import access, database
from sync_pipeline.warehouse.errors import (
    DependentViewsError,
    SchemaOutdatedError,
    UnsupportedDriverError,
    WarehouseUnreachableError,
    WarehouseUrlError,
)
from sync_pipeline.warehouse.migrate import MIGRATIONS, migrate, require_current
from sync_pipeline.warehouse.schema import metadata
from sync_pipeline_tests import templates


@pytest.fixture
def empty(server: URL) -> Iterator[sa.Engine]:
    url = server.set(database="empty")
    database.create_database(url)
    engine = database.connect(url)
    yield engine
    engine.dispose()
    # As superuser: the owner of a database may not end a process that vacuums it.
    templates.drop(url)


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def test_migrations_and_schema_agree(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_migration_s_file_begins_with_its_revision_and_the_last_one_has_the_highest_number() -> None:
    scripts = ScriptDirectory.from_config(configuration())
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert scripts.get_current_head() == max(revisions)
    assert sorted(Path(script.path).name[:4] for script in scripts.walk_revisions()) == sorted(revisions)


def test_a_warehouse_that_was_never_migrated_says_what_to_run(empty: sa.Engine) -> None:
    with pytest.raises(SchemaOutdatedError, match="run `sync-pipeline migrate`"):
        require_current(empty)
    before, after = migrate(empty)
    assert before is None
    assert migrate(empty) == (after, after)
    require_current(empty)


def test_the_errors_that_are_shown_stay_the_same_over_the_change_to_the_order_of_the_log(empty: sa.Engine) -> None:
    shown = "SELECT tenant_id, last_error, rows FROM sync_health ORDER BY tenant_id"
    with empty.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.exec_driver_sql("INSERT INTO tenants VALUES ('acme', 'A', 'UTC'), ('other', 'O', 'UTC')")
        for tenant, failed, stored in (("acme", "10:00", "9:00"), ("other", "10:00", "11:00")):
            connection.exec_driver_sql(
                "INSERT INTO sync_errors (tenant_id, source, day, message, run_id, at) "
                f"VALUES ('{tenant}', 'pos', '2026-10-05', 'refused', 'run', '2026-10-06T{failed}Z')"
            )
            connection.exec_driver_sql(
                "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, "
                "requests, complete, started, finished) "
                f"VALUES ('{tenant}', 'pos', '2026-10-05', 'run', 1, 0, 0, 0, 0, 1, true, '2026-10-06T08:00Z', "
                f"'2026-10-06T{stored}Z')"
            )
        before = connection.exec_driver_sql(shown).all()
    assert before == [("acme", "refused", 1), ("other", None, 1)]
    assert migrate(empty)[0] == "0004"
    with empty.connect() as connection:
        connection.exec_driver_sql("SET sync_pipeline.tenant = 'acme'")
        after = connection.exec_driver_sql(shown).all()
        connection.exec_driver_sql("SET sync_pipeline.tenant = 'other'")
        assert after + connection.exec_driver_sql(shown).all() == before


def test_stored_text_is_normalized_and_rules_are_unknown(empty: sa.Engine) -> None:
    decomposed = unicodedata.normalize("NFD", "Sữa")
    with empty.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        for statement in (
            "INSERT INTO tenants VALUES ('acme', 'A', 'UTC')",
            "INSERT INTO meta_ad_insights (tenant_id, account_id, ad_id, date, ad_name, mapping, spend, impressions, "
            "clicks, link_clicks, leads) VALUES ('acme', '1', '{0}', '2026-10-05', '{0}', 'serum', 0, 0, 0, 0, 0)",
            "INSERT INTO pos_orders (tenant_id, shop_id, pos_order_id, inserted_at, date_local, total, cod, cogs, "
            "uncosted_quantity, total_quantity, mapping, ad_id, data) "
            "VALUES ('acme', '1', '{0}', now(), '2026-10-05', 0, 0, 0, 0, 0, '{0}', '{0}', '{{}}')",
            "INSERT INTO pos_products (tenant_id, shop_id, product_id, variation_id, custom_id, name, retail_price, "
            "listed_at) VALUES ('acme', '1', '{0}', '', '{0}', '{0}', 0, now())",
            "INSERT INTO product_costs (tenant_id, line, product_id, mapping) VALUES ('acme', 2, '{0}', '{0}')",
        ):
            connection.exec_driver_sql(statement.format(decomposed))
    migrate(empty)
    with empty.connect() as connection:
        connection.exec_driver_sql("SET sync_pipeline.tenant = 'acme'")
        for query in (
            "SELECT ad_id, ad_name FROM meta_ad_insights WHERE rules IS NULL AND mapping = 'serum'",
            "SELECT pos_order_id, mapping FROM pos_orders WHERE rules IS NULL AND ad_candidates IS NULL AND ad_id = "
            f"'{decomposed}'",
            "SELECT custom_id, name FROM pos_products WHERE variation_custom_id IS NULL",
            "SELECT product_id, mapping FROM product_costs",
        ):
            assert connection.exec_driver_sql(query).all() == [(decomposed, "Sữa")]


def test_disabled_rows_are_excluded_from_the_migrations_day(empty: sa.Engine) -> None:
    timezones = ("Pacific/Kiritimati", "Pacific/Niue")
    with empty.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
        for number, timezone in enumerate(timezones):
            connection.exec_driver_sql(f"INSERT INTO tenants VALUES ('t{number}', 'T', '{timezone}')")
            for table, key in (("meta_ad_accounts", "account_id"), ("pos_shops", "shop_id")):
                connection.exec_driver_sql(
                    f"INSERT INTO {table} (tenant_id, {key}, enabled) VALUES ('t{number}', 'on', true), "
                    f"('t{number}', 'off', false)"
                )
    before = [today_in(timezone) for timezone in timezones]
    migrate(empty)
    after = [today_in(timezone) for timezone in timezones]
    with empty.connect() as connection:
        for number in range(len(timezones)):
            connection.exec_driver_sql(f"SET sync_pipeline.tenant = 't{number}'")
            for table in ("meta_ad_accounts", "pos_shops"):
                columns = "enabled, disabled_from, recompute_from"
                off, on = connection.exec_driver_sql(f"SELECT {columns} FROM {table} ORDER BY enabled").all()
                assert on == (True, None, None)
                assert (off[0], off[1]) == (False, off[2])
                assert off[1] in {before[number], after[number]}


LINE = (
    "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, requests, "
    "complete, reported, started, finished) VALUES (%s, %s, %s, %s, 0, 0, 0, 0, 0, %s, true, %s, %s, %s)"
)
# Days on which clocks change at or near midnight somewhere, days that a zone left out, and days without any change.
DAYS_WITH_CHANGES = (
    *("2026-11-05", "2026-11-01", "2026-10-31", "2026-10-25", "2026-10-24", "2026-03-28", "2026-03-29", "2026-03-08"),
    *("2025-11-01", "2025-11-02", "2018-11-03", "2019-02-16", "2011-12-29", "2011-12-30", "2006-10-28", "2026-04-05"),
)
ZONES = (
    *("Asia/Manila", "America/Los_Angeles", "Pacific/Auckland", "America/Havana", "Atlantic/Azores", "Asia/Beirut"),
    *("America/Sao_Paulo", "Pacific/Apia", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Kiritimati", "UTC"),
)


def at_0011(connection: sa.Connection) -> None:
    """Bring an empty database to the version before the sync log had `over_at`."""
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "0011")


def test_stored_days_are_over_in_the_stored_timezones(empty: sa.Engine) -> None:
    started = datetime(2026, 11, 20, tzinfo=UTC)
    asia_and_america = ["Asia/Tokyo", "America/Los_Angeles"]
    # By tenant: its timezone, those of its ad accounts, the totals that its days of Meta note, and the timezones of the
    # accounts that these were fetched from.
    tenants: dict[str, tuple[str, list[str | None], str | None, list[str | None]]] = {
        **{f"zone{n}": (zone, [], "{}", []) for n, zone in enumerate(ZONES)},
        **{
            f"account{n}": ("Asia/Manila", [zone, "Pacific/Niue"], '{"0": "1.00"}', [zone])
            for n, zone in enumerate(ZONES)
        },
        "one_of_two": ("Asia/Manila", [*asia_and_america], '{"0": "1.00"}', ["Asia/Tokyo"]),
        "without_totals": ("Asia/Manila", [*asia_and_america], None, [*asia_and_america]),
        "totals_of_json_null": ("Asia/Manila", [*asia_and_america], "null", [*asia_and_america]),
        "no_timezone": ("Asia/Manila", [None], '{"0": "1.00"}', [None]),
        "unknown_timezone": ("Asia/Manila", ["Mars/Olympus"], '{"0": "1.00"}', [None]),
        "posix_rule": ("Asia/Manila", ["XYZ+3"], '{"0": "1.00"}', [None]),
        "account_that_is_not_stored": ("Asia/Manila", [], '{"0": "1.00"}', [None]),
        "unreadable_total": ("Asia/Manila", ["America/Los_Angeles"], "{}", ["America/Los_Angeles"]),
    }
    with empty.begin() as connection:
        at_0011(connection)
        for tenant, (zone, accounts, reported, _) in tenants.items():
            connection.exec_driver_sql("INSERT INTO tenants VALUES (%s, 'T', %s)", (tenant, zone))
            for number, account_zone in enumerate(accounts):
                connection.exec_driver_sql(
                    "INSERT INTO meta_ad_accounts (tenant_id, account_id, timezone_name) VALUES (%s, %s, %s)",
                    (tenant, str(number), account_zone),
                )
            for day in DAYS_WITH_CHANGES:
                for source, said in (("meta", reported), ("pos", '{"7": {"listed": 1}}')):
                    connection.exec_driver_sql(LINE, (tenant, source, day, "run", 1, said, started, started))
        connection.exec_driver_sql(
            "INSERT INTO rejected_rows (tenant_id, source, day, kind, account_id, field, reason, run_id) "
            "SELECT tenant_id, source, day, 'account day', '0', 'spend', 'is not a number', 'run' "
            "FROM sync_log WHERE tenant_id = 'unreadable_total' AND source = 'meta'"
        )
    migrate(empty)
    wrong, checked = {}, 0
    with empty.connect() as connection:
        for tenant, (zone, _, _, fetched) in tenants.items():
            connection.exec_driver_sql(f"SET sync_pipeline.tenant = '{tenant}'")
            for day, source, over_at in connection.exec_driver_sql("SELECT day, source, over_at FROM sync_log"):
                expected = last_end(day, [zone, *(fetched if source == "meta" else [])])
                checked += 1
                if over_at != expected:
                    wrong[tenant, source, day] = (over_at, expected)
    assert wrong == {}
    assert checked == 2 * len(tenants) * len(DAYS_WITH_CHANGES)


def test_a_tenant_of_an_unknown_timezone_is_migrated(empty: sa.Engine) -> None:
    day, started = date(2026, 11, 5), datetime(2026, 11, 20, tzinfo=UTC)
    with empty.begin() as connection:
        at_0011(connection)
        connection.exec_driver_sql("INSERT INTO tenants VALUES ('acme', 'A', 'Mars/Olympus')")
        connection.exec_driver_sql(LINE, ("acme", "pos", day, "run", 1, "{}", started, started))
    migrate(empty)
    with empty.connect() as connection:
        connection.exec_driver_sql("SET sync_pipeline.tenant = 'acme'")
        assert connection.exec_driver_sql("SELECT over_at FROM sync_log").scalar_one() == last_end(day, [None])


def test_stored_days_were_fetched_with_their_windows(empty: sa.Engine) -> None:
    began = datetime(2026, 11, 20, tzinfo=UTC)
    # By run: the requests counted on each of its days, which are an hour apart.
    runs = {"window": (4, 0, 0), "two_windows": (4, 0, 5), "no_requests": (0, 0, 0)}
    with empty.begin() as connection:
        at_0011(connection)
        connection.exec_driver_sql("INSERT INTO tenants VALUES ('acme', 'A', 'UTC')")
        for run, requests in runs.items():
            for hour, count in enumerate(requests):
                day, started = date(2026, 11, 10 + hour), began + timedelta(hours=hour)
                connection.exec_driver_sql(LINE, ("acme", "meta", day, run, count, "{}", started, started))
                other = started + timedelta(minutes=30)
                connection.exec_driver_sql(LINE, ("acme", "pos", day, run, 1, "{}", other, other))
    migrate(empty)
    with empty.connect() as connection:
        connection.exec_driver_sql("SET sync_pipeline.tenant = 'acme'")
        lines = connection.exec_driver_sql("SELECT source, run_id, fetched_at, started FROM sync_log ORDER BY id").all()
    assert all(fetched_at == started for source, _, fetched_at, started in lines if source == "pos")
    hours: dict[str, list[float]] = {run: [] for run in runs}
    for source, run, fetched_at, _ in lines:
        if source == "meta":
            hours[run].append((fetched_at - began) / timedelta(hours=1))
    assert hours == {"window": [0, 0, 0], "two_windows": [0, 0, 2], "no_requests": [0, 1, 2]}


def test_a_day_stored_too_early_is_no_longer_complete(empty: sa.Engine) -> None:
    # 02:00 in Manila, when it was still the 19th in Los Angeles.
    started = datetime(2026, 10, 19, 18, tzinfo=UTC)
    account = "INSERT INTO meta_ad_accounts (tenant_id, account_id, timezone_name) VALUES ('acme', '0', %s)"
    last_complete = "SELECT last_complete_day FROM sync_health"
    with empty.begin() as connection:
        at_0011(connection)
        connection.exec_driver_sql("INSERT INTO tenants VALUES ('acme', 'A', 'Asia/Manila')")
        connection.exec_driver_sql(account, ("America/Los_Angeles",))
        for day in ("2026-10-18", "2026-10-19"):
            connection.exec_driver_sql(LINE, ("acme", "meta", day, "run", 1, '{"0": "1.00"}', started, started))
        assert connection.exec_driver_sql(last_complete).scalar_one() == date(2026, 10, 19)
    migrate(empty)
    with empty.connect() as connection:
        connection.exec_driver_sql("SET sync_pipeline.tenant = 'acme'")
        assert connection.exec_driver_sql(last_complete).scalar_one() == date(2026, 10, 18)


def test_quantities_keep_their_values_and_views_their_readers(empty: sa.Engine) -> None:
    totals = "SELECT quantity, uncosted_quantity FROM ad_performance_by_campaign"
    orders = "SELECT total_quantity, uncosted_quantity FROM order_attribution"
    with empty.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
        connection.exec_driver_sql("CREATE ROLE reports_of_quantities")
        connection.exec_driver_sql("GRANT SELECT ON ad_performance_by_campaign TO reports_of_quantities")
        columns = connection.exec_driver_sql(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'ad_performance' "
            "AND is_nullable = 'NO' AND is_generated = 'NEVER' AND column_name NOT IN ('tenant_id', 'date', 'quantity')"
        )
        named = [str(name) for name in columns.scalars()]
        for statement in (
            "INSERT INTO tenants VALUES ('acme', 'A', 'UTC')",
            "INSERT INTO pos_orders (tenant_id, shop_id, pos_order_id, inserted_at, date_local, total, cod, cogs, "
            "uncosted_quantity, total_quantity, data) VALUES ('acme', '1', '1', now(), '2026-10-05', 0, 0, 0, 2, 3, "
            "'{}')",
            f"INSERT INTO ad_performance (tenant_id, date, quantity, {', '.join(named)}) "
            f"VALUES ('acme', '2026-10-05', 3, {', '.join(['2'] * len(named))})",
        ):
            connection.exec_driver_sql(statement)
    migrate(empty)
    with empty.begin() as connection:
        connection.exec_driver_sql("SET LOCAL sync_pipeline.tenant = 'acme'")
        assert [tuple(map(str, row)) for row in connection.exec_driver_sql(totals)] == [("3", "2")]
        assert [tuple(map(str, row)) for row in connection.exec_driver_sql(orders)] == [("3", "2")]
        connection.exec_driver_sql("UPDATE pos_orders SET total_quantity = 1.5")
        assert [str(row[0]) for row in connection.exec_driver_sql(orders)] == ["1.5"]
        granted = "SELECT has_table_privilege('reports_of_quantities', 'ad_performance_by_campaign', 'SELECT')"
        assert connection.exec_driver_sql(granted).scalar_one()
        options = "SELECT reloptions FROM pg_class WHERE relname IN ('order_attribution', 'ad_performance_by_mapping')"
        assert connection.exec_driver_sql(options).all() == [(["security_invoker=true"],)] * 2
        connection.exec_driver_sql("REVOKE SELECT ON ad_performance_by_campaign FROM reports_of_quantities")
        connection.exec_driver_sql("DROP ROLE reports_of_quantities")


def test_views_of_a_user_on_changed_columns_are_refused(empty: sa.Engine) -> None:
    with empty.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
        connection.exec_driver_sql("CREATE VIEW units AS SELECT sum(total_quantity) AS units FROM pos_orders")
        connection.exec_driver_sql("CREATE VIEW campaigns AS SELECT quantity FROM ad_performance_by_campaign")
        connection.exec_driver_sql("CREATE VIEW totals AS SELECT total FROM pos_orders")
    with pytest.raises(DependentViewsError) as refused:
        migrate(empty)
    assert set(refused.value.views) == {"units", "campaigns"}
    assert "drop them, run `sync-pipeline migrate` again, and create them again" in str(refused.value)
    with empty.begin() as connection:
        assert connection.exec_driver_sql("SELECT units FROM units").all() == [(None,)]
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "0008"
        connection.exec_driver_sql("DROP VIEW units, campaigns")
    migrate(empty)
    require_current(empty)


@pytest.mark.parametrize("revision", ["0001", "0003", "0004"])
def test_what_is_open_is_told_before_every_migration(empty: sa.Engine, revision: str) -> None:
    with empty.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    on_tables = [one for one in access.exposures(empty) if one.startswith("row-level security is not on for ")]
    assert [one.partition(": ")[2] for one in on_tables] == ["run `sync-pipeline migrate`"]
    migrate(empty)
    assert access.exposures(empty) == []


def test_a_database_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    url = database.parse_url(f"postgresql://someone:marker-secret@/nowhere?host={tmp_path}")
    with pytest.raises(WarehouseUnreachableError) as caught:
        database.connect(url)
    assert "nowhere" in str(caught.value)
    assert "marker-secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["marker-secret", "marker%2Fsecret", "marker%40secret", "mar/ker-secret"])
def test_what_the_driver_says_is_shown_without_the_password(password: str) -> None:
    url = database.parse_url(f"postgresql://someone:{password}@{password}.invalid/nowhere")
    with pytest.raises(WarehouseUnreachableError) as caught:
        database.connect(url)
    # The driver quotes the host, which is the password here so that it comes into its words.
    assert "could not translate" in caught.value.reason
    assert "secret" not in caught.value.reason


def test_a_socket_folder_may_have_an_at_sign(tmp_path: Path) -> None:
    folder = tmp_path / "user@domain"
    assert database.parse_url(f"postgresql://someone@/nowhere?host={folder}").query["host"] == str(folder)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_postgres_scheme_means_psycopg2(scheme: str) -> None:
    parsed = database.parse_url(f"{scheme}://u:p%40ss@h:5433/d?sslmode=require")
    assert parsed.render_as_string(hide_password=False) == "postgresql+psycopg2://u:p%40ss@h:5433/d?sslmode=require"


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql+psycopg", "postgres+pg8000", "mysql", "sqlite"])
def test_another_driver_is_refused_with_the_remedy(scheme: str) -> None:
    with pytest.raises(UnsupportedDriverError) as caught:
        database.parse_url(f"{scheme}://u:marker-secret@h/d", database.DAGSTER_VARIABLE)
    assert caught.value.scheme == scheme
    assert str(caught.value) == (
        f"DAGSTER_POSTGRES_URL begins with {scheme}://, but only PostgreSQL with the driver psycopg2 is supported; "
        "begin it with postgresql:// or postgresql+psycopg2://"
    )


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://u:marker-secret@h/d", "marker-secret", "postgresql+asyncpg://h/d", "http://["),
        *("u:marker-secret@h", "//u:marker-secret@h/d", "postgresql+psycopg2:u:marker-secret@h/d"),
        "marker-secret://h/d",
        # A part of the password would be taken for the host, the port, the database or an option, and be shown.
        *("postgresql://u:a@marker-secret@h/d", "postgresql://u:a@marker-secret/b@h/d"),
        *("postgresql://u:a@marker-secret?b@h/d", "postgresql://u:a@b:marker-secret@h/d"),
        *("postgresql://u:a@marker-secret?b=c@h/d", "postgresql://h/d?host=u:marker-secret@h"),
    ],
)
def test_a_url_of_something_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(WarehouseUrlError, match="SYNC_PIPELINE_DATABASE_URL") as caught:
        database.parse_url(url)
    assert "marker-secret" not in str(caught.value)
