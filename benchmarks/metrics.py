"""What a scrape of `sync-pipeline metrics` takes, and what it weighs, by number of tenants.

    .venv/bin/python -m benchmarks.metrics [--tenants 2 100 1000] [--days 180]

Every tenant has both sources and three workflows, a line of the sync log per source and day, a run per workflow, and
two weeks of check evaluations: 40 a day, of which one in fifty failed. The first reading loads the tenant files and
looks through all evaluations; later ones read what is new.
"""

import argparse
import os
import resource
import statistics
import time
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.machine import fresh_warehouse, machine, print_table
from benchmarks.memory import KIB_PER_MB
from benchmarks.tenants import files, names
from sync_pipeline.cli import installation
from sync_pipeline.dagster_internals.stored_runs import reading_evaluations
from sync_pipeline.metrics.collector import SnapshotCollector
from sync_pipeline.metrics.reading import SnapshotReader
from sync_pipeline.settings import Settings
from sync_pipeline.warehouse import embedded

CHECKS_PER_DAY, EVALUATED_DAYS = 40, 14
LOG = """
    INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, requests, complete,
        started, finished, fetched_at, over_at)
    SELECT t, source, day::date, t || day::date, 100, 5, 0, 0, 100, 3, true, day + interval '2 days',
        day + interval '2 days', day + interval '2 days', day + interval '36 hours'
    FROM unnest(CAST(:tenants AS text[])) AS t, unnest(ARRAY['meta', 'pos']) AS source,
        generate_series(now() - make_interval(days => :days), now() - interval '2 days', interval '1 day') AS day
"""
COUNTERS = """
    INSERT INTO sync_counters (tenant_id, source, counter, class, total)
    SELECT t, source, counter, class, 1000
    FROM unnest(CAST(:tenants AS text[])) AS t, unnest(ARRAY['meta', 'pos']) AS source, (VALUES
        ('rows', 'fetched'), ('rows', 'changed'), ('rows', 'removed'), ('days', ''), ('requests', ''),
        ('waits', 'delay'), ('wait_seconds', 'delay'), ('errors', 'transient')) AS c (counter, class)
"""
EVALUATIONS = """
    INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id, execution_status, evaluation_event,
        evaluation_event_timestamp, create_timestamp)
    SELECT '["' || t || '", "pos_orders"]', 'check_' || chr(97 + n % 26) || chr(97 + n / 26),
        (now() - ago * interval '1 day')::date::text, t || ago,
        CASE WHEN n % 50 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END, :event,
        LOCALTIMESTAMP - ago * interval '1 day', LOCALTIMESTAMP - ago * interval '1 day'
    FROM generate_series(:days - 1, 0, -1) AS ago, unnest(CAST(:tenants AS text[])) AS t,
        generate_series(1, :checks) AS n
"""
RUNS = """
    INSERT INTO runs (run_id, pipeline_name, status, run_body, create_timestamp, update_timestamp, start_time, end_time)
    SELECT t || w || ago, t || '__' || w, 'SUCCESS', repeat('x', 2000), LOCALTIMESTAMP - ago * interval '1 day',
        LOCALTIMESTAMP - ago * interval '1 day', extract(epoch FROM now()) - 60, extract(epoch FROM now())
    FROM unnest(CAST(:tenants AS text[])) AS t, unnest(ARRAY['daily_sync', 'weekly_resync', 'insights']) AS w,
        generate_series(0, 29) AS ago
"""


def fill(warehouse: sa.Engine, instance: dg.DagsterInstance, tenants: list[str], days: int) -> None:
    """Make the tenants' history."""
    everything = sa.create_engine(warehouse.url.set(username=embedded.SUPERUSER))
    with everything.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO tenants SELECT t, t, 'Asia/Manila' FROM unnest(CAST(:tenants AS text[])) AS t"),
            {"tenants": tenants},
        )
        connection.execute(sa.text(LOG), {"tenants": tenants, "days": days})
        connection.execute(sa.text(COUNTERS), {"tenants": tenants})
    evaluation = dg.AssetCheckEvaluation(
        dg.AssetKey(["t", "pos_orders"]), "check", passed=False, metadata={"stored": 1}, description="one is not two"
    )
    instance.report_runless_asset_event(evaluation)
    with reading_evaluations(instance) as connection:
        event = connection.execute(sa.text("SELECT max(evaluation_event) FROM asset_check_executions")).scalar_one()
        connection.execute(sa.text("DELETE FROM asset_check_executions"))
        values = {"tenants": tenants, "event": event, "days": EVALUATED_DAYS, "checks": CHECKS_PER_DAY}
        connection.execute(sa.text(EVALUATIONS), values)
        connection.execute(sa.text(RUNS), {"tenants": tenants})
        connection.execute(sa.text("VACUUM ANALYZE"))
    with everything.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))


def measured(count: int, days: int) -> list[object]:
    """One row of the table."""
    with fresh_warehouse() as warehouse:
        home = Path(str(warehouse.url.query["host"])).parent
        folder = home / "tenants"
        folder.mkdir()
        for name, text in files(count).items():
            (folder / f"{name}.yaml").write_text(text)
        os.environ.pop("DAGSTER_HOME", None)
        os.environ.pop("DAGSTER_POSTGRES_URL", None)
        os.environ["SYNC_PIPELINE_DATABASE_URL"] = warehouse.url.render_as_string(hide_password=False)
        os.environ["SYNC_PIPELINE_HOME"] = str(home / "home")
        os.environ["SYNC_PIPELINE_TENANTS"] = str(folder)
        installation.prepare(Settings.from_environment())
        with dg.DagsterInstance.get() as instance:
            fill(warehouse, instance, names(count), days)
        reader = SnapshotReader()
        seconds, cpu, size = [], [], 0
        for _ in range(6):
            registry = CollectorRegistry(auto_describe=False)
            registry.register(SnapshotCollector(reader.read, fresh_for_s=0, answer_within_s=600))
            began, began_cpu = time.perf_counter(), time.process_time()
            text = generate_latest(registry)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
            size = len(text)
            assert b"sync_pipeline_up 1.0" in text
        reader.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MB
    series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
    later = statistics.median(seconds[1:])
    return [
        count,
        f"{seconds[0]:.2f}",
        f"{later:.2f}",
        f"{statistics.median(cpu[1:]):.2f}",
        f"{series:,}",
        f"{size / 1e6:.2f}",
        f"{peak:.0f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tenants", type=int, nargs="+", default=[2, 100, 1000])
    parser.add_argument("--days", type=int, default=180)
    arguments = parser.parse_args()
    print(machine())
    headings = ["tenants", "first reading, s", "later readings, s", "CPU of these, s", "series", "MB", "peak, MB"]
    print_table(headings, [measured(count, arguments.days) for count in arguments.tenants])


if __name__ == "__main__":
    main()
