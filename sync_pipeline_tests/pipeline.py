"""The whole pipeline in a test's hands: run a job over days, look at the tables and at what Dagster shows."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.definitions import build_definitions
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.settings import Settings
from sync_pipeline.text_safety import WORD_JOINER
from sync_pipeline.warehouse import embedded

DEMO_TENANTS = Path(__file__).parents[1] / "tenants"

INSIGHTS_QUERY = "SELECT * FROM meta_ad_insights ORDER BY tenant_id, date, account_id, ad_id"
ORDERS_QUERY = "SELECT * FROM pos_orders ORDER BY tenant_id, date_local, shop_id, pos_order_id"


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """The errors of a run's failed steps, with their causes and without their stacks."""
    failed = [event for event in result.all_events if event.is_step_failure]
    found: list[str] = []
    for event in failed:
        data = event.step_failure_data
        error = data.error
        while error is not None:
            found.append(f"{event.step_key}: {error.message.strip()}")
            error = error.cause
        if data.user_failure_data and data.user_failure_data.description:
            found.append(f"{event.step_key}: {data.user_failure_data.description}")
    return found


def all_seeing(url: URL) -> URL:
    """The warehouse as the server's superuser sees it: tests look at all tenants, and make data wrong on purpose."""
    return url.set(username=embedded.SUPERUSER)


def administrator(url: URL) -> sa.Engine:
    """The server's superuser, who makes and drops databases."""
    server = all_seeing(url).set(database="postgres")
    return sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


def copied_demo_tenants(folder: Path) -> Path:
    """The demo tenants' files in a folder of their own, free to be edited."""
    shutil.copytree(DEMO_TENANTS, folder)
    return folder


def rendered(description: str | None) -> str:
    """What the UI shows of a description that it renders as Markdown."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", description or "").replace(WORD_JOINER, "")


def schedule_months_ahead(tenant: str, now: datetime | None = None) -> str:
    """The text of a tenant file with every schedule moved to a day about six months ahead.

    A daemon in a test reads the real clock: at 02:00 in Manila it would start runs that the test does not expect.
    """
    month = ((now or datetime.now(UTC)).month + 5) % 12 + 1
    return re.sub(r'schedule: "(\S+ \S+) [^"]+"', rf'schedule: "\1 15 {month} *"', tenant)


@dataclass
class Pipeline:
    """The demo tenants on a sandbox, a warehouse and a Dagster instance."""

    sandbox: SandboxServer
    engine: sa.Engine
    instance: dg.DagsterInstance
    tenants: Path
    definitions: dg.Definitions = field(init=False)

    def __post_init__(self) -> None:
        self.reload()

    def reload(self) -> None:
        """Read the tenants' files again."""
        self.definitions = build_definitions(Settings.from_environment())

    def run(self, job: str, since: date, until: date, assets: Sequence[str] = ()) -> dg.ExecuteInProcessResult:
        """Run a job over a range of days; with `assets` (`tenant/name`) only those of its assets."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags=range_tags(DayRange(since, until)),
            asset_selection=[dg.AssetKey(name.split("/")) for name in assets] or None,
            raise_on_error=False,
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the warehouse."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def execute(self, statement: str) -> None:
        """Change something in the warehouse."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def tables(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """All insights and all orders, in order."""
        return self.query(INSIGHTS_QUERY), self.query(ORDERS_QUERY)

    def materialized(self, asset: str, run_id: str | None = None) -> dict[str, dict[str, Any]]:
        """The days of an asset that Dagster shows as materialized (by one run), with the figures of each."""
        records = self.instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=1000).records
        shown = [r for r in reversed(records) if run_id is None or r.run_id == run_id]
        assert run_id is None or len({r.partition_key for r in shown}) == len(shown), "a day is materialized once"
        return {
            str(record.partition_key): {
                name: value.value for name, value in record.asset_materialization.metadata.items()
            }
            for record in shown
            if record.asset_materialization
        }
