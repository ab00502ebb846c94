"""How long a whole sync takes, start of the process to its end: `sync-pipeline trigger` beside what else does the work.

    .venv/bin/python -m benchmarks.whole_process [--rounds 3] [--rows 6000 60000] [--latency-ms 0 50] [--report-s 0]

The work: 30 days of insights of one ad account by ad and day, and the statuses of its ads, from a sandbox of Meta's
Graph API whose every answer comes so much later. All that store into Postgres use one server, started beforehand, whose
tables are there and empty. Peers are installed under `.benchmarks` once, and everybody runs once before a run counts.
Nothing is asserted: targets are printed beside the ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from benchmarks.machine import administrate, fresh_warehouse, machine, print_table
from benchmarks.peers import graph
from benchmarks.peers.environments import PINS, python_of
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources.insights import FIELDS
from sync_pipeline.warehouse.database import TENANT_SETTING

PROJECT: Final = Path(__file__).parents[1]
PEERS: Final = Path(__file__).parent / "peers"
DAYS: Final = 30
TIMEOUT_S: Final = 1800
TENANT_FILE: Final = f"""\
tenant: {graph.PLAN.name}
name: Benchmark
timezone: {graph.PLAN.accounts[0].timezone}
start_date: 2023-01-01
currency: {graph.PLAN.currency}
meta: {{access_token: {{env: {graph.PLAN.meta_variable}}}, accounts: all}}
rate_limit: {{meta_delay_ms: 0}}
workflows:
  - {{name: sync, sources: [meta], date_range: {{type: rolling, offset_days: 1}}}}
"""

OURS: Final = "sync-pipeline trigger"
DLT: Final = "dlt, asking as its facebook_ads source"
DLT_RANGE: Final = "dlt, range in pages of 500"
AIRBYTE: Final = "Airbyte source-facebook-marketing"
SDK: Final = "official SDK, pages of 500"
SDK_STORED: Final = "official SDK + execute_values"
ENGINE: Final = "our engine, without Dagster"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything is: the server, the folders, the days."""

    engine: sa.Engine
    folder: Path
    cache: Path
    since: date
    until: date

    @property
    def days(self) -> list[date]:
        """The days of the work."""
        return [self.since + timedelta(days=n) for n in range(DAYS)]

    @property
    def libpq_url(self) -> str:
        """The warehouse as libpq's clients are told of it: dlt wants a host, though `host` in the query counts."""
        return self.engine.url.set(drivername="postgresql", host="localhost").render_as_string(hide_password=False)

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(administrate(self.engine, f"SELECT count(*) FROM {table}")[0])

    def empty(self) -> None:
        """Empty what contenders have stored; their tables stay."""
        peers = administrate(
            self.engine,
            "TRUNCATE tenants CASCADE",
            f"INSERT INTO tenants (tenant_id, name, timezone) VALUES ('{graph.PLAN.name}', 'x', 'UTC')",
            "SELECT coalesce(array_agg(format('%I.%I', schemaname, tablename)), '{}') FROM pg_tables "
            "WHERE schemaname LIKE 'peer_%' AND tablename NOT LIKE '\\_dlt%'",
        )[0]
        administrate(self.engine, *(f"TRUNCATE {table}" for table in peers), "SELECT 1")


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds of the whole process, until its first request, those that it tells of itself; and what came."""

    seconds: float
    until_request: float
    inside: float | None
    rows: int
    requests: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Contender:
    """What does the work: its command, and how many rows it stored or, given its output, read."""

    name: str
    stores_in: str
    command: Callable[[Bench, SandboxServer], list[str]]
    rows: Callable[[Bench, Path], int]
    targets: Mapping[tuple[int, int], str] = field(default_factory=dict)


def given(bench: Bench, sandbox: SandboxServer, **more: object) -> str:
    """The parameters that a peer's script is run with."""
    folder = bench.folder / "peers"
    folder.mkdir(exist_ok=True)
    return json.dumps(
        {
            "graph_url": sandbox.environment["META_GRAPH_URL"],
            "token": sandbox.environment[graph.PLAN.meta_variable],
            "account_id": graph.ACCOUNT_ID,
            "tenant": graph.PLAN.name,
            "since": bench.since.isoformat(),
            "until": bench.until.isoformat(),
            "fields": FIELDS,
            "folder": str(folder),
            **more,
        }
    )


def trigger(bench: Bench, _: SandboxServer) -> list[str]:
    """The command that anybody would type."""
    span = ["--since", bench.since.isoformat(), "--until", bench.until.isoformat()]
    return [sys.executable, "-m", "sync_pipeline.cli", "trigger", graph.PLAN.name, "sync", *span]


def dlt_asking(way: str) -> Callable[[Bench, SandboxServer], list[str]]:
    """dlt with our REST source."""

    def command(bench: Bench, sandbox: SandboxServer) -> list[str]:
        work = given(bench, sandbox, way=way, dataset=f"peer_dlt_{way}", database=bench.libpq_url)
        return [str(python_of("dlt", bench.cache)), str(PEERS / "dlt_source.py"), work]

    return command


def airbyte(bench: Bench, sandbox: SandboxServer) -> list[str]:
    """The connector."""
    streams = [
        ("ads_insights", FIELDS, ["date_start", "account_id", "ad_id"]),
        ("ads", ["id", "name", "status", "effective_status", "updated_time"], ["id"]),
    ]
    return [
        str(python_of("airbyte", bench.cache)),
        str(PEERS / "airbyte_source.py"),
        given(bench, sandbox, streams=streams),
    ]


def sdk(bench: Bench, sandbox: SandboxServer) -> list[str]:
    """A loop on the official SDK that stores nothing."""
    return [str(python_of("sdk", bench.cache)), str(PEERS / "sdk_loop.py"), given(bench, sandbox)]


def sdk_stored(bench: Bench, sandbox: SandboxServer) -> list[str]:
    """The same into our table, whose row-level security wants to know whose rows they are."""
    bound = {"options": f"-c{TENANT_SETTING}={graph.PLAN.name}"}
    url = bench.engine.url.set(drivername="postgresql").update_query_dict(bound)
    work = given(bench, sandbox, database=url.render_as_string(hide_password=False))
    return [str(python_of("sdk", bench.cache)), str(PEERS / "sdk_loop.py"), work]


def own_engine(bench: Bench, sandbox: SandboxServer) -> list[str]:
    """The engine alone."""
    url = bench.engine.url.render_as_string(hide_password=False)
    work = given(bench, sandbox, warehouse=url, tenants=str(bench.folder / "tenants"))
    return [sys.executable, str(PEERS / "own_engine.py"), work]


def rows_of(table: str) -> Callable[[Bench, Path], int]:
    """Rows that are in a table."""
    return lambda bench, _: bench.count(table)


def rows_told(_: Bench, output: Path) -> int:
    """Rows that the contender says it has read."""
    return int(json.loads(output.read_text())["rows"])


def records(_: Bench, output: Path) -> int:
    """Insights among a connector's messages."""
    with output.open() as lines:
        messages = (json.loads(line) for line in lines if line.startswith("{"))
        return sum(1 for m in messages if m["type"] == "RECORD" and m["record"]["stream"] == "ads_insights")


CONTENDERS: Final = (
    Contender(OURS, "Postgres", trigger, rows_of("meta_ad_insights")),
    Contender(
        DLT,
        "Postgres",
        dlt_asking("reports"),
        rows_of("peer_dlt_reports.facebook_insights"),
        {(6000, 0): "≥ 1", (6000, 50): "≥ 4", (60000, 0): "≥ 5", (60000, 50): "≥ 5"},
    ),
    Contender(DLT_RANGE, "Postgres", dlt_asking("range"), rows_of("peer_dlt_range.facebook_insights")),
    Contender(AIRBYTE, "JSON lines", airbyte, records, {(6000, 50): "≥ 6", (60000, 0): "≥ 20", (60000, 50): "≥ 20"}),
    Contender(SDK, "nowhere", sdk, rows_told),
    Contender(SDK_STORED, "Postgres", sdk_stored, rows_of("meta_ad_insights")),
    Contender(ENGINE, "Postgres", own_engine, rows_of("meta_ad_insights")),
)
PEER_OF: Final = {DLT: "dlt", DLT_RANGE: "dlt", AIRBYTE: "airbyte", SDK: "sdk", SDK_STORED: "sdk"}


def run(contender: Contender, bench: Bench, sandbox: SandboxServer) -> Run:
    """One run, into emptied tables. Raises RuntimeError with the end of what it said where it fails."""
    bench.empty()
    command = contender.command(bench, sandbox)
    output = bench.folder / "output"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_PIPELINE_", "DAGSTER_"))}
    environment = {
        **kept,
        **sandbox.environment,
        "SYNC_PIPELINE_DATABASE_URL": bench.engine.url.render_as_string(hide_password=False),
        "SYNC_PIPELINE_HOME": str(bench.folder / "home"),
        "SYNC_PIPELINE_TENANTS": str(bench.folder / "tenants"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    graph.forget(sandbox)
    with output.open("w") as stdout:
        started_at, began = datetime.now(UTC), time.perf_counter()
        done = subprocess.run(
            command,
            env=environment,
            cwd=bench.folder,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{contender.name} failed: {done.stderr[-2000:]}{output.read_text()[-2000:]}")
    inside = json.loads(output.read_text())["seconds"] if contender.name in {SDK, SDK_STORED, ENGINE} else None
    until_request = (sandbox.requests.all()[0].at - started_at).total_seconds()
    return Run(seconds, until_request, inside, contender.rows(bench, output), sandbox.requests.counts())


def measure(
    bench: Bench, contenders: Sequence[Contender], *, ads: int, latency_ms: int, report_s: float, rounds: int
) -> dict[str, list[Run]]:
    """The runs of each contender; rounds take turns, every second one backwards."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    with graph.api(ads=ads, days=bench.days, latency_ms=latency_ms, report_s=report_s) as sandbox:
        for number in range(rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                one = run(contender, bench, sandbox)
                runs[contender.name].append(one)
                print(f"{number + 1} {contender.name}: {one.seconds:.2f} s", file=sys.stderr, flush=True)
    return runs


def seconds_of(runs: Sequence[float], others: Sequence[float]) -> list[str]:
    """Seconds run by run, their median, and the median of how many times those of `others` they are."""
    ratio = statistics.median(mine / other for mine, other in zip(runs, others, strict=True))
    return [*(f"{one:.2f}" for one in runs), f"{statistics.median(runs):.2f}", f"{ratio:.2f}"]


def show(contenders: Sequence[Contender], runs: Mapping[str, Sequence[Run]], work: tuple[int, int]) -> None:
    """Three tables: whole processes; what happens inside processes that have already started; requests."""
    rounds = [f"run {n + 1}, s" for n in range(len(runs[OURS]))]
    ours = [one.seconds for one in runs[OURS]]
    print_table(
        ["whole process", "stored in", "rows", "requests", *rounds, "median, s", "times ours", "target"],
        [
            (
                contender.name,
                contender.stores_in,
                f"{runs[contender.name][-1].rows:,}",
                sum(runs[contender.name][-1].requests.values()),
                *seconds_of([one.seconds for one in runs[contender.name]], ours),
                contender.targets.get(work, ""),
            )
            for contender in contenders
            if contender.name != ENGINE
        ],
    )
    inside = {name: [one.inside or 0.0 for one in runs[name]] for name in (ENGINE, SDK_STORED) if name in runs}
    if len(inside) == 2:
        print_table(
            ["first request to last commit", "requests", *rounds, "median, s", "times ours", "target"],
            [
                (
                    name,
                    sum(runs[name][-1].requests.values()),
                    *seconds_of(seconds, inside[ENGINE]),
                    "≥ 1" if name == SDK_STORED else "",
                )
                for name, seconds in inside.items()
            ],
        )
    print_table(
        ["process", "until its first request, median, s", "requests by kind"],
        [
            (
                name,
                f"{statistics.median(one.until_request for one in found):.2f}",
                ", ".join(f"{count} {kind}" for kind, count in found[-1].requests.items()),
            )
            for name, found in runs.items()
        ],
    )


@contextmanager
def started(cache: Path) -> Iterator[Bench]:
    """The server, a tenant's file, and days that are over in every timezone."""
    until = datetime.now(UTC).date() - timedelta(days=3)
    with fresh_warehouse() as engine, TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "tenants").mkdir()
        (folder / "tenants" / f"{graph.PLAN.name}.yaml").write_text(TENANT_FILE)
        yield Bench(engine, folder, cache, until - timedelta(days=DAYS - 1), until)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[6000], help="insights in all: ads times 30 days")
    parser.add_argument("--latency-ms", type=int, nargs="+", default=[0, 50], help="how late each answer is")
    parser.add_argument("--report-s", type=float, default=0, help="how long a report takes until it can be read")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=sorted(set(PEER_OF.values())), help="peers left out"
    )
    parser.add_argument("--cache", type=Path, default=PROJECT / ".benchmarks", help="where peers are installed")
    options = parser.parse_args()
    contenders = [one for one in CONTENDERS if PEER_OF.get(one.name) not in options.without]
    for peer in sorted({PEER_OF[one.name] for one in contenders if one.name in PEER_OF}):
        python_of(peer, options.cache)
    print(f"{machine()}; {'; '.join(' '.join(pins) for pins in PINS.values())}\n", flush=True)
    with started(options.cache) as bench:
        measure(bench, contenders, ads=10, latency_ms=0, report_s=0, rounds=1)
        for rows in options.rows:
            for latency_ms in options.latency_ms:
                reports = f", a report takes {options.report_s:g} s" if options.report_s else ""
                print(f"{rows:,} insights ({DAYS} days of {rows // DAYS:,} ads), {latency_ms} ms a request{reports}\n")
                runs = measure(
                    bench,
                    contenders,
                    ads=rows // DAYS,
                    latency_ms=latency_ms,
                    report_s=options.report_s,
                    rounds=options.rounds,
                )
                show(contenders, runs, (rows, latency_ms))


if __name__ == "__main__":
    main()
