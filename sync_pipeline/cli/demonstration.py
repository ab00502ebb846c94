"""The demonstration: a sandbox of both APIs, an embedded Postgres, and the project's own jobs on them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pandas as pd
import sqlalchemy as sa

from sync_pipeline.cli import installation
from sync_pipeline.cli.foreground import run_in_foreground
from sync_pipeline.cli.serving import serve
from sync_pipeline.date_ranges import explicit, today_in
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import Tenant, load_tenants
from sync_pipeline.terminal import say
from sync_pipeline.warehouse import database
from sync_pipeline.warehouse.schema import sync_log


class SandboxError(SyncPipelineError):
    """The sandbox did not start."""


def run(days: int, port: int | None) -> bool:
    """Sync the last `days` days of the demo tenants, print what is stored, and serve the UI on `port` if given."""
    # Made-up rows have no place in a real warehouse, whatever this shell is set up for.
    for variable in ("SYNC_PIPELINE_DATABASE_URL", "DAGSTER_POSTGRES_URL", "SYNC_PIPELINE_TENANTS", "DAGSTER_HOME"):
        os.environ.pop(variable, None)
    os.environ["SYNC_PIPELINE_TENANTS"] = str(installation.project_file("tenants"))
    with _sandbox() as issued:
        os.environ.update(issued)
        settings = installation.prepare(Settings.from_environment())
        tenants = [t for t in load_tenants(settings.tenants).tenants if _credentials(t) <= issued.keys()]
        results = [_sync(tenant, days) for tenant in tenants]
        say(_stored(settings, tenants))
        if port is None:
            return all(results)
        say(f"\nThe Dagster UI is at http://127.0.0.1:{port} (Ctrl-C ends it)")
        return serve("127.0.0.1", port) == 0


def _sync(tenant: Tenant, days: int) -> bool:
    today = today_in(tenant.timezone)
    since, until = today - timedelta(days=days), today - timedelta(days=1)
    workflow = tenant.workflows[0]
    return run_in_foreground(tenant, workflow, explicit(since, until, today=today, start_date=tenant.start_date))


def _credentials(tenant: Tenant) -> set[str]:
    sources = {key.api_key.source for key in tenant.pancake}
    return sources | {tenant.meta.access_token.source} if tenant.meta else sources


def _stored(settings: Settings, tenants: Sequence[Tenant]) -> str:
    """Rows and money per tenant, source and day, as the last sync of each left them."""
    log = sync_log.c
    latest = (
        sa.select(log.tenant_id, log.source, log.day, log.rows, log.amount, log.requests)
        .distinct(log.tenant_id, log.source, log.day)
        .order_by(log.tenant_id, log.source, log.day, log.id.desc())
    )
    engine = database.connect(database.warehouse_url(settings.database_url, settings.home))
    frames = []
    for tenant in tenants:
        with database.bound_to(engine, tenant.tenant_id) as connection:
            frames.append(pd.read_sql(latest, connection))
    engine.dispose()
    frame = pd.concat(frames)
    frame = frame.rename(columns={"tenant_id": "tenant", "amount": "spend or order total"})
    return "\nStored:\n" + frame.to_string(index=False, float_format=lambda amount: f"{amount:,.2f}")


@contextmanager
def _sandbox() -> Iterator[Mapping[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sync_pipeline.sandbox"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SandboxError(f"the sandbox ended with exit code {process.wait()} before it was ready")
        yield json.loads(line)
    finally:
        process.terminate()
        process.wait()
