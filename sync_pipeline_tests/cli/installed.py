"""An installation in a test's hands: Dagster's storage in Postgres, the warehouse, and commands in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from click.testing import CliRunner, Result
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.cli import commands
from sync_pipeline.cli.foreground import DEFINITIONS
from sync_pipeline.dagster_internals.schedules import SINGLETON_REPOSITORY_NAME
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.warehouse.tenancy import Warehouse

# As workspace.yaml names it.
LOCATION = "sync_pipeline"


@dataclass
class Installed:
    """Runs jobs, makes runs of any status, and calls `sync-pipeline`."""

    instance: dg.DagsterInstance
    warehouse: Warehouse
    definitions: dg.Definitions

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(commands, arguments)

    def run(self, job: str, since: date, until: date, **tags: str) -> str:
        """Run a job over a range of days and return the run's id."""
        return (
            self.definitions.resolve_job_def(job)
            .execute_in_process(
                instance=self.instance, tags={**range_tags(DayRange(since, until)), **tags}, raise_on_error=False
            )
            .run_id
        )

    def note(
        self,
        job: str,
        status: dg.DagsterRunStatus,
        *,
        run_id: str | None = None,
        assets: Sequence[str] = (),
        **tags: str,
    ) -> str:
        """Write a run into storage that no process is at work for, of some of the job's assets if any are given."""
        keys = frozenset(dg.AssetKey(name.split("/")) for name in assets) or None
        definition = self.definitions.get_repository_def().get_job(job)
        origin = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=DEFINITIONS), LOCATION)
        return self.instance.create_run_for_job(
            definition.get_subset(asset_selection=keys) if keys else definition,
            run_id=run_id,
            status=status,
            tags={**definition.run_tags, **tags},
            asset_selection=keys,
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(origin, SINGLETON_REPOSITORY_NAME), job),
        ).run_id
