"""Dagster's tables of runs and check evaluations, read with few statements.

They are needed for metrics: Dagster's own interface reads whole runs, and one check at a time, which takes minutes for
thousands of them.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from dagster import AssetCheckEvaluation, DagsterInstance, DagsterRunStatus
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.runs.schema import RunsTable
from dagster._serdes import deserialize_value

FINISHED: Final = ("SUCCESS", "FAILURE", "CANCELED")
_RUNS: Final = RunsTable.c
_CHECKS: Final = AssetCheckExecutionsTable.c
# Dagster's columns have no timezone, and hold the time in that of the session.
_NOW: Final = sa.literal_column("LOCALTIMESTAMP", sa.DateTime())
_LAST_RUNS: Final = sa.text("""
    SELECT job.name, run.status, run.start_time, run.end_time
    FROM unnest(CAST(:jobs AS text[])) AS job (name)
    CROSS JOIN LATERAL (
        SELECT status, start_time, end_time FROM runs
        WHERE pipeline_name = job.name AND status IN ('SUCCESS', 'FAILURE', 'CANCELED')
        ORDER BY id DESC LIMIT 1
    ) AS run
""")


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run that has ended; times in seconds of the epoch, None where it never started."""

    status: str
    started: float | None
    ended: float | None

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return max(0.0, self.ended - self.started) if self.started and self.ended else None


@dataclass(frozen=True, slots=True)
class StoredEvaluation:
    """A line of a check's evaluations; `event` is the stored event where it was asked for."""

    line: int
    asset_key: str
    check: str
    partition: str | None
    planned: bool
    failed: bool
    at: datetime
    event: str | None

    def evaluation(self) -> AssetCheckEvaluation | None:
        """The evaluation with its severity and figures, None where the event was not asked for."""
        if self.event is None:
            return None
        entry = deserialize_value(self.event, EventLogEntry)
        data = entry.get_dagster_event().event_specific_data
        return data if isinstance(data, AssetCheckEvaluation) else None


def runs_by_status(connection: sa.Connection) -> dict[str, int]:
    """Count the runs of each status, those without any as well."""
    found = connection.execute(sa.select(_RUNS.status, sa.func.count()).group_by(_RUNS.status))
    return {**{status.value: 0 for status in DagsterRunStatus}, **{row[0]: row[1] for row in found}}


def oldest_queued_s(connection: sa.Connection) -> float | None:
    """Return for how many seconds the oldest run in the queue has waited, None where none does."""
    statement = sa.select(sa.extract("epoch", _NOW - sa.func.min(_RUNS.create_timestamp))).where(
        _RUNS.status == DagsterRunStatus.QUEUED.value
    )
    found = connection.execute(statement).scalar_one()
    return None if found is None else max(0.0, float(found))


def last_runs(connection: sa.Connection, jobs: Collection[str]) -> dict[str, StoredRun]:
    """Return the newest run that has ended of each of these jobs."""
    found = connection.execute(_LAST_RUNS, {"jobs": list(jobs)})
    return {name: StoredRun(status, started, ended) for name, status, started, ended in found}


def runs_ended_within(connection: sa.Connection, seconds: float) -> Iterator[tuple[int, StoredRun]]:
    """Yield the runs that have ended and were written in the last seconds, with their numbers."""
    statement = sa.select(_RUNS.id, _RUNS.status, _RUNS.start_time, _RUNS.end_time).where(
        _RUNS.status.in_(FINISHED), _RUNS.update_timestamp >= _NOW - timedelta(seconds=seconds)
    )
    for number, status, started, ended in connection.execute(statement):
        yield number, StoredRun(status, started, ended)


def last_evaluation_before(connection: sa.Connection, age: timedelta) -> int:
    """Return the number of the last evaluation that is older, 0 where there is none.

    Lines are created in the order of their numbers, and the time has no index: the line is found by bisection.
    """
    low, high, wanted = connection.execute(
        sa.select(sa.func.min(_CHECKS.id), sa.func.max(_CHECKS.id), _NOW - age)
    ).one()
    if low is None:
        return 0
    low -= 1
    while low < high:
        middle = (low + high) // 2
        number, created = connection.execute(
            sa.select(_CHECKS.id, _CHECKS.create_timestamp).where(_CHECKS.id > middle).order_by(_CHECKS.id).limit(1)
        ).one()
        if created < wanted:
            low = number
        else:
            high = middle
    return int(low)


def reading_evaluations(instance: DagsterInstance) -> AbstractContextManager[sa.Connection]:
    """A connection of the instance to the table of evaluations."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    return storage.index_connection()


def evaluations_after(
    connection: sa.Connection, line: int, limit: int, with_event: Sequence[str]
) -> list[StoredEvaluation]:
    """Return the next evaluations after a line; with their events those that failed, and those of some checks."""
    failed = AssetCheckExecutionRecordStatus.FAILED.value
    event = sa.case(
        (sa.or_(_CHECKS.execution_status == failed, _CHECKS.check_name.in_(with_event)), _CHECKS.evaluation_event)
    )
    statement = (
        sa.select(
            _CHECKS.id,
            _CHECKS.asset_key,
            _CHECKS.check_name,
            _CHECKS.partition,
            _CHECKS.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value,
            _CHECKS.execution_status == failed,
            sa.func.coalesce(_CHECKS.evaluation_event_timestamp, _CHECKS.create_timestamp),
            event,
        )
        .where(_CHECKS.id > line)
        .order_by(_CHECKS.id)
        .limit(limit)
    )
    return [
        StoredEvaluation(line, asset_key, check, partition, planned, failed, at.replace(tzinfo=UTC), event)
        for line, asset_key, check, partition, planned, failed, at, event in connection.execute(statement)
    ]


def heartbeat_ages(instance: DagsterInstance, now: datetime) -> dict[str, float | None]:
    """Return the age in seconds of the last heartbeat of each daemon that the instance needs, None without one."""
    beats = instance.get_daemon_heartbeats()
    return {
        daemon: max(0.0, now.timestamp() - beats[daemon].timestamp) if daemon in beats else None
        for daemon in instance.get_required_daemon_types()
    }
