"""The definitions in the process of a run, which asks for its job and nothing else.

Dagster loads the whole code location in the process of every run: with 1,000 tenants, 999 of them for nothing. There is
no public way to learn that a module is loaded for a run, or for which job; a prototype of loading a subset was not
merged (Dagster pull request #29850). These names are needed to load the tenants of the run's job alone.
"""

import re
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME

__all__ = ["definitions_of_run", "is_run_process"]

# Builds the definitions of these tenants, or of all.
Build = Callable[[Collection[str] | None], dg.Definitions]


def is_run_process() -> bool:
    """Return whether Dagster loads the definitions in the process of a run, to make the run's job anew."""
    return (
        DefinitionsLoadContext.is_set() and DefinitionsLoadContext.get().load_type == DefinitionsLoadType.RECONSTRUCTION
    )


def definitions_of_run(build: Build) -> dg.Definitions:
    """Return definitions whose repository loads the tenants of the job that it is asked for."""

    class DefinitionsOfRun(dg.Definitions):
        def get_repository_def(self) -> dg.RepositoryDefinition:
            return _RepositoryOfRun(build)

    return DefinitionsOfRun()


class _RepositoryOfRun(dg.RepositoryDefinition):
    """Loads the tenants of the job that it is asked for; all of them only when asked for anything else."""

    def __init__(self, build: Build) -> None:
        # Not Dagster's own: the rest of what that sets is read from the repository of all tenants, once it is needed.
        self._build = build
        self._name = SINGLETON_REPOSITORY_NAME
        self._repository_load_data = None

    def get_maybe_subset_job_def(
        self,
        job_name: str,
        op_selection: Iterable[str] | None = None,
        asset_selection: AbstractSet[dg.AssetKey] | None = None,
        asset_check_selection: AbstractSet[dg.AssetCheckKey] | None = None,
    ) -> dg.JobDefinition:
        """Return the job of a run, or the part of it that was selected."""
        selected = [*(asset_selection or ()), *(check.asset_key for check in asset_check_selection or ())]
        # The job of all assets has no tenant in its name, and is never run without a selection.
        only = {key.path[0] for key in selected} or _tenants_named(job_name)
        repository = self._build(only).get_repository_def() if only else self._of_all
        job: dg.JobDefinition = repository.get_maybe_subset_job_def(
            job_name, op_selection, asset_selection, asset_check_selection
        )
        return job

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of_all, name)

    @cached_property
    def _of_all(self) -> dg.RepositoryDefinition:
        return self._build(None).get_repository_def()


def _tenants_named(job_name: str) -> set[str]:
    """Return the tenants that a job may belong to: both a tenant and a workflow may have __ in their names."""
    return {job_name[: found.start()] for found in re.finditer("(?=__)", job_name) if found.start()}
