"""The table of Dagster's event log.

Dagster keeps every event, and deleting a run deletes what it has materialized. The table is needed to delete some kinds
of events and keep others; a retention setting for the event log would replace it.
"""

from collections.abc import Sequence

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

__all__ = ["delete_events"]


def delete_events(
    instance: dg.DagsterInstance, run_ids: Sequence[str], kept: tuple[dg.DagsterEventType, ...]
) -> list[tuple[str, int]]:
    """Delete the events of runs, but for the kinds to keep; returns run id and characters of each deleted event."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    events = SqlEventLogStorageTable.c
    is_kept = sa.func.coalesce(events.dagster_event_type, "").in_([kind.value for kind in kept])
    deleted = (
        sa.delete(SqlEventLogStorageTable)
        .where(events.run_id.in_(run_ids), ~is_kept)
        .returning(events.run_id, sa.func.length(events.event))
    )
    with storage.index_connection() as connection:
        return [(run_id, characters) for run_id, characters in connection.execute(deleted)]
