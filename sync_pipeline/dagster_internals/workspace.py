"""Dagster's own reading of a workspace file, and the code locations that its database knows.

They are needed to switch a schedule as the UI does: Dagster finds the state of a schedule by the name of its code
location, and has no public way to learn that name without a running webserver.
"""

from collections.abc import Mapping
from pathlib import Path

from dagster import DagsterError, DagsterInstance
from dagster._check import CheckError
from dagster._core.remote_origin import CodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from yaml import YAMLError

__all__ = ["CodeLocationOrigin", "InvalidWorkspaceError", "locations_in_file", "stored_locations"]


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
