"""Other clients of the Graph API against the sandbox, unmodified but for the host, and what each of them read.

    .venv/bin/python -m benchmarks.other_clients [--days 7] [--dlt-sources ADDRESS_OR_PATH] [--cache FOLDER]

dlt's facebook_ads source and Airbyte's connector read the same days of one ad account as `sync-pipeline trigger`. The
command prints sums and requests of each, and ends with 1 where a sum differs from ours. Both are installed once into
environments of their own; dlt's source is not on a package index, so it is cloned at a fixed commit.

dlt asks for no statuses, so Meta leaves archived and deleted ads out; and it drops the first day it asks for. Its sums
are therefore compared with ours without these ads, and it starts a day earlier.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import sqlalchemy as sa

from benchmarks.machine import administrate, fresh_warehouse, machine, print_table
from benchmarks.peers.environments import PINS, checkout, python_of
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.demo_tenants import LUMINA
from sync_pipeline.sandbox.entities import GONE_STATUSES
from sync_pipeline.sandbox.quota import Quota
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sandbox.world import World

PROJECT: Final = Path(__file__).parents[1]
PEERS: Final = Path(__file__).parent / "peers"
DLT_SOURCES: Final = "https://github.com/dlt-hub/verified-sources"
DLT_COMMIT: Final = "3957506893a7da821dbcc6acd51c7ca4475d1f53"
TIMEOUT_S: Final = 1800
# One account that counts leads and purchases, so that every list of actions has entries.
PLAN: Final = LUMINA._replace(
    name="other", meta_variable="OTHER_META_TOKEN", accounts=(LUMINA.accounts[0]._replace(share=1.0, web_shop=True),)
)
ACCOUNT_ID: Final = PLAN.accounts[0].account_id
TENANT_FILE: Final = f"""\
tenant: {PLAN.name}
name: Other clients
timezone: {PLAN.accounts[0].timezone}
start_date: 2023-01-01
currency: {PLAN.currency}
meta: {{access_token: {{env: {PLAN.meta_variable}}}, accounts: all}}
rate_limit: {{meta_delay_ms: 0}}
workflows:
  - {{name: sync, sources: [meta], date_range: {{type: rolling, offset_days: 1}}}}
"""
ENTITIES: Final = ("campaigns", "ad_sets", "ads", "ad_creatives")


@dataclass(frozen=True, slots=True)
class Sums:
    """The rows, spend and counts that a client read for the days."""

    rows: int
    spend: Decimal
    impressions: int
    clicks: int
    leads: int

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of a table."""
        return (f"{self.rows:,}", f"{self.spend:,.2f}", f"{self.impressions:,}", f"{self.clicks:,}", f"{self.leads:,}")


@dataclass(frozen=True, slots=True)
class Bench:
    """The API, the server, the folders and the days."""

    sandbox: SandboxServer
    engine: sa.Engine
    folder: Path
    cache: Path
    since: date
    until: date

    def run(self, command: Sequence[str]) -> tuple[str, Mapping[str, int]]:
        """Run a command; returns its output and the requests it made. Raises RuntimeError where it fails."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SYNC_PIPELINE_", "DAGSTER_"))
        }
        environment = {
            **kept,
            **self.sandbox.environment,
            "SYNC_PIPELINE_DATABASE_URL": self.engine.url.render_as_string(hide_password=False),
            "SYNC_PIPELINE_HOME": str(self.folder / "home"),
            "SYNC_PIPELINE_TENANTS": str(self.folder / "tenants"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
        self.sandbox.requests.clear()
        done = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command[:2]} failed: {done.stderr[-3000:]}{done.stdout[-2000:]}")
        return done.stdout, self.sandbox.requests.counts()

    def given(self, **more: object) -> str:
        """Return the parameters of a peer's script."""
        return json.dumps(
            {
                "graph_url": self.sandbox.environment["META_GRAPH_URL"],
                "token": self.sandbox.environment[PLAN.meta_variable],
                "account_id": ACCOUNT_ID,
                "folder": str(self.folder),
                **more,
            }
        )


def ours(bench: Bench) -> tuple[dict[bool, Sums], Mapping[str, int]]:
    """Run our sync; return the sums of all ads (True) and without archived and deleted ones (False), and requests."""
    span = ["--since", bench.since.isoformat(), "--until", bench.until.isoformat()]
    _, requests = bench.run([sys.executable, "-m", "sync_pipeline.cli", "trigger", PLAN.name, "sync", *span])
    gone = ", ".join(f"'{status}'" for status in sorted(GONE_STATUSES))
    columns = "count(*), sum(spend), sum(impressions), sum(clicks), sum(leads)"
    table = f"meta_ad_insights WHERE account_id = '{ACCOUNT_ID}' AND date BETWEEN '{bench.since}' AND '{bench.until}'"
    return {
        whole: Sums(*administrate(bench.engine, f"SELECT {columns} FROM {table}{condition}"))
        for whole, condition in ((True, ""), (False, f" AND status NOT IN ({gone})"))
    }, requests


def dlt(bench: Bench, sources: Path) -> tuple[Sums, Counter[str], Mapping[str, int]]:
    """Run dlt's source; return its sums, the number of entities of each kind, and requests."""
    dataset = "peer_dlt_facebook_ads"
    # Its first day is dropped.
    past_days = (datetime.now(UTC).date() - bench.since).days + 1
    url = bench.engine.url.set(drivername="postgresql", host="localhost").render_as_string(hide_password=False)
    work = bench.given(dataset=dataset, database=url, past_days=past_days, sources=str(sources))
    _, requests = bench.run([str(python_of("dlt", bench.cache)), str(PEERS / "dlt_facebook_ads.py"), work])
    days = f"date_start::date BETWEEN '{bench.since}' AND '{bench.until}'"
    leads = f"""
        SELECT coalesce(sum(a.value::numeric), 0)::bigint FROM {dataset}.facebook_insights__actions a
        JOIN {dataset}.facebook_insights i ON i._dlt_id = a._dlt_parent_id WHERE a.action_type = 'lead' AND i.{days}
    """
    table = f"{dataset}.facebook_insights i WHERE {days}"
    figures = f"count(*), sum(spend), sum(impressions)::bigint, sum(clicks)::bigint, ({leads})"
    row = administrate(bench.engine, f"SELECT {figures} FROM {table}")
    counts = {name: administrate(bench.engine, f"SELECT count(*) FROM {dataset}.{name}")[0] for name in ENTITIES}
    return Sums(*row), Counter(counts), requests


def airbyte(bench: Bench) -> tuple[Sums, Counter[str], Counter[str]]:
    """Run Airbyte's connector; return its sums, the number of entities of each kind, and requests."""
    command = [str(python_of("airbyte", bench.cache)), str(PEERS / "airbyte_source.py")]
    days = {"since": bench.since.isoformat(), "until": bench.until.isoformat()}
    insights = [("ads_insights", [], ["date_start", "account_id", "ad_id"])]
    output, requests = bench.run([*command, bench.given(**days, streams=insights)])
    rows = list(_records(output))
    sums = Sums(
        len(rows),
        sum((Decimal(str(row["spend"])) for row in rows), Decimal()),
        sum(int(row["impressions"]) for row in rows),
        sum(int(row["clicks"]) for row in rows),
        sum(int(a["value"]) for row in rows for a in row.get("actions") or [] if a["action_type"] == "lead"),
    )
    entities: Counter[str] = Counter()
    requested = Counter(requests)
    for name in ENTITIES:
        output, more = bench.run([*command, bench.given(streams=[(name, [], ["id"])])])
        entities[name] = len(list(_records(output)))
        requested.update(more)
    return sums, entities, requested


def in_the_world(world: World) -> Counter[str]:
    """Count the entities that a list without a filter holds; archived and deleted ads are not among them."""
    ads = world.ads(ACCOUNT_ID)
    return Counter(
        {
            "campaigns": len({ad.campaign_id for ad in ads}),
            "ad_sets": len({ad.adset_id for ad in ads}),
            "ads": sum(ad.effective_status not in GONE_STATUSES for ad in ads),
            "ad_creatives": len(ads),
        }
    )


def _records(output: str) -> Iterable[dict[str, Any]]:
    messages = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    return (message["record"]["data"] for message in messages if message["type"] == "RECORD")


@contextmanager
def started(cache: Path, days: int) -> Iterator[Bench]:
    """Start the API and the server, write a tenant file, and choose days that have ended in every timezone."""
    until = datetime.now(UTC).date() - timedelta(days=2)
    # Reports are ready when first polled: both clients wait 10 s and more before they poll again.
    behaviour = Behaviour(reports_unfinished_polls=0)
    world = World(ads=64, orders=0, plans=[PLAN._replace(shops=())])
    with (
        fresh_warehouse() as engine,
        TemporaryDirectory(prefix="bench-") as name,
        SandboxServer(world=world, quota=Quota(points=1e9), behaviour=behaviour) as sandbox,
    ):
        folder = Path(name)
        (folder / "tenants").mkdir()
        (folder / "tenants" / f"{PLAN.name}.yaml").write_text(TENANT_FILE)
        yield Bench(sandbox, engine, folder, cache, until - timedelta(days=days - 1), until)


def main() -> int:
    """Print the tables; return 1 if a client read something else than we did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument(
        "--dlt-sources", default=DLT_SOURCES, help="address or path of dlt's verified sources, a Git repository"
    )
    parser.add_argument("--cache", type=Path, default=PROJECT / ".benchmarks", help="where peers are installed")
    options = parser.parse_args()
    sources = checkout(options.dlt_sources, DLT_COMMIT, "sources/facebook_ads", options.cache)
    print(f"{machine()}; {'; '.join(' '.join(PINS[peer]) for peer in ('dlt', 'airbyte'))}\n", flush=True)
    with started(options.cache, options.days) as bench:
        own, own_requests = ours(bench)
        dlt_sums, dlt_entities, dlt_requests = dlt(bench, sources.parent)
        airbyte_sums, airbyte_entities, airbyte_requests = airbyte(bench)
        world = in_the_world(bench.sandbox.world)
    compared = [
        ("sync-pipeline trigger", own[True], own[True], own_requests),
        ("Airbyte source-facebook-marketing", airbyte_sums, own[True], airbyte_requests),
        ("sync-pipeline trigger, without archived and deleted ads", own[False], own[False], own_requests),
        ("dlt facebook_ads", dlt_sums, own[False], dlt_requests),
    ]
    print_table(
        ["client", "rows", "spend", "impressions", "clicks", "leads", "equal to ours", "requests", "by kind"],
        [
            (
                name,
                *sums.cells,
                "yes" if sums == expected else "NO",
                sum(requests.values()),
                ", ".join(f"{count} {kind}" for kind, count in requests.items()),
            )
            for name, sums, expected, requests in compared
        ],
    )
    counted = [("the sandbox", world), ("dlt facebook_ads", dlt_entities), ("Airbyte", airbyte_entities)]
    print_table(["entities", *world], [(name, *(found[kind] for kind in world)) for name, found in counted])
    equal = all(sums == expected for _, sums, expected, _ in compared)
    return 0 if equal and world == dlt_entities == airbyte_entities else 1


if __name__ == "__main__":
    sys.exit(main())
