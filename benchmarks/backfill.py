"""Where the time of a long backfill goes, and what one run per partition costs instead.

    .venv/bin/python -m benchmarks.backfill [--days 365] [--latency-ms 0 50 250] [--single 10]

A tenant of 50 ads and about 100 orders a day, on the sandbox, in one run. HTTP is the time from a request to its last
byte; SQL is the time in the warehouse, `ad_performance` and the checks included; the framework is all the rest: Python,
Dagster, and Dagster's own storage. A real API takes some 250 ms to answer and is asked with pauses, which are not here.
The run per partition is `trigger` for each of some days, one after the other.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from benchmarks.machine import fresh_warehouse, machine, print_table
from sync_pipeline.sandbox.faults import Fault, slow
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import bulk

TENANT, WORKFLOW, ADS, ORDERS = "lumina", "daily_sync", 50, 100
PROJECT = Path(__file__).parents[1]
HTTP, SQL = "HTTP", "SQL"


def timed(spent: dict[str, float], kind: str, function: Callable[..., Any], *, of: Callable[..., bool]) -> Any:
    """The function, its time added up where `of` says that a call counts."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not of(*args):
            return function(*args, **kwargs)
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[kind] += time.perf_counter() - began

    return wrapped


def measured_run(since: date, until: date) -> None:
    """Run the workflow in this process and print where its time went, as JSON."""
    from sync_pipeline.cli import installation
    from sync_pipeline.cli.foreground import run_in_foreground
    from sync_pipeline.date_ranges import explicit, today_in
    from sync_pipeline.settings import Settings
    from sync_pipeline.tenants import find_tenant, load_tenants

    settings = installation.prepare(Settings.from_environment())
    warehouse = sa.make_url(settings.database_url or "").database
    spent = {HTTP: 0.0, SQL: 0.0}

    def in_warehouse(cursor: Any, *_: Any) -> bool:
        connection = getattr(cursor, "connection", cursor)
        return bool(getattr(connection, "dbapi_connection", connection).info.dbname == warehouse)

    requests.Session.send = timed(spent, HTTP, requests.Session.send, of=lambda *_: True)  # type: ignore[method-assign]
    for name in ("do_execute", "do_execute_no_params", "do_executemany", "do_commit", "do_rollback"):
        method = getattr(PGDialect_psycopg2, name)
        setattr(PGDialect_psycopg2, name, timed(spent, SQL, method, of=lambda _, cursor, *__: in_warehouse(cursor)))
    bulk.CopyBuffer.send = timed(  # type: ignore[method-assign]
        spent, SQL, bulk.CopyBuffer.send, of=lambda _, cursor: in_warehouse(cursor)
    )
    tenant = find_tenant(load_tenants(settings.tenants), TENANT)
    days = explicit(since, until, today=today_in(tenant.timezone), start_date=tenant.start_date)
    began, cpu = time.perf_counter(), time.process_time()
    stored = run_in_foreground(tenant, tenant.workflow(WORKFLOW), days)
    whole = time.perf_counter() - began
    print(json.dumps({"whole": whole, "cpu": time.process_time() - cpu, "stored": stored, **spent}))


def copied_tenant(folder: Path, since: date) -> None:
    """The demo's tenant, from an earlier day on."""
    for name in ("lumina.yaml", "lumina_costs.csv"):
        text = (PROJECT / "tenants" / name).read_text()
        (folder / name).write_text(text.replace("start_date: 2026-01-01", f"start_date: {since}"))


def python(arguments: list[str], environment: Mapping[str, str]) -> str:
    """What a Python process of ours prints last."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout.splitlines()[-1]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--latency-ms", type=int, nargs="+", default=[0, 50, 250])
    parser.add_argument("--single", type=int, default=10, help="how many runs of one day are measured")
    parser.add_argument("--measure", nargs=2, metavar=("SINCE", "UNTIL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measured_run(*map(date.fromisoformat, options.measure))
        return
    until = datetime.now(UTC).date() - timedelta(days=3)
    since = until - timedelta(days=options.days - 1)
    print(f"{machine()}; {options.days} days of {ADS} ads and about {ORDERS} orders\n")
    table: list[list[str]] = []
    for latency_ms in options.latency_ms:
        with (
            fresh_warehouse() as engine,
            TemporaryDirectory(prefix="bench-") as folder,
            SandboxServer(ads=ADS, orders=ORDERS) as sandbox,
        ):
            copied_tenant(Path(folder), since)
            if latency_ms:
                sandbox.faults.add(Fault(slow(latency_ms / 1000), times=None))
            environment = {
                **sandbox.environment,
                "SYNC_PIPELINE_TENANTS": folder,
                "SYNC_PIPELINE_HOME": f"{folder}/home",
                "SYNC_PIPELINE_DATABASE_URL": engine.url.render_as_string(hide_password=False),
            }
            days = [since.isoformat(), until.isoformat()]
            spent = json.loads(python(["benchmarks.backfill", "--measure", *days], environment))
            rest = spent["whole"] - spent[HTTP] - spent[SQL]
            table.append(
                [
                    f"one run, {latency_ms} ms a request",
                    f"{len(sandbox.requests.all())}",
                    *(f"{seconds:.1f}" for seconds in (spent["whole"], spent[HTTP], spent[SQL], rest)),
                    f"{rest / spent['whole']:.0%}",
                    f"{spent['whole'] / options.days * 1000:.0f}",
                ]
            )
            if latency_ms == options.latency_ms[0] and options.single:
                sandbox.requests.clear()
                began = time.perf_counter()
                for n in range(options.single):
                    day = (since + timedelta(days=n)).isoformat()
                    arguments = ["sync_pipeline.cli", "trigger", TENANT, WORKFLOW, "--since", day, "--until", day]
                    python(arguments, environment)
                each = (time.perf_counter() - began) / options.single
                asked = len(sandbox.requests.all()) / options.single * options.days
                label = f"a run per partition, {latency_ms} ms (from {options.single})"
                table.append(
                    [label, f"{asked:.0f}", f"{each * options.days:.1f}", "", "", "", "", f"{each * 1000:.0f}"]
                )
    print_table(
        [
            "365 days" if options.days == 365 else "",
            "requests",
            "whole, s",
            "HTTP, s",
            "SQL, s",
            "framework, s",
            "share",
            "ms a day",
        ],
        table,
    )


if __name__ == "__main__":
    main()
