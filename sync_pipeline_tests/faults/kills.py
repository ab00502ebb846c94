"""Kills run workers at random moments and compares what is left, and what a retry makes of it, with a run undisturbed.

    python -m sync_pipeline_tests.faults.kills [--kills 1000] [--seed 1] [--workers 2]

Each kill is a SIGKILL at a moment drawn evenly from a whole run of three days of both sources, from its record on, on
Postgres for the warehouse and for Dagster. After it: every committed day is there whole, every other not at all; the
sensor's recovery shows exactly the committed days as materialized; and one re-execution asks for no committed day again
and gives the tables of the undisturbed run. Prints how many kills fell where; exits with 1 at any difference.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.automation.recovery import Cursor, end_abandoned_runs, show_committed_days
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.tenants import Tenant, load_tenants
from sync_pipeline.warehouse import database, embedded, migrate
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.folders import open_folder_for_server
from sync_pipeline_tests.forks import fork_run
from sync_pipeline_tests.pipeline import DEMO_TENANTS, all_seeing

NOON = datetime(2026, 10, 20, 7, 0, tzinfo=UTC)
DAYS = DayRange(date(2026, 10, 5), date(2026, 10, 7))
TENANT = "lumina"
ASSETS = {"meta": f"{TENANT}/meta_ad_insights", "pos": f"{TENANT}/pos_orders"}
# Of a table its rows by the day they belong to, and its order.
TABLES = {
    "meta": "SELECT date, t.* FROM meta_ad_insights AS t ORDER BY date, account_id, ad_id",
    "pos": "SELECT date_local, t.* FROM pos_orders AS t ORDER BY date_local, shop_id, pos_order_id",
}
PERFORMANCE = "SELECT to_jsonb(t) FROM ad_performance AS t ORDER BY to_jsonb(t)::text"
# How requests for a day's rows end, by source.
PATHS = {"meta": "/insights$", "pos": "/orders$"}
# A transaction that has written to the days is about to commit one.
COMMITTING = """
    SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_class ON pg_class.oid = relation
        WHERE mode = 'RowExclusiveLock' AND relname IN ('meta_ad_insights', 'pos_orders', 'sync_log')
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""
COMMITS = len(ASSETS) * len(DAYS)
AT_ONCE = timedelta(0)
MEASURED_RUNS = 5
PATIENCE_S = 300

Tables = Mapping[str, Mapping[date, Sequence[tuple[Any, ...]]]]


class DifferenceError(Exception):
    """What a kill left, or what the retry made of it, is not what it should be."""


@dataclass
class Bench:
    """A warehouse, a sandbox and a Dagster instance."""

    folder: Path
    engine: sa.Engine
    instance: dg.DagsterInstance
    tenants: Mapping[str, Tenant]
    sandbox: SandboxServer

    def start(self, parent: str | None = None) -> ForkServerProcess:
        """Start a worker, for a new run or for one that re-executes another."""
        tags = range_tags(DAYS) | ({"dagster/parent_run_id": parent} if parent else {})
        return fork_run(str(self.folder / "dagster"), tags, os.environ)

    def recorded(self, process: ForkServerProcess) -> dg.DagsterRun:
        """The run of a worker that has just been started, once there is a record of it."""
        deadline = time.monotonic() + PATIENCE_S
        while not (runs := self.instance.get_runs(limit=1)):
            if process.exitcode is not None or time.monotonic() > deadline:
                raise DifferenceError("the worker has made no run")
            time.sleep(0.005)
        return runs[0]

    def killed(self, process: ForkServerProcess) -> bool:
        """Kill a worker where it stands, unless it has ended; whether it was inside a commit."""
        committing = False
        # The server of forks has buried a process that has ended, and its number is free.
        with suppress(ProcessLookupError):
            if process.exitcode is None and process.pid is not None:
                # It stands still first, so that there is time to see what it is at.
                os.kill(process.pid, signal.SIGSTOP)
                [(committing,)] = self.query(COMMITTING)
                os.kill(process.pid, signal.SIGKILL)
        process.join()
        return committing

    def finish(self, parent: str | None = None) -> None:
        """Run to the end."""
        process = self.start(parent)
        process.join(PATIENCE_S)
        if process.exitcode != 0:
            raise DifferenceError(f"the run ended with {process.exitcode}")

    def empty(self) -> None:
        """Forget all rows and runs."""
        with self.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM tenants"))
        self.instance.wipe()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def tables(self) -> Tables:
        """The rows of both tables by day."""
        found: dict[str, dict[date, list[tuple[Any, ...]]]] = {source: {} for source in TABLES}
        for source, statement in TABLES.items():
            for day, *row in self.query(statement):
                found[source].setdefault(day, []).append(tuple(row))
        return found

    def materialized(self) -> set[tuple[str, date]]:
        """The days that Dagster shows as materialized, as (source, day)."""
        return {
            (source, date.fromisoformat(str(record.partition_key)))
            for source, asset in ASSETS.items()
            for record in self.instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=100).records
        }

    def asked_again(self, committed: Collection[tuple[str, date]], parent: str) -> list[tuple[str, date]]:
        """Re-execute a run to its end; which of the days that it had committed were asked for again."""
        # An effect without anything to it leaves the answer as it is, and counts.
        asked = {
            (source, day): self.sandbox.faults.add(Fault(Effect(), path=PATHS[source], covers_day=day, times=None))
            for source, day in committed
        }
        self.finish(parent)
        self.sandbox.faults.clear()
        return [day for day, fault in asked.items() if fault.hits]

    def logged(self) -> list[tuple[str, date]]:
        """The committed days by the sync log, as (source, day)."""
        return [(source, day) for source, day in self.query("SELECT source, day FROM sync_log ORDER BY id")]


def undisturbed(bench: Bench) -> tuple[float, Tables, list[tuple[Any, ...]]]:
    """How long a run takes at most from its record to its process's end, in seconds, and what it leaves."""
    took = list[float]()
    for _ in range(MEASURED_RUNS):
        bench.empty()
        process = bench.start()
        bench.recorded(process)
        began = time.monotonic()
        process.join(PATIENCE_S)
        if process.exitcode != 0:
            raise DifferenceError(f"a run that nobody disturbs ended with {process.exitcode}")
        took.append(time.monotonic() - began)
    assert len(bench.logged()) == COMMITS
    # The first has loaded what the others were forked with.
    return max(took[1:]), bench.tables(), bench.query(PERFORMANCE)


def kill(bench: Bench, after_s: float, whole: Tables, performance: Sequence[tuple[Any, ...]]) -> str:
    """Kill a run so long after its record was made; returns where it was. Raises DifferenceError."""
    bench.empty()
    process = bench.start()
    run = bench.recorded(process)
    time.sleep(after_s)
    committing = bench.killed(process)
    warehouse = Warehouse(bench.engine)
    _wait_until_let_go(warehouse, run.run_id)

    committed = bench.logged()
    expected = {
        source: {day: rows for day, rows in whole[source].items() if (source, day) in committed} for source in whole
    }
    _same("the tables after the kill", bench.tables(), expected)

    end_abandoned_runs(bench.instance, warehouse, bench.tenants.keys(), silent_for=AT_ONCE)
    show_committed_days(bench.instance, warehouse, bench.tenants, Cursor(), settled_for=AT_ONCE)
    _same("materialized days and sync log", bench.materialized(), set(committed))

    ended = bench.instance.get_run_by_id(run.run_id)
    if ended and ended.status == dg.DagsterRunStatus.SUCCESS:
        place = "after the run's end"
    elif ended and ended.status == dg.DagsterRunStatus.FAILURE:
        place = _place(len(committed), committing=committing)
        _same("days that were asked for again", bench.asked_again(committed, run.run_id), [])
        _same("the days of the sync log, each once", sorted(bench.logged()), sorted(_all_days()))
    else:
        place = "before the run had begun"
        _same("days of a run that had not begun", committed, [])
        bench.finish()
    _same("the tables after the retry", bench.tables(), whole)
    _same("ad_performance after the retry", bench.query(PERFORMANCE), list(performance))
    _same("materialized days after the retry", bench.materialized(), set(_all_days()))
    return place


def _place(commits: int, *, committing: bool) -> str:
    if committing:
        return f"inside a commit, {commits} of {COMMITS} there afterwards"
    if not commits:
        return "before the first commit"
    return "after the last commit" if commits == COMMITS else f"between commits, {commits} of {COMMITS} there"


def _all_days() -> list[tuple[str, date]]:
    return [(source, day) for source in ASSETS for day in DAYS]


def _wait_until_let_go(warehouse: Warehouse, run_id: str) -> None:
    """Postgres may still be at the last statement of the process that is gone."""
    deadline = time.monotonic() + PATIENCE_S
    while warehouse.is_held(run_id):
        if time.monotonic() > deadline:
            raise DifferenceError("the killed run still holds its lock")
        time.sleep(0.01)


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise DifferenceError(f"{what}: {found!r} instead of {wanted!r}"[:4000])


def kills(number: int, seed: int) -> Counter[str]:
    """So many kills, one after the other, and where they fell. Raises DifferenceError at the first difference."""
    places: Counter[str] = Counter()
    moments = random.Random(seed)  # noqa: S311
    with ExitStack() as stack:
        bench = _bench(stack)
        longest, whole, performance = undisturbed(bench)
        for one in range(number):
            after_s = moments.uniform(0, longest)
            try:
                places[kill(bench, after_s, whole, performance)] += 1
            except DifferenceError as difference:
                raise DifferenceError(f"seed {seed}, kill {one + 1}, after {after_s:.3f} s: {difference}") from None
            if (one + 1) % 50 == 0:
                print(f"seed {seed}: {one + 1} kills, no difference", flush=True)
    return places


def _bench(stack: ExitStack) -> Bench:
    folder = stack.enter_context(open_folder_for_server())
    url = database.parse_url(embedded.start(folder / "pg"))
    stack.callback(embedded.stop, folder / "pg")
    dagster = database.beside(url, "_dagster")
    database.create_database(url)
    database.create_database(dagster, database.DAGSTER_VARIABLE)
    owner = database.connect(url)
    migrate.migrate(owner)
    owner.dispose()
    engine = database.connect(all_seeing(url))
    stack.callback(engine.dispose)
    sandbox = stack.enter_context(SandboxServer(ads=12, orders=20, now=lambda: NOON))
    tenants = folder / "tenants"
    tenants.mkdir()
    shutil.copy(DEMO_TENANTS / f"{TENANT}_costs.csv", tenants)
    text = (DEMO_TENANTS / f"{TENANT}.yaml").read_text()
    text = text.replace("  accounts: all", "  days_per_request: 1\n  accounts: all")
    (tenants / f"{TENANT}.yaml").write_text(text.replace("    shops: all", "    days_per_request: 1\n    shops: all"))
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text((DEMO_TENANTS.parent / "dagster.yaml").read_text())
    os.environ.update(
        sandbox.environment,
        SYNC_PIPELINE_DATABASE_URL=url.render_as_string(hide_password=False),
        DAGSTER_POSTGRES_URL=dagster.render_as_string(hide_password=False),
        SYNC_PIPELINE_HOME=str(folder / "home"),
        SYNC_PIPELINE_TENANTS=str(tenants),
        DAGSTER_HOME=str(folder / "dagster"),
    )
    instance = stack.enter_context(dg.DagsterInstance.from_config(str(folder / "dagster")))
    by_id = {tenant.tenant_id: tenant for tenant in load_tenants(tenants).tenants}
    return Bench(folder, engine, instance, by_id, sandbox)


def main() -> int:
    """Kill as many as asked for, by several workers side by side, and print where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    places: Counter[str] = Counter()
    shares = [options.kills // options.workers + (n < options.kills % options.workers) for n in range(options.workers)]
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        work = [pool.submit(kills, share, options.seed + n) for n, share in enumerate(shares)]
        try:
            for one in as_completed(work):
                places += one.result()
        except DifferenceError as difference:
            print(difference, file=sys.stderr)
            return 1
    for place, number in sorted(places.items()):
        print(f"{number:5} {place}")
    seeds = f"seeds {options.seed} to {options.seed + options.workers - 1}"
    print(f"{places.total():5} kills, no difference; {seeds}, {(time.monotonic() - began) / 60:.0f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
