"""Dagster's storage in Postgres over kept connections: a run writes thousands of events, each of them some statements.

Dagster's own storage opens a connection for every statement, which costs more than the statement, and waits for the
disk after each. Here each process keeps two connections. Events are written without waiting for the disk: when the
server itself dies, though not when one of our processes does, the last half second of them may be lost. What was
committed is in the sync log, and `automation.recovery` shows it again.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import sqlalchemy as sa
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData, serialize_value
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import DagsterPostgresException, pg_url_from_config, set_pg_statement_timeout

from sync_pipeline.warehouse.database import DAGSTER_VARIABLE, parse_url, shown, without_password
from sync_pipeline.warehouse.errors import WarehouseUnreachableError

# Dagster reads here how many events of a range of days it may write at a time; by default it writes them one by one.
BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
os.environ.setdefault(BATCH_SIZE_VARIABLE, "1000")

RECYCLE_S = 600
# Beyond the one that is kept; these are closed after use.
MORE_CONNECTIONS = 20
WITHOUT_WAITING = "-c synchronous_commit=off"


class PooledPostgresStorage(DagsterPostgresStorage):
    """Runs, events, schedules and ticks in Postgres, for `storage: custom` in dagster.yaml; takes `postgres_url`."""

    def __init__(
        self, postgres_url: str, *, should_autocreate_tables: bool, inst_data: ConfigurableClassData | None
    ) -> None:
        url = parse_url(postgres_url, DAGSTER_VARIABLE)
        # With the driver: every engine, Dagster's own among them, is made from this text.
        postgres_url = url.render_as_string(hide_password=False)
        reason = None
        try:
            super().__init__(postgres_url, should_autocreate_tables, inst_data)
        except DagsterPostgresException as error:
            # It has tried for a while by then, and has the reason somewhere in a page of traceback.
            reason = " ".join(str(getattr(error.__cause__, "orig", error)).split())
        if reason is not None:
            raise WarehouseUnreachableError(shown(url), DAGSTER_VARIABLE, without_password(reason, url))
        self._event_log_storage = _EventLogStorage(postgres_url, should_autocreate_tables=False)
        options = f"{url.query.get('options', '')} {WITHOUT_WAITING}".strip()
        _keep(self._event_log_storage, sa.create_engine(url.update_query_dict({"options": options}), **_POOL))
        shared = sa.create_engine(postgres_url, **_POOL)
        _keep(self._run_storage, shared)
        _keep(self._schedule_storage, shared)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make it from dagster.yaml."""
        return cls(
            pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )


class _EventLogStorage(PostgresEventLogStorage):
    """Dagster's own takes many materializations at once; this also what else a long range is rich in."""

    _known: frozenset[str] = frozenset()

    def has_table(self, table_name: str) -> bool:
        """Whether Dagster's table is there, asked but once: it wants to know before it stores any evaluation."""
        if table_name not in self._known and super().has_table(table_name):
            self._known |= {table_name}
        return table_name in self._known

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events, in as few statements as their kind allows."""
        kinds: dict[DagsterEventType | None, list[EventLogEntry]] = {}
        for event in events:
            kinds.setdefault(event.dagster_event_type, []).append(event)
        self._store_planned(kinds.pop(DagsterEventType.ASSET_MATERIALIZATION_PLANNED, []))
        self._store_evaluations(kinds.pop(DagsterEventType.ASSET_CHECK_EVALUATION, []))
        for others in kinds.values():
            super().store_event_batch(others)

    def _store_planned(self, events: Sequence[EventLogEntry]) -> None:
        """Store what is to be materialized: an event per partition, of which an asset remembers the last."""
        numbered = self._insert(events)
        last = {event.get_dagster_event().asset_key: (event, number) for event, number in numbered}
        with self.index_transaction() as connection:
            for event, number in last.values():
                self._store_asset_event(connection, event, number)

    def _store_evaluations(self, events: Sequence[EventLogEntry]) -> None:
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

    def _insert(self, events: Sequence[EventLogEntry]) -> list[tuple[EventLogEntry, int]]:
        """The events' lines in the log, each with its number."""
        if not events:
            return []
        inserted = self.prepare_insert_event_batch(events).returning(SqlEventLogStorageTable.c.id)
        with self._connect() as connection:
            return list(zip(events, connection.execute(inserted).scalars(), strict=True))

    def _execution(self, event: EventLogEntry, number: int) -> dict[str, Any]:
        evaluation = event.get_dagster_event().asset_check_evaluation_data
        passed, failed = AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED
        return {
            "asset_key": evaluation.asset_key.to_string(),
            "check_name": evaluation.check_name,
            "partition": evaluation.partition,
            "run_id": event.run_id,
            "execution_status": (passed if evaluation.passed else failed).value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None),
            "evaluation_event_storage_id": number,
        }


_POOL: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "pool_size": 1,
    "max_overflow": MORE_CONNECTIONS,
    "pool_recycle": RECYCLE_S,
    # A restarted Postgres is met with a new connection.
    "pool_pre_ping": True,
}


def _keep(storage: Any, engine: sa.Engine) -> None:
    def for_webserver(statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        # Dagster's own would meet a restarted Postgres with its dead connections: an error page for each.
        pool = {**_POOL, "pool_recycle": pool_recycle, "max_overflow": max_overflow}
        limited = sa.create_engine(storage.postgres_url, **pool)
        sa.event.listen(limited, "connect", lambda one, _: set_pg_statement_timeout(one, statement_timeout))
        vars(storage)["_engine"] = limited

    def dispose() -> None:
        # A code server makes an instance for many a tick and for every run that ends: left to the garbage
        # collector, their connections add up.
        type(storage).dispose(storage)
        storage._engine.dispose()

    vars(storage)["_engine"] = engine
    vars(storage)["optimize_for_webserver"] = for_webserver
    vars(storage)["dispose"] = dispose
