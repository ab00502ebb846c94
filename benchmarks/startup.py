"""How long commands take to begin: `--help` until it has ended, `trigger` until its first request.

    .venv/bin/python -m benchmarks.startup [--rounds 10]

Seconds are given twice: on the clock, and of processor time (user and system), which other work on the machine
disturbs less. `trigger` runs one tenant over one day, on a Postgres that is up and whose tables are there. The second
table says what the imports of a whole run of each take, by package, without what a package imports of others.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final, NamedTuple

from benchmarks.machine import fresh_warehouse, machine, print_table
from benchmarks.memory import INSIGHTS, TENANT, TENANT_FILE, Answer, Api, served

CLI: Final = "sync_pipeline.cli"
PACKAGES: Final = ("dagster", "sqlalchemy", "alembic", "pydantic", "requests", "rich", "pandas", "plotly", "grpc")
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Begin(NamedTuple):
    """Seconds until a command had begun: on the clock, and of the processor."""

    seconds: float
    cpu: float


class FirstRequest(Api):
    """An API that notes what the process that asks has used when it is asked for the first time."""

    process: "subprocess.Popen[bytes]"
    asked: Begin | None = None
    began: float

    def answer(self, path: str, query: Mapping[str, str]) -> Answer:
        """The answer to a request."""
        if self.asked is None:
            self.asked = Begin(time.perf_counter() - self.began, cpu_of(self.process.pid))
        return super().answer(path, query)


def cpu_of(process: int) -> float:
    """Processor seconds of a running process so far, user and system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def whole(arguments: Sequence[str], environment: Mapping[str, str]) -> Begin:
    """A command from its start to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", CLI, *arguments], env=dict(environment), stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Begin(time.perf_counter() - began, used.ru_utime + used.ru_stime)


def until_request(arguments: Sequence[str], environment: Mapping[str, str], api: FirstRequest) -> Begin:
    """A command from its start to the first request that it sends."""
    api.asked, api.began = None, time.perf_counter()
    api.process = subprocess.Popen(
        [sys.executable, "-m", CLI, *arguments], env=dict(environment), stdout=subprocess.DEVNULL
    )
    assert api.process.wait() == 0
    assert api.asked is not None
    return api.asked


def imports(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds that the command spends importing, in all and by package; what is not imported is left out."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", CLI, *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    own: dict[str, float] = {"everything": 0.0}
    for line in done.stderr.splitlines():
        if found := re.fullmatch(r"import time:\s*(\d+) \|\s*(\d+) \|\s*(\S+)", line):
            package = found[3].partition(".")[0]
            own["everything"] += int(found[1]) / 1000
            own[package] = own.get(package, 0.0) + int(found[1]) / 1000
    return own


@contextmanager
def installed(
    api: Api, tenant_files: Mapping[str, str] = MappingProxyType({TENANT: TENANT_FILE})
) -> Iterator[dict[str, str]]:
    """The environment of a command: a migrated warehouse, tenants, and the API's address."""
    with fresh_warehouse() as engine, TemporaryDirectory(prefix="bench-") as name, served(api) as url:
        folder = Path(name)
        (folder / "tenants").mkdir()
        for tenant, text in tenant_files.items():
            (folder / "tenants" / f"{tenant}.yaml").write_text(text)
        yield {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("SYNC_PIPELINE_", "DAGSTER_"))
            },
            "BENCH_META_TOKEN": "x",
            "BENCH_PANCAKE_KEY": "x",
            "META_GRAPH_URL": url,
            "PANCAKE_API_URL": url,
            "SYNC_PIPELINE_DATABASE_URL": engine.url.render_as_string(hide_password=False),
            "SYNC_PIPELINE_HOME": str(folder / "home"),
            "SYNC_PIPELINE_TENANTS": str(folder / "tenants"),
        }


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    day = datetime.now(UTC).date() - timedelta(days=3)
    api = FirstRequest(day, insights=10)
    trigger = ["trigger", TENANT, INSIGHTS, "--since", day.isoformat(), "--until", day.isoformat()]
    print(f"{machine()}; {options.rounds} rounds\n", flush=True)
    with installed(api) as environment:
        whole(["--help"], environment)
        until_request(trigger, environment, api)
        found = {
            "`--help`, until its end": [whole(["--help"], environment) for _ in range(options.rounds)],
            "`trigger`, until its first request": [
                until_request(trigger, environment, api) for _ in range(options.rounds)
            ],
        }
        spent = {"`--help`": imports(["--help"], environment), "`trigger`": imports(trigger, environment)}
    targets = dict(zip(found, ("< 0.3 s", "≤ 3 s"), strict=True))
    print_table(
        ["command", "median, s", "fastest, s", "slowest, s", "CPU median, s", "target"],
        [
            (
                name,
                f"{statistics.median(one.seconds for one in runs):.2f}",
                f"{min(one.seconds for one in runs):.2f}",
                f"{max(one.seconds for one in runs):.2f}",
                f"{statistics.median(one.cpu for one in runs):.2f}",
                targets[name],
            )
            for name, runs in found.items()
        ],
    )
    print_table(
        ["imports of", "everything, ms", *(f"{package}, ms" for package in PACKAGES)],
        [
            (
                name,
                f"{packages['everything']:.0f}",
                *(f"{packages[package]:.0f}" if package in packages else "not imported" for package in PACKAGES),
            )
            for name, packages in spent.items()
        ],
    )


if __name__ == "__main__":
    main()
