"""What many tenants cost: to load them, to start one tenant's run among them, and to show them.

    .venv/bin/python -m benchmarks.tenants [--tenants 1 100 1000] [--rounds 3] [--locations 2]

Every tenant has both sources and three workflows, each with a schedule. The tables:

1. Loading, in a process of its own: the definitions imported and their repository built; then what a code server does
   besides before it answers, which is to make every job and to describe all of it to the webserver.
2. One tenant's run: `trigger` until its first request, and a run that is launched in the UI, from the click to its
   first request, through a webserver and its code server.
3. The UI: how long the webserver takes until every location is loaded, what two of its largest queries take and weigh,
   and the peaks of webserver and code servers. Last with the tenants divided among several code locations, each a code
   server of its own with its own SYNC_PIPELINE_TENANTS, whose `workspace.yaml` is printed.

CPU seconds are user and system.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, Final

import requests
import yaml

from benchmarks.machine import machine, print_table
from benchmarks.memory import KIB_PER_MB
from benchmarks.startup import Begin, FirstRequest, cpu_of, installed, until_request

DEFINITIONS: Final = "sync_pipeline.definitions"
PROJECT: Final = Path(__file__).parents[1]
WORKFLOW: Final = "daily_sync"
ZONES: Final = ("Asia/Manila", "UTC", "Asia/Ho_Chi_Minh")
READY_WITHIN_S: Final = 900
TENANT_FILE: Final = """\
tenant: {name}
name: Tenant {name}
timezone: {zone}
start_date: 2025-01-01
currency: PHP
meta: {{access_token: {{env: BENCH_META_TOKEN}}, accounts: all}}
pancake: [{{api_key: {{env: BENCH_PANCAKE_KEY}}, shops: all}}]
rate_limit: {{meta_delay_ms: 0, pos_delay_ms: 0}}
late_orders: {{enabled: false}}
workflows:
  - {{name: daily_sync, sources: [meta, pos], date_range: {{type: rolling, offset_days: 1}}, schedule: "0 2 * * *"}}
  - {{name: weekly_resync, sources: [meta, pos], date_range: {{type: relative, days: 7}}, schedule: "0 3 * * 1"}}
  - {{name: insights, sources: [meta], date_range: {{type: rolling, offset_days: 0}}, schedule: "*/30 * * * *"}}
"""
NAMES_QUERY: Final = """{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError {
  __typename ... on PythonError { message } ... on RepositoryLocation { repositories {
    pipelines { name } schedules { name } sensors { name } assetGroups { groupName } } } } } } } }"""
ASSETS_QUERY: Final = "{ assetNodes { id assetKey { path } groupName isPartitioned } }"
STATUS_QUERY: Final = "{ locationStatusesOrError { ... on WorkspaceLocationStatusEntries { entries { loadStatus } } } }"
LAUNCH: Final = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RUN_QUERY: Final = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


def names(count: int) -> list[str]:
    """The tenants' names."""
    return [f"t{n:05d}" for n in range(count)]


def files(count: int) -> dict[str, str]:
    """So many tenant files."""
    return {name: TENANT_FILE.format(name=name, zone=ZONES[n % len(ZONES)]) for n, name in enumerate(names(count))}


def measured_load() -> None:
    """Load in this process what the environment names, and print step by step what has been used."""
    steps: list[tuple[str, float, float, float]] = []
    began = time.perf_counter()

    def step(name: str) -> None:
        peak = getrusage(RUSAGE_SELF).ru_maxrss / KIB_PER_MB
        steps.append((name, time.perf_counter() - began, time.process_time(), peak))

    import dagster  # noqa: F401
    from dagster._core.remote_representation.external_data import RepositorySnap

    step("Dagster imported")
    from sync_pipeline.definitions import defs

    repository = defs.get_repository_def()
    step("definitions, repository")
    repository.load_all_definitions()
    step("every job made")
    RepositorySnap.from_def(repository, defer_snapshots=True)
    step("described to the webserver")
    print(json.dumps(steps))


def python(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """What a Python process of ours prints last."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=with_project(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout.splitlines()[-1]


def with_project(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that is started in another folder."""
    paths = [os.environ.get("PYTHONPATH"), str(PROJECT)]
    return {**environment, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


@dataclass
class Ui:
    """A webserver."""

    url: str
    process: "subprocess.Popen[bytes]"

    def ask(self, query: str, **variables: Any) -> tuple[Any, float, int]:
        """A query's data, its seconds, and its answer's bytes."""
        began = time.perf_counter()
        answer = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=600)
        seconds = time.perf_counter() - began
        return answer.json()["data"], seconds, len(answer.content)

    def wait(self, locations: int) -> None:
        """Wait until every location is loaded. Raises RuntimeError where that takes too long."""
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until and self.process.poll() is None:
            with suppress(requests.ConnectionError, KeyError):
                found, _, _ = self.ask(STATUS_QUERY)
                entries = found["locationStatusesOrError"]["entries"]
                if len(entries) == locations and all(entry["loadStatus"] == "LOADED" for entry in entries):
                    return
            time.sleep(0.1)
        raise RuntimeError("the webserver has not loaded its locations")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def started(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process, ended with those that it started."""
    with (folder / f"{time.time_ns()}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=dict(environment),
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for number in (signal.SIGINT, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)


@contextmanager
def ui(environment: Mapping[str, str], folder: Path, workspace: str) -> Iterator[Ui]:
    """A webserver with this workspace.yaml; runs are launched at once, not by a daemon that takes them from a queue."""
    home = folder / "dagster"
    home.mkdir(exist_ok=True)
    instance = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    instance["run_coordinator"] = {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"}
    del instance["concurrency"]
    (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
    (folder / "workspace.yaml").write_text(workspace)
    port = free_port()
    arguments = ["dagster_webserver", "-w", "workspace.yaml", "-p", str(port)]
    with started(arguments, {**environment, "DAGSTER_HOME": str(home)}, folder) as process:
        yield Ui(f"http://127.0.0.1:{port}", process)


def one_location() -> str:
    """The project's own workspace."""
    return (PROJECT / "workspace.yaml").read_text()


def of_servers(ports: Mapping[str, int]) -> str:
    """A workspace of code servers that run by themselves."""
    entries = "".join(
        f"  - grpc_server:\n      host: 127.0.0.1\n      port: {port}\n      location_name: {name}\n"
        for name, port in ports.items()
    )
    return f"load_from:\n{entries}"


def processes(of: int) -> list[int]:
    """A process and all that descend from it."""
    with suppress(OSError):
        # Each thread has children of its own.
        lists = [file.read_text().split() for file in Path(f"/proc/{of}/task").glob("*/children")]
        children = [child for of_thread in lists for child in of_thread]
        return [of, *(one for child in children for one in processes(int(child)))]
    return []


def peak_mb(process: int) -> float:
    """The peak of a running process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / KIB_PER_MB for line in lines if line.startswith("VmHWM"))


def measured_ui(found: Ui, locations: int, began: float, servers: Sequence[int] = ()) -> list[str]:
    """A line of the third table: seconds until loaded, two queries, and the peaks."""
    found.wait(locations)
    loaded = time.perf_counter() - began
    _, names_s, names_bytes = found.ask(NAMES_QUERY)
    _, assets_s, assets_bytes = found.ask(ASSETS_QUERY)
    below = [one for server in servers for one in processes(server)] or processes(found.process.pid)[1:]
    cpu = sum(cpu_of(one) for one in [found.process.pid, *below])
    return [
        f"{loaded:.1f}",
        f"{cpu:.1f}",
        f"{names_s:.2f}",
        f"{names_bytes / 1e6:.1f}",
        f"{assets_s:.2f}",
        f"{assets_bytes / 1e6:.1f}",
        f"{peak_mb(found.process.pid):.0f}",
        f"{max(map(peak_mb, below)):.0f}",
    ]


def launched(found: Ui, api: FirstRequest, day: date) -> Begin:
    """A run launched in the UI: from the click until the run's first request, and what the processes used for it."""
    span = {"dagster/asset_partition_range_start": str(day), "dagster/asset_partition_range_end": str(day)}
    params = {
        "selector": {
            "repositoryLocationName": "sync_pipeline",
            "repositoryName": "__repository__",
            "jobName": f"{names(1)[0]}__{WORKFLOW}",
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in span.items()]},
    }
    used = {process: cpu_of(process) for process in processes(found.process.pid)}
    api.process, api.asked, api.began = found.process, None, time.perf_counter()
    answer, _, _ = found.ask(LAUNCH, params=params)
    if answer["launchRun"]["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(str(answer))
    while api.asked is None:
        time.sleep(0.002)
    after = {process: cpu_of(process) for process in processes(found.process.pid)}
    run_id = answer["launchRun"]["run"]["runId"]
    status = ""
    while status not in {"SUCCESS", "FAILURE"}:
        time.sleep(0.2)
        status = found.ask(RUN_QUERY, id=run_id)[0]["runOrError"]["status"]
    if status != "SUCCESS":
        raise RuntimeError(f"run {run_id} ended as {status}")
    return Begin(api.asked.seconds, sum(seconds - used.get(one, 0.0) for one, seconds in after.items()))


@dataclass(frozen=True)
class Measured:
    """What was measured with so many tenants."""

    count: int
    load: list[tuple[str, float, float, float]]
    triggered: list[Begin]
    launched: list[Begin]
    ui: list[str]


def measure(count: int, rounds: int, day: date) -> Measured:
    """All three with so many tenants in one code location."""
    api = FirstRequest(day, insights=10)
    with installed(api, files(count)) as environment:
        folder = Path(environment["SYNC_PIPELINE_TENANTS"]).parent
        days = ["--since", str(day), "--until", str(day)]
        trigger = ["trigger", names(1)[0], WORKFLOW, *days]
        until_request(trigger, environment, api)
        triggered = [until_request(trigger, environment, api) for _ in range(rounds)]
        load = json.loads(python(["benchmarks.tenants", "--load"], environment))
        print(count, triggered, load, file=sys.stderr, flush=True)
        environment = with_project(environment) | {"DAGSTER_POSTGRES_URL": dagster_url(environment)}
        began = time.perf_counter()
        with ui(environment, folder, one_location()) as found:
            line = measured_ui(found, 1, began)
            launched(found, api, day)
            runs = [launched(found, api, day) for _ in range(rounds)]
    print(count, runs, line, file=sys.stderr, flush=True)
    return Measured(count, load, triggered, runs, line)


def dagster_url(environment: Mapping[str, str]) -> str:
    """The database that `trigger` has made for Dagster beside the warehouse."""
    from sync_pipeline.warehouse import database

    beside = database.beside(database.parse_url(environment["SYNC_PIPELINE_DATABASE_URL"]), "_dagster")
    return beside.render_as_string(hide_password=False)


def measure_split(count: int, locations: int, day: date) -> tuple[str, list[str]]:
    """The tenants divided among code servers: the workspace.yaml, and the line of the third table."""
    api = FirstRequest(day, insights=10)
    with installed(api, files(1)) as environment:
        until_request(["trigger", names(1)[0], WORKFLOW, "--since", str(day), "--until", str(day)], environment, api)
        folder = Path(environment["SYNC_PIPELINE_TENANTS"]).parent
        environment = with_project(environment) | {"DAGSTER_POSTGRES_URL": dagster_url(environment)}
        ports: dict[str, int] = {}
        servers: list[Any] = []
        began = time.perf_counter()
        for number in range(locations):
            tenants = folder / f"tenants_{number}"
            tenants.mkdir()
            for name, text in list(files(count).items())[number::locations]:
                (tenants / f"{name}.yaml").write_text(text)
            ports[f"tenants_{number}"] = port = free_port()
            arguments = ["dagster", "code-server", "start", "-m", DEFINITIONS, "-h", "127.0.0.1", "-p", str(port)]
            servers.append(started(arguments, {**environment, "SYNC_PIPELINE_TENANTS": str(tenants)}, folder))
        workspace = of_servers(ports)
        running = [server.__enter__() for server in servers]
        try:
            for port in ports.values():
                listening(port)
            with ui(environment, folder, workspace) as found:
                return workspace, measured_ui(found, locations, began, [server.pid for server in running])
        finally:
            for server in servers:
                server.__exit__(None, None, None)


def listening(port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)


def show(found: Sequence[Measured], split: tuple[str, list[str]] | None, locations: int) -> None:
    """The tables."""
    print_table(
        ["tenants, after", "seconds", "CPU seconds", "peak, MB"],
        [
            (f"{one.count:,}, {name}", f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:.0f}")
            for one in found
            for name, seconds, cpu, peak in one.load
        ],
    )
    few = found[0]

    def middle(runs: Sequence[Begin], which: str) -> float:
        return statistics.median(run.seconds if which == "seconds" else run.cpu for run in runs)

    print_table(
        ["until the first request", "median, s", "times one tenant's", "CPU median, s", "times one tenant's"],
        [
            (
                f"{label}, {one.count:,} tenants",
                *(
                    text
                    for which in ("seconds", "cpu")
                    for text in (
                        f"{middle(getattr(one, way), which):.2f}",
                        f"{middle(getattr(one, way), which) / middle(getattr(few, way), which):.2f}",
                    )
                ),
            )
            for label, way in (("`trigger`", "triggered"), ("launched in the UI", "launched"))
            for one in found
        ],
    )
    lines = [(f"{one.count:,} tenants", *one.ui) for one in found]
    if split:
        lines.append((f"{found[-1].count:,} tenants, {locations} locations", *split[1]))
    print_table(
        [
            "webserver",
            "loaded after, s",
            "CPU seconds",
            "names, s",
            "MB",
            "assets, s",
            "MB",
            "webserver peak, MB",
            "code server peak, MB",
        ],
        lines,
    )
    if split:
        print(f"The `workspace.yaml` of the last line:\n\n```yaml\n{split[0]}```")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--locations", type=int, default=2, help="1: the last line of the last table is left out")
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        measured_load()
        return
    # Told to end, it takes along what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    day = datetime.now(UTC).date() - timedelta(days=3)
    print(f"{machine()}; {options.rounds} rounds\n", flush=True)
    found = [measure(count, options.rounds, day) for count in options.tenants]
    split = measure_split(options.tenants[-1], options.locations, day) if options.locations > 1 else None
    show(found, split, options.locations)


if __name__ == "__main__":
    main()
