"""The command `status`; like all commands it imports what it needs when it is called."""

import json
import logging
import sys
from datetime import UTC, datetime

import click

from sync_pipeline import logs
from sync_pipeline.cli.opening import open_dagster, open_tenants
from sync_pipeline.terminal import say


@click.command()
@click.argument("tenant", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(tenant: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show the state of the sources of all tenants, or those of TENANT.

    Exit with 1 when a source is behind its schedule, lacks accounts or shops or has rejected rows, when its API
    version, token or access to data has ended, or when the file of a tenant is broken. An end within 60 days is a
    warning.

    LATE means that the day that the schedules should have brought by now is missing. INCOMPLETE means that stored days
    lack an account or shop that refuses; stderr names it and the command that excludes it. REJECTED counts the rows
    that could not be read when their day was last fetched; the table rejected_rows lists them. A day is complete once
    all of it was fetched after it was over in the tenant's timezone and in those of its ad accounts. BEHIND counts the
    days since the last complete one, up to yesterday, or for Meta up to the last day that was over when its last
    scheduled run began. MISSING counts the gaps before it. ROWS and REQUESTS are those of the last run that stored a
    day. LOCATION is the tenant's code location in Dagster's workspace. An error is shown until its day, or a later one,
    has been stored.
    """
    from sync_pipeline.cli import workflows
    from sync_pipeline.cli.locations import known_locations
    from sync_pipeline.cli.status import as_json as plain
    from sync_pipeline.cli.status import as_table, statuses
    from sync_pipeline.resources import open_warehouse

    with open_dagster() as (settings, instance), open_warehouse() as warehouse:
        in_use = open_tenants(settings)
        tenants = in_use.tenants if tenant is None else [workflows.find_tenant(in_use, tenant)]
        listed = statuses(tenants, instance, warehouse, datetime.now(UTC), known_locations(settings, instance))
    say(json.dumps([plain(one) for one in listed], indent=2) if as_json else as_table(listed))
    problems = [(one, sentence) for one in listed for sentence in one.problems]
    for one, sentence in problems:
        where = {"tenant": one.tenant_id, "source": one.source}
        logs.tell(f"{one.tenant_id}: {sentence}", fields=where)
    for one in listed:
        for sentence in one.warnings:
            logs.tell(f"{one.tenant_id}: {sentence}", logging.WARNING, {"tenant": one.tenant_id, "source": one.source})
    left_out = tenant is None and any(one.left_out for one in in_use.set_aside)
    sys.exit(1 if problems or left_out else 0)
