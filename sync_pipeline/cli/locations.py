"""The code locations of an installation, and which of them a tenant is in."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import dagster as dg

from sync_pipeline.assets.specs import schedule_name
from sync_pipeline.cli.installation import project_file
from sync_pipeline.dagster_internals.workspace import (
    CodeLocationOrigin,
    InvalidWorkspaceError,
    locations_in_file,
    stored_locations,
)
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.files import MAX_CONFIGURATION_BYTES, FileReadError, read_text_file
from sync_pipeline.settings import LOCATION_VARIABLE, WORKSPACE_VARIABLE, Settings
from sync_pipeline.tenants import Tenant


class UnknownLocationError(SyncPipelineError):
    """No code location has this name."""

    def __init__(self, name: str, known: Collection[str], source: str) -> None:
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"there is no code location '{name}' in {source}; there are {listed}. Correct --location, "
            f"{LOCATION_VARIABLE} or {WORKSPACE_VARIABLE}"
        )
        self.name = name
        self.known = tuple(sorted(known))


class AmbiguousLocationError(SyncPipelineError):
    """Several code locations may have the tenant."""

    def __init__(self, tenant_id: str, candidates: Collection[str]) -> None:
        super().__init__(
            f"tenant {tenant_id} may be in any of the code locations {', '.join(sorted(candidates))}; name the one "
            f"that loads this folder of tenants in {LOCATION_VARIABLE}"
        )
        self.tenant_id = tenant_id
        self.candidates = tuple(sorted(candidates))


@dataclass(frozen=True, slots=True)
class Locations:
    """The known code locations by name.

    `source` says where the names are from, `chosen` is the one that the user named, and `stored` has the locations in
    which Dagster has seen a schedule or sensor, by its name.
    """

    origins: Mapping[str, CodeLocationOrigin]
    source: str
    chosen: str | None
    stored: Mapping[str, Mapping[str, CodeLocationOrigin]]

    def candidates(self, tenant: Tenant) -> tuple[str, ...]:
        """Return the names of the locations that may have the tenant, in order.

        They are those in which Dagster has seen one of its schedules, unless they no longer exist; otherwise all.
        """
        if self.chosen is not None:
            return (self.chosen,)
        seen = {
            name
            for workflow in tenant.workflows
            for name in self.stored.get(schedule_name(tenant, workflow), {})
            if name in self.origins
        }
        return tuple(sorted(seen or self.origins))

    def of(self, tenant: Tenant) -> CodeLocationOrigin:
        """Return the tenant's location. Raises `AmbiguousLocationError`."""
        candidates = self.candidates(tenant)
        if len(candidates) != 1:
            raise AmbiguousLocationError(tenant.tenant_id, candidates)
        return self.origins[candidates[0]]


def known_locations(settings: Settings, instance: dg.DagsterInstance, chosen: str | None = None) -> Locations:
    """Read the code locations from the configured workspace file.

    Without one, they are those of the packed file, which `dev` uses, and those that Dagster's database knows. Raises
    `UnknownLocationError` where `chosen`, or the configured location, is none of them, and `FileReadError`.
    """
    stored = stored_locations(instance)
    file = settings.workspace or project_file("workspace.yaml")
    read_text_file(file, MAX_CONFIGURATION_BYTES)
    try:
        origins = dict(locations_in_file(file))
    except InvalidWorkspaceError:
        raise FileReadError(file, "is not a workspace file that Dagster accepts") from None
    source = str(file)
    if not origins:
        raise FileReadError(file, "names no code location")
    if settings.workspace is None:
        for found in stored.values():
            origins = {**found, **origins}
        source = "Dagster's database or the project's workspace file"
    chosen = chosen or settings.location
    if chosen is not None and chosen not in origins:
        raise UnknownLocationError(chosen, origins, source)
    return Locations(origins, source, chosen, stored)
