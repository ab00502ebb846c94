"""Dagster's storages in Postgres, over kept connections, with events written in batches.

They are needed because dagster-postgres opens a connection for every statement and writes most events one by one. A
pool that can be configured (Dagster issue #33935) would replace `KeepsConnections`; closing the connection of
`has_table` (#34058) and batches of check evaluations would replace `PooledEventLogStorage`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage
from dagster_postgres.utils import set_pg_statement_timeout

__all__ = [
    "ConfigurableClassData",
    "PooledEventLogStorage",
    "PooledRunStorage",
    "PooledScheduleStorage",
    "pooled_engine",
]

RECYCLE_S = 600
# Beyond the one that is kept; these are closed after use.
MORE_CONNECTIONS = 20

_POOL: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "pool_size": 1,
    "max_overflow": MORE_CONNECTIONS,
    "pool_recycle": RECYCLE_S,
    # A restarted Postgres is met with a new connection.
    "pool_pre_ping": True,
}


def pooled_engine(url: sa.URL) -> sa.Engine:
    """Return an engine that keeps one connection."""
    return sa.create_engine(url, **_POOL)


if TYPE_CHECKING:

    class _Storage:
        """What the three storages have in common."""

        postgres_url: str
        _engine: sa.Engine

        def dispose(self) -> None: ...
else:
    _Storage = object


class KeepsConnections(_Storage):
    """A storage of dagster-postgres that keeps a connection between statements."""

    def use(self, engine: sa.Engine) -> None:
        """Replace the storage's engine, which opens a connection for every statement."""
        self._engine = engine

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Limit the time of a statement. Dagster's own pool would not check a connection before it uses it.

        After a restart of Postgres, each dead connection would be an error page.
        """
        pool = {**_POOL, "pool_recycle": pool_recycle, "max_overflow": max_overflow}
        engine = sa.create_engine(self.postgres_url, **pool)
        sa.event.listen(engine, "connect", lambda one, _: set_pg_statement_timeout(one, statement_timeout))
        self._engine = engine

    def dispose(self) -> None:
        """Close the connections at once.

        A code server makes an instance for many ticks and for every run that ends: left to the garbage collector,
        their connections add up.
        """
        super().dispose()
        self._engine.dispose()


class PooledRunStorage(KeepsConnections, PostgresRunStorage):
    """Runs."""


class PooledScheduleStorage(KeepsConnections, PostgresScheduleStorage):
    """Ticks, and the switches of schedules and sensors."""


class PooledEventLogStorage(KeepsConnections, PostgresEventLogStorage):
    """Events. Dagster writes materializations in batches; this also planned materializations and check evaluations."""

    _known: frozenset[str] = frozenset()

    def has_table(self, table_name: str) -> bool:
        """Whether Dagster's table is there, asked but once: it wants to know before it stores any evaluation."""
        if table_name not in self._known and super().has_table(table_name):
            self._known |= {table_name}
        return table_name in self._known

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store the events, in as few statements as their kind allows."""
        kinds: dict[dg.DagsterEventType | None, list[dg.EventLogEntry]] = {}
        for event in events:
            kinds.setdefault(event.dagster_event_type, []).append(event)
        self._store_planned(kinds.pop(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, []))
        self._store_evaluations(kinds.pop(dg.DagsterEventType.ASSET_CHECK_EVALUATION, []))
        for others in kinds.values():
            super().store_event_batch(others)

    def _store_planned(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store what is to be materialized: an event per partition, of which an asset remembers the last."""
        numbered = self._insert(events)
        last = {event.get_dagster_event().asset_key: (event, number) for event, number in numbered}
        with self.index_transaction() as connection:
            for event, number in last.values():
                self._store_asset_event(connection, event, number)

    def _store_evaluations(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store what came of checks, in place of the evaluations that were planned in their run."""
        rows = [self._execution(event, number) for event, number in self._insert(events)]
        executions = AssetCheckExecutionsTable.c
        key = sa.tuple_(
            executions.run_id, executions.asset_key, executions.check_name, sa.func.coalesce(executions.partition, "")
        )
        evaluated = [(row["run_id"], row["asset_key"], row["check_name"], row["partition"] or "") for row in rows]
        planned = AssetCheckExecutionsTable.delete().where(
            executions.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value, key.in_(evaluated)
        )
        if rows:
            with self.index_transaction() as connection:
                connection.execute(planned)
                connection.execute(AssetCheckExecutionsTable.insert(), rows)

    def _insert(self, events: Sequence[dg.EventLogEntry]) -> list[tuple[dg.EventLogEntry, int]]:
        """The events' lines in the log, each with its number."""
        if not events:
            return []
        inserted = self.prepare_insert_event_batch(events).returning(SqlEventLogStorageTable.c.id)
        with self._connect() as connection:
            return list(zip(events, connection.execute(inserted).scalars(), strict=True))

    def _execution(self, event: dg.EventLogEntry, number: int) -> dict[str, Any]:
        evaluation = event.get_dagster_event().asset_check_evaluation_data
        passed, failed = AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED
        return {
            "asset_key": evaluation.asset_key.to_string(),
            "check_name": evaluation.check_name,
            "partition": evaluation.partition,
            "run_id": event.run_id,
            "execution_status": (passed if evaluation.passed else failed).value,
            "evaluation_event": dg.serialize_value(event),
            "evaluation_event_timestamp": datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None),
            "evaluation_event_storage_id": number,
        }
