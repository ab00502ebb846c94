"""How fast days are written: staged upsert beside raw COPY into the same indexed table, first load and re-sync.

    .venv/bin/python -m benchmarks.upsert [--ads 10000] [--days 10] [--rounds 5]

Both are given the same rows, and both encode them. COPY alone can neither repeat a day nor replace a row: it is the
ceiling, not an alternative. The last table shows what twenty re-syncs that change nothing leave behind.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg2.extras
import sqlalchemy as sa

from benchmarks.machine import administrate, fresh_warehouse, machine, medians, print_table
from sync_pipeline.rows.meta import InsightRow
from sync_pipeline.warehouse import embedded
from sync_pipeline.warehouse.bulk import CopyBuffer
from sync_pipeline.warehouse.schema import INSIGHTS
from sync_pipeline.warehouse.staging import DayEntry
from sync_pipeline.warehouse.tenancy import TenantWarehouse, Warehouse

COPIED, STORED = "copied", "meta_ad_insights"
TENANT, ACCOUNT, PAGE = "acme", "100000000000101", 500
COLUMNS = ("tenant_id", *InsightRow._fields, "status", "effective_status")


def days_from(count: int) -> list[date]:
    """Days in a row."""
    return [date(2026, 10, 1) + timedelta(days=n) for n in range(count)]


def entry(day: date) -> DayEntry:
    """A day for the sync log."""
    started = datetime.now(UTC)
    return DayEntry(source="meta", day=day, run_id="bench", excluded=0, requests=1, complete=True, started=started)


def insights(ads: int, days: int) -> list[InsightRow]:
    """Days of so many ads, with texts as long as real ones are."""
    return [
        InsightRow(
            account_id=ACCOUNT,
            ad_id=str(120_210_000_000_000_000 + n * 7919),
            date=day,
            campaign_id=str(120_200_000_000_000_000 + n // 40),
            campaign_name=f"SALES_PH_2026_10_serum{n // 40}_broad",
            adset_id=str(120_205_000_000_000_000 + n // 10),
            adset_name=f"Women 25-45 Luzon {n // 10}",
            ad_name=f"VID_UGC_{n}_anna.reyes_v2",
            marketing_associate="anna.reyes",
            spend=Decimal(n % 90_000) / 100,
            impressions=n % 50_000,
            clicks=n % 900,
            link_clicks=n % 700,
            leads=n % 13,
            mapping="serum",
            currency="PHP",
        )
        for day in days_from(days)
        for n in range(ads)
    ]


def pages(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The rows as the API brings them."""
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]


def driver(connection: sa.Connection) -> Any:
    """The driver's own connection, for COPY and execute_values."""
    return connection.connection


def copied(connection: sa.Connection, rows: Sequence[InsightRow]) -> None:
    """Raw COPY into an indexed table of the same shape, in pages."""
    full = [(TENANT, *row, "ACTIVE", "ACTIVE") for row in rows]
    with connection.begin(), closing(driver(connection).cursor()) as cursor:
        buffer = CopyBuffer(COPIED, COLUMNS)
        for page in pages(full):
            buffer.add(page)
            if buffer.is_full:
                buffer.send(cursor)
        buffer.send(cursor)


def inserted(connection: sa.Connection, rows: Sequence[InsightRow]) -> None:
    """INSERT ... ON CONFLICT DO UPDATE by psycopg2's execute_values, in pages."""
    full = [(TENANT, *row, "ACTIVE", "ACTIVE") for row in rows]
    values = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[4:])
    statement = (
        f"INSERT INTO {COPIED} ({', '.join(COLUMNS)}) VALUES %s "
        f"ON CONFLICT (tenant_id, account_id, ad_id, date) DO UPDATE SET {values}"
    )
    with connection.begin(), closing(driver(connection).cursor()) as cursor:
        psycopg2.extras.execute_values(cursor, statement, full, page_size=PAGE)


def upserted(held: TenantWarehouse, rows: Sequence[InsightRow]) -> None:
    """The sync's own way: pages into the staging table, then each day in a transaction of its own."""
    with held.staging(
        INSIGHTS, InsightRow._fields, lookup_key=("account_id", "ad_id"), lookup=("status", "effective_status")
    ) as staging:
        for page in pages(rows):
            staging.add(page)
        staging.add_lookup([(ACCOUNT, ad_id, "ACTIVE", "ACTIVE") for ad_id in staging.keys_without_lookup(ACCOUNT)])
        for day in sorted({row.date for row in rows}):
            staging.commit_day(entry(day), [ACCOUNT])


COPY, FIRST, AGAIN, CHANGED, VALUES = (
    "COPY",
    "upsert, first load",
    "upsert, nothing changed",
    "upsert, all changed",
    "execute_values, first load",
)


def measure(engine: sa.Engine, rows: Sequence[InsightRow]) -> dict[str, float]:
    """Rows a second of each way, each into an empty table or onto the day as the way before left it."""
    other = [row._replace(spend=row.spend + 1) for row in rows]
    speeds: dict[str, float] = {}
    with Warehouse(engine).tenant(TENANT, name="Acme", timezone="Asia/Manila") as held, engine.connect() as connection:

        def timed(name: str, way: Callable[[], None], *, into: str | None = None) -> None:
            if into:
                administrate(engine, f"TRUNCATE {into}", "CHECKPOINT")
            started = time.perf_counter()
            way()
            speeds[name] = len(rows) / (time.perf_counter() - started)

        timed(COPY, lambda: copied(connection, rows), into=COPIED)
        timed(VALUES, lambda: inserted(connection, rows), into=COPIED)
        timed(FIRST, lambda: upserted(held, rows), into=STORED)
        timed(AGAIN, lambda: upserted(held, rows))
        timed(CHANGED, lambda: upserted(held, other))
    return speeds


def repeat(engine: sa.Engine, rows: Sequence[InsightRow], times: int) -> list[tuple[object, ...]]:
    """The table's size and dead tuples after one sync and after `times` more of the same days."""
    found: list[tuple[object, ...]] = []

    def look(label: str) -> None:
        size, dead, updated, versions = administrate(
            engine,
            "SELECT pg_stat_force_next_flush()",
            f"SELECT pg_total_relation_size('{STORED}'), n_dead_tup, n_tup_upd, "
            f"(SELECT count(DISTINCT xmin::text) FROM {STORED}) FROM pg_stat_user_tables WHERE relname = '{STORED}'",
        )
        found.append((label, f"{size:,}", f"{dead:,}", f"{updated:,}", versions))

    administrate(engine, f"TRUNCATE {STORED}", "SELECT pg_stat_reset()")
    with Warehouse(engine).tenant(TENANT, name="Acme", timezone="Asia/Manila") as held:
        upserted(held, rows)
        look("after the first sync")
        for _ in range(times):
            upserted(held, rows)
    look(f"after {times} more of the same days")
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ads", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = insights(options.ads, options.days)
    print(f"{machine()}; {options.days} days of {options.ads:,} ads, {options.rounds} rounds\n")
    measured: dict[str, list[float]] = defaultdict(list)
    with fresh_warehouse() as engine:
        administrate(
            engine,
            f"CREATE TABLE {COPIED} (LIKE {STORED} INCLUDING ALL)",
            f"ALTER TABLE {COPIED} ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE",
            f"ALTER TABLE {COPIED} OWNER TO {embedded.ROLE}",
        )
        for _ in range(options.rounds):
            for name, speed in measure(engine, rows).items():
                measured[name].append(speed)
        middle = medians(measured)
        print_table(
            ["way", *(f"run {n + 1}, rows/s" for n in range(options.rounds)), "median", "of COPY"],
            [
                (
                    name,
                    *(f"{speed:,.0f}" for speed in speeds),
                    f"{middle[name]:,.0f}",
                    f"{middle[name] / middle[COPY]:.0%}",
                )
                for name, speeds in measured.items()
            ],
        )
        print_table(
            ["meta_ad_insights", "bytes, with indexes", "dead tuples", "rows updated", "distinct xmin"],
            repeat(engine, rows, 20),
        )


if __name__ == "__main__":
    main()
