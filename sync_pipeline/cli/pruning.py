"""Makes Dagster's event log smaller without losing what partitions, checks and runs are known by.

Dagster keeps every event for good, and deleting a run deletes what it has materialized. Much of the space is taken by
what nothing is known by: log lines, steps, the observations of a run under way. Of runs that ended long ago those go.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from sync_pipeline.dagster_internals.event_log import delete_events

RUNS_AT_ONCE = 200
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

# The status of partitions and checks, how runs went and why they failed. An observation has the same figures as the
# day's materialization.
KEPT = (
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_FAILED_TO_MATERIALIZE,
    dg.DagsterEventType.ASSET_WIPED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_ENQUEUED,
    dg.DagsterEventType.RUN_DEQUEUED,
    dg.DagsterEventType.RUN_STARTING,
    dg.DagsterEventType.RUN_START,
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELING,
    dg.DagsterEventType.RUN_CANCELED,
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many events of how many runs are gone, and the bytes of text that they held."""

    runs: int
    events: int
    characters: int


def prune(instance: dg.DagsterInstance, older_than: timedelta) -> Pruned:
    """Delete the events that nothing is known by, of runs created longer ago than that and ended since.

    Some runs at a time, each time in a transaction of its own: after an interrupt the rest is for the next time.
    """
    filters = dg.RunsFilter(statuses=list(ENDED), created_before=datetime.now(UTC) - older_than)
    pruned, deleted, characters = set[str](), 0, 0
    cursor = None
    while run_ids := instance.get_run_ids(filters, cursor=cursor, limit=RUNS_AT_ONCE):
        cursor = run_ids[-1]
        lost = delete_events(instance, run_ids, KEPT)
        pruned.update(run_id for run_id, _ in lost)
        deleted += len(lost)
        characters += sum(length for _, length in lost)
    return Pruned(len(pruned), deleted, characters)
