"""Entry point of the webserver behind its login; needs the `auth` extra.

It takes the options of `dagster-webserver`, or a command for users: `add-user`, `list-users`, `change-role`,
`change-password`, `delete-user`.
"""

import functools
import os
import sys
from pathlib import Path

import click

from sync_pipeline.errors import SyncPipelineError


def main() -> None:
    """Serve the UI, or run a command for users."""
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env")
    try:
        sys.exit(_run(sys.argv[1:]))
    except SyncPipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _run(arguments: list[str]) -> int:
    from sync_pipeline.webserver import audit, authkit, hosts

    authkit.prepare()
    code = authkit.run_user_command(arguments)
    if code is not None:
        return code
    from sync_pipeline.dagster_internals.webserver import run_webserver
    from sync_pipeline.webserver.server import GuardedWebserver

    audit.configure()
    run_webserver(
        functools.partial(GuardedWebserver, login=authkit.create_login, hosts=hosts.login_policy(os.environ)), arguments
    )
    return 0
