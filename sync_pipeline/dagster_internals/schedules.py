"""The switch of a schedule, as the UI has it.

`DagsterInstance.start_schedule` takes the schedule as the webserver knows it, which has it from a code server. These
names are needed to switch a schedule without either. A command `dagster schedule start` that takes a code location by
its name would replace them.
"""

from dagster import DagsterInstance, RepositoryDefinition
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import CodeLocationOrigin
from dagster._core.remote_representation.external import RemoteSchedule
from dagster._core.remote_representation.external_data import ScheduleSnap
from dagster._core.remote_representation.handle import RepositoryHandle

__all__ = ["SINGLETON_REPOSITORY_NAME", "switch_schedule"]


def switch_schedule(
    instance: DagsterInstance, repository: RepositoryDefinition, name: str, location: CodeLocationOrigin, *, on: bool
) -> None:
    """Switch a schedule of a repository on or off, in a code location."""
    handle = RepositoryHandle(
        repository_name=SINGLETON_REPOSITORY_NAME,
        code_location_origin=location,
        repository_python_origin=None,
        display_metadata={},
    )
    schedule = RemoteSchedule(ScheduleSnap.from_def(repository.get_schedule_def(name), repository), handle)
    if on:
        instance.start_schedule(schedule)
    else:
        instance.stop_schedule(schedule.get_remote_origin_id(), schedule.selector_id, schedule)
