"""The commands `grant`, `revoke` and `tenants`; like all commands they import what they need when they are called."""

import logging
import sys
from typing import TYPE_CHECKING

import click

from sync_pipeline import logs
from sync_pipeline.terminal import ask, say

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sync_pipeline.warehouse.tenancy import Warehouse


@click.command()
@click.argument("tenant")
@click.option("--role", required=True, metavar="NAME", help="The role of Postgres that is to read the tenant.")
@click.option("--password-stdin", is_flag=True, help="Read the role's password from standard input, in one line.")
def grant(tenant: str, role: str, password_stdin: bool) -> None:  # noqa: FBT001
    """Let a role of Postgres read TENANT alone: its rows of all tables and views, and nothing else.

    The role is made if there is none of that name, with a password made at random that is shown once, unless
    --password-stdin gives one. A role that is there keeps its password unless one is given. It reads one tenant; give
    another tenant another role. Tables and views that later versions bring become readable with `migrate`.
    """
    from sqlalchemy.engine import URL

    from sync_pipeline.settings import Settings
    from sync_pipeline.warehouse import access

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    if password == "":
        raise click.UsageError("there is no password on standard input")
    with _warehouse() as warehouse:
        granted = access.grant(warehouse.engine, tenant, role, password)
        warnings = access.lock_warnings(warehouse.engine)
        at = warehouse.engine.url
    # The rest of the options is ours, a password perhaps among them.
    where = {name: at.query[name] for name in ("host", "port", "sslmode") if name in at.query}
    url = URL.create("postgresql", role, host=at.host, port=at.port, database=at.database, query=where)
    say(f"role {role} {'is made and ' if granted.made else ''}may read {tenant} alone")
    say(f"url: {url.render_as_string()}")
    if granted.made and password is None:
        say(f"password: {granted.password}")
    for warning in warnings:
        logs.tell(warning, logging.WARNING)
    if Settings.from_environment().database_url is None:
        logs.tell(
            "the embedded Postgres asks nobody on this machine for a password: whoever may open its socket can connect "
            "as any role. Let readers into a server of yours (SYNC_PIPELINE_DATABASE_URL) alone",
            logging.WARNING,
        )


@click.command()
@click.argument("tenant")
@click.option("--role", required=True, metavar="NAME", help="The role of Postgres that is to read it no longer.")
def revoke(tenant: str, role: str) -> None:
    """Take back what `grant` gave to a role for TENANT.

    A role that `grant` made can no longer log in, loses its sessions and is dropped. If it owns or was given something
    else since, it stays without the right to log in. A role that was there before may still log in; its sessions in
    the warehouse are ended where that is permitted.
    """
    from sync_pipeline.warehouse import access

    with _warehouse() as warehouse:
        dropped = access.revoke(warehouse.engine, tenant, role)
    say(f"role {role} may not read {tenant} any more" + (", and is dropped" if dropped else "; the role stays"))


@click.group("tenants")
def tenant_commands() -> None:
    """Delete what is stored of a tenant. Tenants are made, changed and taken out by their files."""


@tenant_commands.command("delete")
@click.argument("tenant")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_tenant(tenant: str, yes: bool) -> None:  # noqa: FBT001
    """Delete all rows of TENANT in all tables, for good, after showing how many they are and asking for its name.

    Its readers lose their sessions and their grants. Not while a run of it is at work. Dagster's runs and the tenant's
    file stay.
    """
    from sync_pipeline.cli.tables import table
    from sync_pipeline.errors import SyncPipelineError
    from sync_pipeline.warehouse import access

    with _warehouse() as warehouse:
        counts = warehouse.row_counts(tenant)
        say(table(("TABLE", "ROWS"), ((name, str(count)) for name, count in counts.items()), right=(1,)))
        for name, owner in access.tables_left_alone(warehouse.engine).items():
            say(f"{name} belongs to {owner}, and is left as it is")
        if not yes and ask(f"To delete these rows of {tenant} for good, type its name") != tenant:
            raise SyncPipelineError("that is not the tenant's name; nothing was deleted")
        deleted = warehouse.delete(tenant)
    say(f"{tenant}: {deleted.rows} rows are deleted")
    if deleted.readers:
        say(f"may not read it any more: {', '.join(deleted.readers)}")
    say(
        "Dagster's history of its runs stays, and so does its file: as long as that is there, its schedules fetch days "
        "again that they are told to"
    )


def _warehouse() -> "AbstractContextManager[Warehouse]":
    from sync_pipeline.cli import installation
    from sync_pipeline.resources import open_warehouse
    from sync_pipeline.settings import Settings

    installation.prepare_warehouse(Settings.from_environment())
    return open_warehouse()
