"""Tags and run config that a GraphQL mutation launches runs with."""

from collections.abc import Iterator

from dagster import DagsterInstance, DagsterRun

from sync_pipeline.dagster_internals.webserver import PartitionBackfill
from sync_pipeline.webserver.graphql_request import MutationCall
from sync_pipeline.webserver.launch_rules import Launch

# Arguments that name a job, and what Dagster appends to its name in that of a partition set.
_JOB_ARGUMENTS = ("jobName", "pipelineName", "partitionSetName")
_PARTITION_SET_SUFFIX = "_partition_set"
# Mutations whose only argument is the backfill that they go on with.
_RESUMING = frozenset({"resumePartitionBackfill"})
# Mutations that heed `useParentRunTags`; a backfill accepts it too, and copies the tags all the same.
_MAY_OMIT_TAGS = frozenset({"launchRunReexecution", "launchPipelineReexecution"})


def read_launch(call: MutationCall, instance: DagsterInstance) -> Launch:
    """Return what a mutation passes, and what Dagster would copy from the run or backfill that it names."""
    originals = [found for each in _copied_ids(call) if (found := _find(each, instance))]
    parents = [found for each in call.named("parentRunId") if (found := _find(each, instance))]
    copies_tags = call.name not in _MAY_OMIT_TAGS or False not in call.named("useParentRunTags")
    return Launch(
        tags=tuple((tag["key"], tag["value"]) for tag in call.of_type("ExecutionTag")),
        jobs=tuple(_job_names(call)),
        run_configs=tuple(call.of_type("RunConfigData")),
        parent_tags=tuple(tag for parent in parents for tag in (parent.tags or {}).items()),
        copied_tags=tuple(tag for original in originals for tag in (original.tags or {}).items() if copies_tags),
        copied_run_configs=tuple(original.run_config for original in originals),
    )


def _job_names(call: MutationCall) -> Iterator[str]:
    for argument in _JOB_ARGUMENTS:
        for name in call.named(argument):
            if name:
                yield name.removesuffix(_PARTITION_SET_SUFFIX)


def _copied_ids(call: MutationCall) -> Iterator[str]:
    for parameters in call.of_type("ReexecutionParams"):
        yield parameters["parentRunId"]
    if call.name in _RESUMING:
        yield from call.named("backfillId")


def _find(original_id: str, instance: DagsterInstance) -> DagsterRun | PartitionBackfill | None:
    return instance.get_run_by_id(original_id) or instance.get_backfill(original_id)
