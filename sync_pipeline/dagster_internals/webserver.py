"""Private names of Dagster's webserver.

Dagster has no public way to add authentication, authorization or routes to its webserver. These names are needed to
start the webserver with a subclass of our own, to give each request the permissions of its user, and to name the type
of a backfill.
"""

from collections.abc import Callable, Sequence
from typing import Any

import dagster_webserver.app
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._core.workspace.permissions import PermissionResult, Permissions
from dagster_webserver.cli import dagster_webserver as webserver_command
from dagster_webserver.webserver import DagsterWebserver

__all__ = [
    "DagsterWebserver",
    "PartitionBackfill",
    "PermissionResult",
    "Permissions",
    "WorkspaceRequestContext",
    "run_webserver",
]


def run_webserver(build: Callable[..., DagsterWebserver[Any, Any]], arguments: Sequence[str]) -> None:
    """Run the `dagster-webserver` command with a webserver that `build` makes.

    `build` takes the arguments of `DagsterWebserver`. The command has no parameter for it, so it replaces the name
    that the command looks up.
    """
    vars(dagster_webserver.app)["DagsterWebserver"] = build
    webserver_command.main(
        list(arguments), prog_name="dagster-webserver", auto_envvar_prefix="DAGSTER_WEBSERVER", standalone_mode=True
    )
