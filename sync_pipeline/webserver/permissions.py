"""Permissions of each role.

A mutation, permission or route that is not listed here is for admins only. This includes everything that a later
version of Dagster adds.
"""

from collections.abc import Mapping

from sync_pipeline.dagster_internals.webserver import PermissionResult, Permissions
from sync_pipeline.webserver.roles import Role

# HTTP methods that change nothing, on every route but the GraphQL one.
READING_METHODS = frozenset({"GET", "HEAD"})

# A launcher cannot delete runs: this also deletes their materializations, and so the status of their partitions.
LAUNCHER_MUTATIONS = frozenset(
    {
        "launchRun",
        "launchPipelineExecution",
        "launchMultipleRuns",
        "launchRunReexecution",
        "launchPipelineReexecution",
        "launchPartitionBackfill",
        "resumePartitionBackfill",
        "reexecutePartitionBackfill",
        "cancelPartitionBackfill",
        "terminateRun",
        "terminatePipelineExecution",
        "terminateRuns",
        "scheduleDryRun",
    }
)
LAUNCHER_PERMISSIONS = frozenset(
    {
        Permissions.LAUNCH_PIPELINE_EXECUTION,
        Permissions.LAUNCH_PIPELINE_REEXECUTION,
        Permissions.LAUNCH_PARTITION_BACKFILL,
        Permissions.CANCEL_PARTITION_BACKFILL,
        Permissions.TERMINATE_PIPELINE_EXECUTION,
        Permissions.SCHEDULE_DRY_RUN,
    }
)


def may_run_mutation(role: Role, mutation: str) -> bool:
    """Whether the role may run a GraphQL mutation."""
    return role is Role.ADMIN or (role is Role.LAUNCHER and mutation in LAUNCHER_MUTATIONS)


def may_send(role: Role, method: str) -> bool:
    """Whether the role may send a request with this HTTP method to a route other than the GraphQL one."""
    return role is Role.ADMIN or method in READING_METHODS


def limit(permissions: Mapping[str, PermissionResult], role: Role) -> dict[str, PermissionResult]:
    """Return Dagster's permissions without those that the role does not have."""
    refused = PermissionResult(enabled=False, disabled_reason=f"Not permitted for a {role}")
    return {
        name: granted if role is Role.ADMIN or (role is Role.LAUNCHER and name in LAUNCHER_PERMISSIONS) else refused
        for name, granted in permissions.items()
    }
