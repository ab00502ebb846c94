"""Dagster's own reading of a workspace file, and the code locations and schedule switches that its database knows.

They are needed to switch a schedule as the UI does, and to know whether it is on: Dagster finds the state of a schedule
by the name of its code location, and has no public way to learn that name without a running webserver.
"""

from collections.abc import Mapping
from pathlib import Path

from dagster import DagsterError, DagsterInstance
from dagster._check import CheckError
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import CodeLocationOrigin
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._core.workspace.load import location_origins_from_yaml_paths
from yaml import YAMLError

__all__ = [
    "CodeLocationOrigin",
    "InvalidWorkspaceError",
    "Switches",
    "locations_in_file",
    "schedule_switches",
    "stored_locations",
]

# By the name of a schedule, and then by that of a code location, whether it was switched on or off there. None: it was
# not switched, so that its definition decides.
Switches = Mapping[str, Mapping[str, bool | None]]


class InvalidWorkspaceError(Exception):
    """Dagster does not accept the workspace file."""


def locations_in_file(file: Path) -> Mapping[str, CodeLocationOrigin]:
    """Return the code locations of a workspace file by name; loads none of them. Raises `InvalidWorkspaceError`."""
    try:
        return {origin.location_name: origin for origin in location_origins_from_yaml_paths([str(file)])}
    except (DagsterError, CheckError, YAMLError, UnicodeDecodeError) as error:
        raise InvalidWorkspaceError from error


def stored_locations(instance: DagsterInstance) -> Mapping[str, Mapping[str, CodeLocationOrigin]]:
    """Return the code locations, by name, in which Dagster has seen each schedule and sensor, by its name."""
    found: dict[str, dict[str, CodeLocationOrigin]] = {}
    for state in instance.all_instigator_state():
        origin = state.origin.repository_origin.code_location_origin
        found.setdefault(state.instigator_name, {})[origin.location_name] = origin
    return found


def schedule_switches(instance: DagsterInstance) -> Switches:
    """Return the stored switches of every schedule, those of code locations that no longer exist included."""
    found: dict[str, dict[str, bool | None]] = {}
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE):
        location = state.origin.repository_origin.code_location_origin.location_name
        declared = state.status == InstigatorStatus.DECLARED_IN_CODE
        on = None if declared else state.status == InstigatorStatus.RUNNING
        found.setdefault(state.instigator_name, {})[location] = on
    return found
