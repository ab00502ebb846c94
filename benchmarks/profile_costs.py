"""What a row costs on its way: parsing the page, building the row, encoding it for COPY, COPY itself, the upsert.

    .venv/bin/python -m benchmarks.profile_costs [--rounds 9] [--top 12]

Microseconds of processor time a row, the least of some rounds, on pages that the sandbox serves. COPY and the upsert
are done by Postgres, so they are given by the clock: COPY into an empty table, and the transaction that makes the
staged rows the day. The second table names the functions that row building spends most in, by the profiler, which
itself weighs on small functions; their share counts.
"""

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import requests
import sqlalchemy as sa

from benchmarks.machine import fresh_warehouse, machine, print_table
from benchmarks.peers import graph
from sync_pipeline.rows.costs import ProductCosts, load_product_costs
from sync_pipeline.rows.meta import InsightRow, insight_row
from sync_pipeline.rows.pancake import OrderRow, order_row
from sync_pipeline.sandbox.demo_tenants import LUMINA
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources.answers import Answer
from sync_pipeline.sources.insights import ad_days
from sync_pipeline.warehouse.bulk import CopyBuffer, encode
from sync_pipeline.warehouse.schema import INSIGHTS, ORDERS, DailyTable
from sync_pipeline.warehouse.staging import DayEntry
from sync_pipeline.warehouse.tenancy import Warehouse

TENANT: Final = "acme"
ZONE: Final = ZoneInfo("Asia/Manila")
ADS, A_PAGE_OF_ORDERS, PAGES = 500, 200, 40
PROJECT: Final = Path(__file__).parents[1]


def insight_page(day: date) -> bytes:
    """A page of insights as the sandbox serves it."""
    with graph.api(ads=ADS, days=[day], latency_ms=0, report_s=0) as sandbox:
        url = f"{sandbox.environment['META_GRAPH_URL']}/v26.0/act_{graph.ACCOUNT_ID}/insights"
        token = sandbox.environment[graph.PLAN.meta_variable]
        return requests.get(
            url, params={**ad_days(day, day), "limit": ADS}, headers={"Authorization": f"Bearer {token}"}, timeout=60
        ).content


def order_page(day: date) -> bytes:
    """A page of orders as the sandbox serves it."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=7)
    with SandboxServer(ads=10, orders=2 * A_PAGE_OF_ORDERS) as sandbox:
        shop, variable = LUMINA.shops[0].shop_id, LUMINA.shops[0].key_variable
        params: dict[str, Any] = {
            "api_key": sandbox.environment[variable],
            "page_number": 1,
            "page_size": A_PAGE_OF_ORDERS,
            "updateStatus": "inserted_at",
            "startDateTime": int(start.timestamp()),
            "endDateTime": int((start + timedelta(days=7)).timestamp()),
        }
        url = f"{sandbox.environment['PANCAKE_API_URL']}/shops/{shop}/orders"
        return requests.get(url, params=params, timeout=60).content


def least(work: Callable[[], object], rows: int, rounds: int) -> float:
    """Microseconds of processor time a row, the least of some rounds."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken) / rows * 1e6


def parsed(body: bytes) -> list[dict[str, Any]]:
    """A page parsed the way a sync does."""
    found: list[dict[str, Any]] = Answer(200, {}, body).json["data"]
    return found


def in_postgres(
    engine: sa.Engine, target: DailyTable, columns: Sequence[str], rows: Sequence[Any], rounds: int
) -> tuple[float, float]:
    """Microseconds a row of COPY into the staging table, and of the transaction that makes them the day."""
    copied, committed = [], []
    day = rows[0][columns.index(target.day)]
    scope = rows[0][columns.index(target.scope)]
    lines = "".join(map(encode, rows))
    alone = sa.create_engine(engine.url, poolclass=sa.NullPool)
    with Warehouse(engine).tenant(TENANT, name="Acme", timezone=ZONE.key) as held:
        for _ in range(rounds):
            with alone.begin() as connection:
                connection.execute(sa.text(f"CREATE TEMPORARY TABLE raw AS SELECT * FROM {target.table.name} LIMIT 0"))
                cursor: Any = connection.connection.cursor()
                buffer = CopyBuffer("raw", columns)
                buffer._lines.write(lines)
                began = time.perf_counter()
                buffer.send(cursor)
                copied.append(time.perf_counter() - began)
                connection.execute(sa.text("DROP TABLE raw"))
            with held.staging(target, columns) as staging:
                staging.add(rows)
                entry = DayEntry(
                    source="bench",
                    day=day,
                    run_id="b",
                    excluded=0,
                    requests=1,
                    complete=True,
                    started=datetime.now(UTC),
                )
                began = time.perf_counter()
                staging.commit_day(entry, [scope])
                committed.append(time.perf_counter() - began)
    return min(copied) / len(rows) * 1e6, min(committed) / len(rows) * 1e6


def many(rows: Sequence[Any], key: str, day: str) -> list[Any]:
    """Pages of the rows under other ids, all of one day."""
    return [
        row._replace(**{key: f"{getattr(row, key)}{n}", day: getattr(rows[0], day)})
        for n in range(PAGES)
        for row in rows
    ]


def functions(work: Callable[[], object], top: int) -> Iterator[tuple[str, str, str]]:
    """The functions that most time is spent in, each with its share."""
    profile = cProfile.Profile()
    for _ in range(10):
        profile.runcall(work)
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    for (file, _, name), (_, calls, own, _, _) in sorted(stats.items(), key=lambda one: -one[1][2])[:top]:
        yield name if file == "~" else f"{Path(file).name}: {name}", f"{calls // 10:,}", f"{own / whole:.0%}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--top", type=int, default=12)
    options = parser.parse_args()
    day = datetime.now(UTC).date() - timedelta(days=3)
    pages = {"insight": insight_page(day), "order": order_page(day)}
    raw = {kind: parsed(page) for kind, page in pages.items()}
    costs = ProductCosts(load_product_costs(PROJECT / "tenants" / "lumina_costs.csv"))

    def insights() -> list[InsightRow]:
        return [insight_row(one, account_id=graph.ACCOUNT_ID, lead_action_types=["lead"]) for one in raw["insight"]]

    def orders() -> list[OrderRow]:
        found = (order_row(one, shop_id="1", timezone=ZONE, costs=costs) for one in raw["order"])
        return [row for row in found if isinstance(row, OrderRow)]

    kinds: dict[str, tuple[Callable[[], Sequence[Any]], DailyTable, Sequence[str], str]] = {
        "insight": (insights, INSIGHTS, InsightRow._fields, "ad_id"),
        "order": (orders, ORDERS, OrderRow._fields, "pos_order_id"),
    }
    print(f"{machine()}\n", flush=True)
    lines, names = [], []
    with fresh_warehouse() as engine:
        for kind, (build, target, columns, key) in kinds.items():
            rows, count = build(), len(raw[kind])
            copy, upsert = in_postgres(engine, target, columns, many(rows, key, target.day), min(options.rounds, 3))
            costs_us = [
                least(lambda page=pages[kind]: parsed(page), count, options.rounds),  # type: ignore[misc]
                least(build, count, options.rounds),
                least(lambda rows=rows: [encode(row) for row in rows], len(rows), options.rounds),  # type: ignore[misc]
                copy,
                upsert,
            ]
            lines.append((kind, f"{len(pages[kind]) / count:.0f}", *(f"{cost:.1f}" for cost in costs_us)))
            names += [(f"{kind}: {name}", calls, share) for name, calls, share in functions(build, options.top)]
    print_table(
        ["µs a row", "bytes of JSON", "JSON parsing", "row building", "COPY encoding", "COPY", "upsert of the day"],
        lines,
    )
    print_table(["row building, of a page", "calls", "own time"], names)


if __name__ == "__main__":
    main()
