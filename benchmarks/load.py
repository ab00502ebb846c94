"""Every tenant's schedule fires in the same minute: how long until the last run has ended, and what it takes.

    .venv/bin/python -m benchmarks.load [--tenants 200] [--again 20] [--concurrent 10] [--launches 4]

Each tenant has one workflow over one day of both sources of the sandbox, 12 ads and 20 orders. Postgres, code server,
daemon, webserver, the sandbox and all runs are on this machine, each process as `deploy` has it, with the project's
`dagster.yaml` but for `max_concurrent_runs` and `dequeue_num_workers`. The schedules of some tenants fire again one
minute later, while their first run waits or goes. Seconds count from the minute that fires; a run's CPU is that of its
process, imports included. Connections are looked at every second, in `pg_stat_activity`.
"""

import argparse
import itertools
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL

from benchmarks.machine import fresh_warehouse, machine, print_table
from benchmarks.memory import KIB_PER_MB
from benchmarks.tenants import DEFINITIONS, PROJECT, free_port, listening, names, of_servers, processes, started
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database, embedded

WORKFLOW: Final = "daily_sync"
# What loading takes before the minute in which all fire: some seconds, and some for each tenant.
LOAD_S: Final = 45
LOAD_OF_TENANT_S: Final = 0.1
PATIENCE_S: Final = 3600
ENDED: Final = {"SUCCESS", "FAILURE", "CANCELED"}
TENANT_FILE: Final = """\
tenant: {name}
name: Tenant {name}
timezone: UTC
start_date: 2025-01-01
currency: PHP
meta: {{access_token: {{env: LUMINA_META_TOKEN}}, accounts: all}}
pancake: [{{api_key: {{env: LUMINA_PANCAKE_KEY}}, shops: all}}]
rate_limit: {{meta_delay_ms: 0, pos_delay_ms: 0}}
restate_days: {{meta: 1, pos: 0}}
late_orders: {{enabled: false}}
workflows:
  - {{name: {workflow}, sources: [meta, pos], date_range: {{type: rolling, offset_days: 1}}, schedule: "{cron}"}}
"""
CONNECTIONS: Final = """
    SELECT coalesce(datname, ''), state = 'active', count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND usename = :role GROUP BY 1, 2"""
RUNS: Final = """
    SELECT runs.run_id, runs.status, value, start_time, end_time,
           extract(epoch FROM create_timestamp AT TIME ZONE 'UTC')::float8
    FROM runs JOIN run_tags ON run_tags.run_id = runs.run_id AND key = 'tenant'"""
TICKS: Final = "SELECT status, count(*) FROM job_ticks WHERE type = 'SCHEDULE' GROUP BY 1"
ROLE: Final = embedded.ROLE


@dataclass
class Seen:
    """The largest that was seen of what goes up and down."""

    connections: Counter[str] = field(default_factory=Counter)
    memory_mb: float = 0
    running: int = 0
    waiting: int = 0

    def note(self, now: Mapping[str, int]) -> None:
        """Take in the connections of a moment."""
        for name, count in now.items():
            self.connections[name] = max(self.connections[name], count)


@dataclass(frozen=True)
class Run:
    """A run as run storage has it; times in seconds since 1970."""

    run_id: str
    status: str
    tenant: str
    start: float | None
    end: float | None
    created: float


def files(count: int, again: int, minute: datetime) -> dict[str, str]:
    """Tenant files whose schedules fire at the minute, those of every so many also one minute later."""
    later = minute + timedelta(minutes=1)
    every = max(1, count // again) if again else count + 1
    return {
        name: TENANT_FILE.format(
            name=name,
            workflow=WORKFLOW,
            cron=f"{minute.minute}{f',{later.minute}' if n % every == 0 and n // every < again else ''} "
            f"{','.join(str(hour) for hour in sorted({minute.hour, later.hour}))} * * *",
        )
        for n, name in enumerate(names(count))
    }


@contextmanager
def everything(environment: Mapping[str, str], folder: Path, concurrent: int, launches: int) -> Iterator[list[int]]:
    """Code server, daemon and webserver; gives their process ids."""
    home = folder / "dagster"
    home.mkdir()
    text = (PROJECT / "dagster.yaml").read_text()
    for setting, value in (("max_concurrent_runs", concurrent), ("dequeue_num_workers", launches)):
        text, replaced = re.subn(rf"\b{setting}: \d+", f"{setting}: {value}", text)
        assert replaced == 1
    (home / "dagster.yaml").write_text(text)
    port = free_port()
    (folder / "workspace.yaml").write_text(of_servers({"sync_pipeline": port}))
    of_all = {**environment, "DAGSTER_HOME": str(home)}
    code = ["dagster", "code-server", "start", "-m", DEFINITIONS, "-h", "127.0.0.1", "-p", str(port)]
    with ExitStack() as stack:
        server = stack.enter_context(started(code, of_all, folder))
        listening(port)
        webserver = ["dagster_webserver", "-w", "workspace.yaml", "-p", str(free_port())]
        daemon = ["dagster._daemon", "run", "-w", "workspace.yaml"]
        others = [stack.enter_context(started(arguments, of_all, folder)) for arguments in (webserver, daemon)]
        yield [server.pid, *(other.pid for other in others)]


def rows(engine: sa.Engine, statement: str, **values: Any) -> list[Any]:
    """What a query returns."""
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement), values))


def resident_mb(process: int) -> float:
    """What a process has to itself."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) / KIB_PER_MB for line in lines if line.startswith("RssAnon"))
    return 0.0


def look(server: sa.Engine, pids: Sequence[int], seen: Seen) -> None:
    """Connections and memory at this moment."""
    now: Counter[str] = Counter()
    for name, active, count in rows(server, CONNECTIONS, role=ROLE):
        place = "Dagster's database" if name.endswith("_dagster") else "warehouse"
        now[place] += count
        now["all"] += count
        now["active"] += count if active else 0
    seen.note(now)
    below = {one for pid in pids for one in processes(pid)}
    seen.memory_mb = max(seen.memory_mb, sum(map(resident_mb, below)))


def overlapping(runs: Sequence[Run]) -> int:
    """How many runs began before the one of the same tenant before it had ended."""
    of_tenant: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.start or 0):
        of_tenant.setdefault(run.tenant, []).append(run)
    return sum(
        (later.start or 0) < (earlier.end or 0)
        for of_one in of_tenant.values()
        for earlier, later in itertools.pairwise(of_one)
    )


def measure(count: int, again: int, concurrent: int, launches: int) -> list[object]:
    """A line of the table."""
    with fresh_warehouse() as engine, TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder, warehouse = Path(name), engine.url
        sandbox = stack.enter_context(SandboxServer(ads=12, orders=20))
        ready = datetime.now(UTC) + timedelta(seconds=LOAD_S + LOAD_OF_TENANT_S * count)
        minute = ready.replace(second=0, microsecond=0) + timedelta(minutes=1)
        (folder / "tenants").mkdir()
        for tenant, text in files(count, again, minute).items():
            (folder / "tenants" / f"{tenant}.yaml").write_text(text)
        dagster = database.beside(warehouse, "_dagster")
        database.create_database(dagster, database.DAGSTER_VARIABLE)
        environment = {**ours(), **sandbox.environment, **paths(folder, warehouse, dagster)}
        pids = stack.enter_context(everything(environment, folder, concurrent, launches))
        server = sa.create_engine(warehouse.set(username=embedded.SUPERUSER, database="postgres"))
        storage = sa.create_engine(dagster.set(username=embedded.SUPERUSER))
        stack.callback(server.dispose)
        stack.callback(storage.dispose)
        code_server = pids[0]
        print(f"{count} tenants, {concurrent} at once: fire at {minute:%H:%M}", flush=True)
        if datetime.now(UTC) >= minute:
            raise RuntimeError("loading took longer than to the minute that fires; raise LOAD_S")
        before: float | None = None
        seen, wanted, fired = Seen(), count + again, minute.timestamp()
        runs: list[Run] = []
        while not (len(runs) >= wanted and all(run.status in ENDED for run in runs)):
            if time.time() > fired + PATIENCE_S:
                raise RuntimeError(f"only {len(runs)} of {wanted} runs after an hour")
            time.sleep(1)
            if time.time() < fired:
                continue
            before = waited_cpu(code_server) if before is None else before
            look(server, pids, seen)
            runs = [Run(*row) for row in rows(storage, RUNS)]
            statuses = Counter(run.status for run in runs)
            seen.running = max(seen.running, statuses["STARTED"] + statuses["STARTING"])
            seen.waiting = max(seen.waiting, statuses["QUEUED"])
        ticks = dict(map(tuple, rows(storage, TICKS)))
        cpu = (waited_cpu(code_server) - (before or 0)) / len(runs)
        last_end = max(run.end or 0 for run in runs)
        return [
            launches,
            concurrent,
            f"{ticks.get('SUCCESS', 0)} of {wanted}",
            sum(number for status, number in ticks.items() if status != "SUCCESS"),
            " ".join(f"{number} {status}" for status, number in Counter(run.status for run in runs).items()),
            overlapping(runs),
            f"{sorted(run.created for run in runs)[count - 1] - fired:.0f}",
            f"{last_end - fired:.0f}",
            f"{cpu:.2f}",
            seen.running,
            seen.waiting,
            f"{seen.connections['all']} ({seen.connections['warehouse']}, {seen.connections['active']})",
            f"{seen.memory_mb:.0f}",
        ]


def waited_cpu(process: int) -> float:
    """Processor seconds of the ended children of a process and theirs: the runs of a code server."""
    children = [child for child in processes(process) if child != process]
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for one in [process, *children]:
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) / ticks
    return total


def ours() -> dict[str, str]:
    """This process's environment without what configures the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_PIPELINE_", "DAGSTER_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def paths(folder: Path, warehouse: URL, dagster: URL) -> dict[str, str]:
    """Where the project finds things."""
    return {
        "SYNC_PIPELINE_DATABASE_URL": warehouse.render_as_string(hide_password=False),
        "DAGSTER_POSTGRES_URL": dagster.render_as_string(hide_password=False),
        "SYNC_PIPELINE_HOME": str(folder / "home"),
        "SYNC_PIPELINE_TENANTS": str(folder / "tenants"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--again", type=int, default=20, help="how many of them fire again a minute later")
    parser.add_argument("--concurrent", type=int, nargs="+", default=[10], help="max_concurrent_runs")
    parser.add_argument("--launches", type=int, default=4, help="dequeue_num_workers")
    options = parser.parse_args()
    # Told to end, it takes along what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{machine()}; {options.tenants} tenants, {options.again} of them again a minute later\n", flush=True)
    lines = [measure(options.tenants, options.again, concurrent, options.launches) for concurrent in options.concurrent]
    print_table(
        [
            "launches at a time",
            "max_concurrent_runs",
            "ticks",
            "other ticks",
            "runs",
            "overlapping",
            "a run of every tenant queued after, s",
            "last run ended after, s",
            "CPU of a run, s",
            "most at once",
            "most waiting",
            "most connections (to the warehouse; active)",
            "most memory, MB",
        ],
        lines,
    )


if __name__ == "__main__":
    main()
