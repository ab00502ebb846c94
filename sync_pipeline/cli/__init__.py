"""The command line. What only one command needs is imported by that command: `--help` must not load Dagster."""

import json
import logging
import os
import signal
import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from sync_pipeline import logs
from sync_pipeline.cli.access_commands import grant, revoke, tenant_commands
from sync_pipeline.cli.exclusion_commands import account_commands, shop_commands
from sync_pipeline.cli.groups import ListGroup
from sync_pipeline.cli.metrics_command import metrics
from sync_pipeline.cli.opening import open_dagster, open_tenants
from sync_pipeline.cli.status_command import status
from sync_pipeline.env_file import load_env_file
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.secret_files import load_secret_files
from sync_pipeline.settings import Settings
from sync_pipeline.terminal import say

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from sync_pipeline.date_ranges import DayRange
    from sync_pipeline.tenants import Tenant, Workflow

DAY = click.DateTime(formats=["%Y-%m-%d"])
STATUS = click.Choice(["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"], case_sensitive=False)


def main() -> None:
    """Run the command line; every expected error is one line on stderr and exit code 1."""
    # Told to end, a command ends as on Ctrl-C: a run is cancelled, children and servers are taken along. A shell starts
    # its background jobs deaf to SIGINT, and our children would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        load_env_file(Path.cwd())
        load_secret_files(os.environ)
        if sys.stderr.isatty() and logs.as_json():
            # A container's services log JSON; a person who runs a command in one of them wants text.
            os.environ[logs.VARIABLE] = ""
        logs.configure()
        commands(standalone_mode=False)
    except click.ClickException as error:
        _fail(" ".join(error.format_message().split()), code=error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", code=130)
    except SyncPipelineError as error:
        _fail(str(error))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sync-pipeline")
def commands() -> None:
    """Meta ad spend and Pancake POS orders, per tenant and day, in Postgres, through Dagster.

    Tenants are YAML files in the folder that SYNC_PIPELINE_TENANTS names (default: tenants). Rows go to the Postgres
    of SYNC_PIPELINE_DATABASE_URL; unset, an embedded one under SYNC_PIPELINE_HOME (default: .sync_pipeline) is used.
    A file named .env in the current folder is read first. With SYNC_PIPELINE_LOG=json, messages on stderr are JSON
    unless stderr is a terminal.
    """


@commands.command()
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True, help="How many days, to yesterday.")
@click.option("--ui/--no-ui", default=True, help="Serve the Dagster UI afterwards, or exit.")
@click.option("--port", type=int, default=3000, show_default=True, help="Port of the Dagster UI.")
def demo(days: int, ui: bool, port: int) -> None:  # noqa: FBT001
    """Show it all on made-up data: embedded Postgres, a sandbox of both APIs, two tenants.

    Runs the daily workflow of the demo tenants through Dagster over the last days, prints what was stored, and serves
    the Dagster UI. Needs the `embedded` extra; nothing leaves this machine.
    """
    from sync_pipeline.cli.demonstration import run

    sys.exit(0 if run(days, port if ui else None) else 1)


@commands.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the Dagster UI listens on.")
@click.option("--port", type=int, default=3000, show_default=True, help="Port of the Dagster UI.")
def dev(host: str, port: int) -> None:
    """Run the Dagster UI, its daemon and the code location for your own tenants, until interrupted."""
    from sync_pipeline.cli import installation
    from sync_pipeline.cli.serving import serve
    from sync_pipeline.tenants import load_tenants

    settings = Settings.from_environment()
    load_tenants(settings.tenants)
    _migrate(installation.prepare_warehouse(settings), despite_runs=False)
    installation.prepare(Settings.from_environment())
    sys.exit(serve(host, port))


@commands.command()
@click.option("--check", "check_only", is_flag=True, help="Change nothing; exit with 1 if this version cannot be used.")
@click.option("--despite-runs", is_flag=True, help="Migrate even if executions in progress cannot continue after it.")
def migrate(check_only: bool, despite_runs: bool) -> None:  # noqa: FBT001
    """Bring the warehouse's tables to the version this package works on.

    Executions in progress continue after an additive migration, which only adds tables, columns and views. Any other
    is refused while there are some. Tables of a newer version stay as they are; an error says so if this version
    cannot work with them. With --check this is all that the command does.
    """
    from sync_pipeline.cli import installation
    from sync_pipeline.warehouse.database import warehouse_url

    settings = Settings.from_environment()
    if check_only:
        warehouse = warehouse_url(settings.database_url, settings.home)
    else:
        warehouse = installation.prepare_warehouse(settings)
        _migrate(warehouse, despite_runs=despite_runs)
    if warning := installation.require_tables(warehouse):
        logs.tell(warning, logging.WARNING)


@commands.command()
@click.argument("tenant", required=False)
@click.option("--live", is_flag=True, help="Also ask both APIs what each token and key can see.")
def check(tenant: str | None, live: bool) -> None:  # noqa: FBT001
    """Check the tenant files, of all tenants or of TENANT; exit 1 when one is not usable.

    Reads the files and their product costs, and says which environment variables are still missing. With --live it
    also asks Meta and Pancake: whose token it is, when it and its access to data end, which accounts and shops can be
    read, and which accounts keep other days or another currency than the tenant. Whatever a workflow needs and cannot
    reach is then a failure. An API version or token that has ended is one too; an end within 60 days is a warning.
    """
    from sync_pipeline.cli import checking
    from sync_pipeline.tenants import load_tenants

    failed = False
    for line in checking.report(load_tenants(Settings.from_environment().tenants), tenant, live=live):
        if line.problem or line.warning:
            logs.tell(line.text, logging.ERROR if line.problem else logging.WARNING)
        else:
            say(line.text)
        failed = failed or line.problem
    sys.exit(1 if failed else 0)


@commands.command()
@click.argument("tenant")
@click.argument("workflow")
@click.option("--since", type=DAY, help="First day, instead of the workflow's own range.")
@click.option("--until", type=DAY, help="Last day, included.")
def trigger(tenant: str, workflow: str, since: datetime | None, until: datetime | None) -> None:
    """Run WORKFLOW of TENANT now, in the foreground, as a Dagster run.

    Days are those of the workflow's date range as of today in the tenant's timezone, or --since to --until. Exit 0
    only if every day was stored.
    """
    from sync_pipeline.cli import installation
    from sync_pipeline.cli.foreground import run_in_foreground
    from sync_pipeline.rows.costs import load_product_costs
    from sync_pipeline.tenants import load_tenant

    settings = Settings.from_environment()
    chosen = load_tenant(settings.tenants, tenant)
    flow = chosen.workflow(workflow)
    if chosen.product_costs and "pos" in flow.sources:
        # Whoever has just edited them wants these, not the last good ones.
        load_product_costs(chosen.product_costs)
    days = _days(chosen, flow, since.date() if since else None, until.date() if until else None)
    installation.prepare(settings)
    sys.exit(0 if run_in_foreground(chosen, flow, days) else 1)


@commands.command()
@click.argument("tenant")
@click.option("--since", type=DAY, help="First day; default: of the last seven up to yesterday.")
@click.option("--until", type=DAY, help="Last day, included.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write the table there, for machines.")
@click.option("--html", "html_file", metavar="FILE", help="Write a page with charts there; it opens offline.")
def report(
    tenant: str, since: datetime | None, until: datetime | None, csv_file: str | None, html_file: str | None
) -> None:
    """Show what the marketing associates of TENANT spent and earned, the highest projected margin first.

    Figures are those of the stored days, in the tenant's timezone; nothing is fetched. Days without figures are named
    on stderr. Where a FILE is -, standard output holds nothing else.
    """
    from sync_pipeline.cli import installation, reporting
    from sync_pipeline.cli.workflows import find_tenant
    from sync_pipeline.resources import open_warehouse
    from sync_pipeline.warehouse import reports

    if bool(since) != bool(until):
        raise click.UsageError("--since and --until go together; for a single day give it twice")
    if csv_file == html_file == reporting.STDOUT:
        raise click.UsageError("only one of --csv and --html can go to standard output")
    settings = Settings.from_environment()
    chosen = find_tenant(open_tenants(settings), tenant)
    days = reporting.requested_days(chosen, since.date() if since else None, until.date() if until else None)
    installation.prepare_warehouse(settings)
    with open_warehouse() as warehouse:
        found = reports.report(warehouse.engine, chosen.tenant_id, days, chosen.rates)
    if found is None:
        raise reporting.NoFiguresError(chosen.tenant_id, days, reporting.remedy(chosen, days.days))
    for warning in reporting.warnings(chosen, found):
        logs.tell(warning, logging.WARNING)
    if html_file:
        from sync_pipeline.cli import report_page

        reporting.write(html_file, report_page.page(chosen, found).encode())
    if csv_file:
        reporting.write(csv_file, reporting.as_csv(found))
    if reporting.STDOUT not in (csv_file, html_file):
        say(reporting.as_text(chosen, found))


@commands.group("workflows", cls=ListGroup)
def workflow_commands() -> None:
    """List the workflows, show one, switch its schedule on or off.

    Without a command: list. To create, change or delete a workflow, edit the tenant's file, then `check` it; `dev`
    loads it by itself, elsewhere `reload` does.
    """


@workflow_commands.command("list")
@click.argument("tenant", required=False)
def list_workflows(tenant: str | None) -> None:
    """List the workflows of all tenants, or of TENANT.

    SCHEDULE is the state that Dagster uses; `enabled` in the file is only its first value. NEXT is in the tenant's
    timezone. LOCATION is the tenant's code location in Dagster's workspace. Where several may have the tenant, each of
    them has a line, with the state of the schedule there.
    """
    from sync_pipeline.cli import workflows
    from sync_pipeline.cli.locations import known_locations

    with open_dagster() as (settings, instance):
        in_use = open_tenants(settings)
        if tenant is not None:
            workflows.find_tenant(in_use, tenant)
        locations = known_locations(settings, instance)
        found = [one for one in workflows.listed(in_use, instance, locations) if tenant in (None, one.tenant.tenant_id)]
    say(workflows.as_table(found))
    for warning in workflows.location_warnings(found):
        logs.tell(warning, logging.WARNING)


@workflow_commands.command("show")
@click.argument("tenant")
@click.argument("workflow")
def show_workflow(tenant: str, workflow: str) -> None:
    """Show everything about WORKFLOW of TENANT."""
    from sync_pipeline.cli import workflows
    from sync_pipeline.cli.locations import known_locations

    with open_dagster() as (settings, instance):
        in_use, locations = open_tenants(settings), known_locations(settings, instance)
        found = workflows.find(in_use, instance, locations, tenant, workflow)
    say("\n\n".join(workflows.as_fields(one) for one in found))
    for warning in workflows.location_warnings(found):
        logs.tell(warning, logging.WARNING)


@workflow_commands.command("enable")
@click.argument("tenant")
@click.argument("workflow")
@click.option("--location", help="The tenant's code location, instead of the configured or known one.")
def enable_workflow(tenant: str, workflow: str, location: str | None) -> None:
    """Switch the schedule of WORKFLOW of TENANT on, as the UI's toggle does."""
    _switch(tenant, workflow, location, on=True)


@workflow_commands.command("disable")
@click.argument("tenant")
@click.argument("workflow")
@click.option("--location", help="The tenant's code location, instead of the configured or known one.")
def disable_workflow(tenant: str, workflow: str, location: str | None) -> None:
    """Switch the schedule of WORKFLOW of TENANT off, as the UI's toggle does; runs in progress go on."""
    _switch(tenant, workflow, location, on=False)


@commands.group("executions", cls=ListGroup)
def execution_commands() -> None:
    """List the executions (Dagster's runs), show one.

    Without a command: list.
    """


@execution_commands.command("list")
@click.option("--tenant", help="Only those of this tenant.")
@click.option("--workflow", help="Only those of workflows of this name.")
@click.option("--status", type=STATUS, help="Only those that are in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_executions(
    tenant: str | None,
    workflow: str | None,
    status: str | None,
    limit: int,
    as_json: bool,  # noqa: FBT001
) -> None:
    """List executions, the newest first.

    PENDING: in the queue. TRIGGER: by hand, by its schedule, or as part of a backfill. META and POS: rows fetched.
    """
    from sync_pipeline.cli import executions

    with open_dagster() as (_, instance):
        found = executions.listed(instance, tenant=tenant, workflow=workflow, status=status, limit=limit)
    say(json.dumps([executions.as_json(one) for one in found], indent=2) if as_json else executions.as_table(found))


@execution_commands.command("show")
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show_execution(run_id: str, as_json: bool) -> None:  # noqa: FBT001
    """Show an execution: its errors, and the days that it committed. The first characters of RUN_ID are enough."""
    from sync_pipeline.cli import executions
    from sync_pipeline.resources import open_warehouse

    with open_dagster() as (_, instance), open_warehouse() as warehouse:
        one = executions.execution(instance, executions.find_run(instance, run_id))
        days = executions.committed_days(warehouse, one)
    say(json.dumps(executions.as_json(one, days), indent=2) if as_json else executions.as_text(one, days))


@commands.command()
@click.option(
    "--timeout", type=click.IntRange(min=0), default=3600, show_default=True, help="Seconds after which to give up."
)
def wait(timeout: int) -> None:
    """Wait until no execution is in progress, and list those that are; exit with 1 after the timeout.

    Queued executions are not waited for. Stop the daemon first, so that it starts no more of them.
    """
    from sync_pipeline.cli import executions, waiting

    with open_dagster() as (_, instance):
        waiting.wait(instance, timeout, lambda found: say(f"Waiting for:\n{executions.as_table(found)}"))
    say("no execution is in progress")


@commands.command()
@click.argument("run_id")
def cancel(run_id: str) -> None:
    """Cancel an execution, queued or running, and wait until it has ended; the days it has committed stay.

    The first characters of RUN_ID are enough. This works for runs that the UI, a schedule or a backfill started, as
    long as their code server is in reach, and for those that `trigger` runs in the foreground, on any machine. A
    process that does not react within 20 seconds must be ended where it runs.
    """
    from sync_pipeline.cli import cancelling
    from sync_pipeline.cli.executions import find_run
    from sync_pipeline.resources import open_warehouse

    with open_dagster() as (_, instance), open_warehouse() as warehouse:
        run = find_run(instance, run_id).dagster_run
        say(f"execution {run.run_id} is CANCELLED: {cancelling.cancel(instance, warehouse, run)}")


@commands.command()
@click.option("--older-than", "days", type=click.IntRange(min=1), default=90, show_default=True, help="In days.")
def prune(days: int) -> None:
    """Make Dagster's event log smaller: drop the log lines and steps of runs that are older than that.

    What partitions, checks and runs are known by stays, and so do errors. Deleting runs in Dagster would not do: it
    takes the status of their partitions along. Postgres gives the room to new events; `VACUUM FULL event_logs` gives it
    back to the disk.
    """
    from datetime import timedelta

    from sync_pipeline.cli import pruning

    with open_dagster() as (_, instance):
        gone = pruning.prune(instance, timedelta(days=days))
    say(f"{gone.events:,} events, {gone.characters:,} characters, of {gone.runs:,} runs are gone")


@commands.command()
@click.option(
    "--url",
    help="Address of the Dagster UI; default: SYNC_PIPELINE_WEBSERVER_URL, SYNC_PIPELINE_UI_URL, or http://127.0.0.1:3000.",
)
def reload(url: str | None) -> None:
    """Have a running Dagster UI load the tenants' files again, schedules included; `dev` does so by itself.

    Runs in progress finish as they began. A tenant whose file is broken stays as it last was, and exit code 1 says so.
    """
    from sync_pipeline.cli import reloading

    result = reloading.reload(url or Settings.from_environment().webserver_url)
    say(str(result))
    for problem in result.problems:
        logs.tell(problem)
    sys.exit(1 if result.problems else 0)


def _switch(tenant: str, workflow: str, location: str | None, *, on: bool) -> None:
    from sync_pipeline.cli import workflows
    from sync_pipeline.cli.locations import known_locations

    with open_dagster() as (settings, instance):
        in_use, locations = open_tenants(settings), known_locations(settings, instance, location)
        chosen = workflows.find_tenant(in_use, tenant)
        workflows.switch(chosen, chosen.workflow(workflow), instance, locations.of(chosen), on=on)
        [now] = workflows.find(in_use, instance, locations, tenant, workflow)
    say(f"{tenant} {workflow}: {workflows.schedule_in_words(now)} [code location {now.location}]")


def _migrate(warehouse: "URL", *, despite_runs: bool) -> None:
    from sync_pipeline.cli import installation

    before, after = installation.upgrade(
        warehouse, on_progress=lambda progress: say(str(progress)), despite_runs=despite_runs
    )
    say(f"warehouse is at migration {after}" + ("" if before == after else f", was at {before or 'none'}"))


def _days(tenant: "Tenant", workflow: "Workflow", since: date | None, until: date | None) -> "DayRange":
    from sync_pipeline.date_ranges import explicit, resolve, today_in

    today = today_in(tenant.timezone)
    if since and until:
        return explicit(since, until, today=today, start_date=tenant.start_date)
    if since or until:
        raise click.UsageError("--since and --until go together; for a single day give it twice")
    return resolve(workflow.date_range, today=today, start_date=tenant.start_date)


def _fail(message: str, code: int = 1) -> NoReturn:
    logs.tell(message)
    sys.exit(code)


for further in (status, metrics, account_commands, shop_commands, grant, revoke, tenant_commands):
    commands.add_command(further)
