"""What a year of a large tenant weighs: rows, bytes, indexes, how long migrations take on it, and Dagster's share.

    .venv/bin/python -m benchmarks.growth [--orders 1000000] [--ads 200] [--runs 3]

The orders are one of the sandbox's, multiplied in SQL over 365 days with its texts as they are; insights likewise. The
migrations are those after the first, on the tables so filled. Dagster's share is measured on daily runs of a demo
tenant, and what `prune` leaves of it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from benchmarks.backfill import copied_tenant
from benchmarks.machine import machine, print_table
from sync_pipeline.rows.customers import without_customer_data
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database, embedded, migrate

TENANT, DAYS = "lumina", 365
FIRST = "0001"
ORDER = f"""
    INSERT INTO pos_orders (
        tenant_id, shop_id, pos_order_id, inserted_at, updated_at, date_local, status, status_name, total, cod,
        currency, cogs, uncosted_quantity, total_quantity, mapping, p_utm_campaign, p_utm_content, tracking, data
    )
    SELECT '{TENANT}', '310001', n::text, day + interval '9 hours', day + interval '20 hours', day::date, 3,
        'delivered', n % 3000, n % 3000, 'PHP', n % 900, 0, 1 + n % 4, 'serum', 'campaign ' || n % 400,
        (120210000000000000 + n % 200)::text, 'TRACK' || n, jsonb_set(CAST(:data AS jsonb), '{{id}}', to_jsonb(n))
    FROM generate_series(1, :orders) AS n,
        LATERAL (SELECT timestamptz '2025-11-01' + (n % {DAYS}) * interval '1 day') AS d (day)
"""
INSIGHT = f"""
    INSERT INTO meta_ad_insights (
        tenant_id, account_id, ad_id, date, campaign_id, campaign_name, adset_id, adset_name, ad_name,
        marketing_associate, spend, impressions, clicks, link_clicks, leads, mapping, currency, status, effective_status
    )
    SELECT '{TENANT}', '100000000000101', (120210000000000000 + ad)::text, date '2025-11-01' + day, (ad / 40)::text,
        'SALES_PH_2026_10_serum' || ad / 40, (ad / 10)::text, 'Women 25-45 Luzon ' || ad / 10,
        'VID_UGC_' || ad || '_anna.reyes_v2', 'anna.reyes', ad, ad * 9, ad, ad, ad % 7, 'serum', 'PHP',
        'ACTIVE', 'ACTIVE'
    FROM generate_series(1, :ads) AS ad, generate_series(0, {DAYS - 1}) AS day
"""
SIZES = """
    SELECT relname, n_live_tup, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables
    WHERE n_live_tup > 1000 ORDER BY pg_total_relation_size(relid) DESC
"""
EVENTS = (
    "SELECT count(*), coalesce(sum(pg_column_size(event)), 0), pg_total_relation_size('event_logs') FROM event_logs"
)


def one_order() -> str:
    """An order as the pipeline stores it, as JSON."""
    with SandboxServer(ads=10, orders=50) as sandbox:
        world = sandbox.world
        yesterday = datetime.now(UTC).date() - timedelta(days=2)
        shop = world.tenants[TENANT].shops[0]
        order = world.orders(shop.shop_id, yesterday)[0]
        return json.dumps(without_customer_data(order.seen_at(datetime.now(UTC))))


def filled(engine: sa.Engine, orders: int, ads: int) -> None:
    """A year of one tenant."""
    with database.bound_to(engine, TENANT) as connection, connection.begin():
        connection.execute(sa.text(f"INSERT INTO tenants VALUES ('{TENANT}', 'Lumina', 'Asia/Manila')"))
        connection.execute(sa.text(ORDER), {"orders": orders, "data": one_order()})
        connection.execute(sa.text(INSIGHT), {"ads": ads})


def alembic_config() -> Config:
    """Where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def migrations(engine: sa.Engine) -> list[tuple[str, str]]:
    """How long each migration after the first takes on what is there."""
    script = ScriptDirectory.from_config(alembic_config())
    found = []
    for revision in reversed(list(script.walk_revisions())):
        if revision.revision != FIRST:
            began = time.perf_counter()
            upgrade(engine, revision.revision)
            found.append((f"{revision.revision}: {revision.doc}", f"{time.perf_counter() - began:.1f}"))
    return found


def upgrade(engine: sa.Engine, revision: str) -> None:
    """Migrate up to a revision."""
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@contextmanager
def empty_warehouse() -> Iterator[sa.Engine]:
    """An engine on a database without tables."""
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        url = database.parse_url(embedded.start(home))
        database.create_database(url)
        engine = database.connect(url)
        try:
            yield engine
        finally:
            engine.dispose()
            embedded.stop(home)


def dagsters_share(runs: int) -> list[tuple[str, ...]]:
    """Events of daily runs, whole and pruned."""
    with empty_warehouse() as engine, TemporaryDirectory() as folder, SandboxServer(ads=50, orders=100) as sandbox:
        until = datetime.now(UTC).date() - timedelta(days=3)
        copied_tenant(Path(folder), until - timedelta(days=runs))
        migrate.migrate(engine)
        environment = {
            **os.environ,
            **sandbox.environment,
            "SYNC_PIPELINE_TENANTS": folder,
            "SYNC_PIPELINE_HOME": f"{folder}/home",
            "SYNC_PIPELINE_DATABASE_URL": engine.url.render_as_string(hide_password=False),
        }

        def call(*arguments: str) -> None:
            line = [sys.executable, "-m", "sync_pipeline.cli", *arguments]
            subprocess.run(line, env=environment, check=True, capture_output=True)

        def weigh(label: str) -> tuple[str, ...]:
            events = sa.create_engine(database.beside(engine.url, "_dagster"))
            with events.connect() as connection:
                count, held, _ = connection.execute(sa.text(EVENTS)).one()
            events.dispose()
            return (label, f"{count / runs:,.0f}", f"{held / runs / 1024:,.0f}", f"{held / runs * DAYS / 2**20:,.0f}")

        for n in range(runs):
            day = (until - timedelta(days=n)).isoformat()
            call("trigger", TENANT, "daily_sync", "--since", day, "--until", day)
        whole = weigh("as written")
        storage = sa.create_engine(database.beside(engine.url, "_dagster"))
        with storage.begin() as connection:
            connection.execute(sa.text("UPDATE runs SET create_timestamp = create_timestamp - interval '1 year'"))
        storage.dispose()
        call("prune")
        return [whole, weigh("after prune")]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--ads", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; {options.orders:,} orders and {options.ads} ads over {DAYS} days\n")
    with empty_warehouse() as engine:
        upgrade(engine, FIRST)
        filled(engine, options.orders, options.ads)
        taken = migrations(engine)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE pos_orders, meta_ad_insights"))
            sizes = connection.execute(sa.text(SIZES)).all()
    print_table(
        ["table", "rows", "MiB", "MiB of indexes", "bytes a row"],
        [
            (name, f"{rows:,}", f"{size / 2**20:,.0f}", f"{indexes / 2**20:,.0f}", f"{(size + indexes) / rows:,.0f}")
            for name, rows, size, indexes in sizes
        ],
    )
    print_table(["migration, on that", "s"], taken)
    print_table(["events of a daily run", "events", "KiB", "MiB a year and tenant"], dagsters_share(options.runs))


if __name__ == "__main__":
    main()
