"""Dagster's storage in Postgres over kept connections: a run writes thousands of events, each of them some statements.

Dagster's own storage opens a connection for every statement, which costs more than the statement, and waits for the
disk after each. Here each process keeps two connections. Events are written without waiting for the disk: when the
server itself dies, though not when one of our processes does, the last half second of them may be lost. What was
committed is in the sync log, and `automation.recovery` shows it again.
"""

import os
from collections.abc import Mapping
from typing import Any, Self

import sqlalchemy as sa
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config

# Dagster writes the events of a range of days together, at most so many at a time, if it is told so here.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")

RECYCLE_S = 600
# Beyond the one that is kept; these are closed after use.
MORE_CONNECTIONS = 20
WITHOUT_WAITING = {"options": "-c synchronous_commit=off"}


class PooledPostgresStorage(DagsterPostgresStorage):
    """Runs, events, schedules and ticks in Postgres, for `storage: custom` in dagster.yaml; takes `postgres_url`."""

    def __init__(
        self, postgres_url: str, *, should_autocreate_tables: bool, inst_data: ConfigurableClassData | None
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        self._event_log_storage = _EventLogStorage(postgres_url, should_autocreate_tables=False)
        _keep(self._event_log_storage, sa.create_engine(postgres_url, connect_args=WITHOUT_WAITING, **_POOL))
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
    """Asks but once whether a table of Dagster's is there, where its parent asks before every evaluation of a check."""

    _known: frozenset[str] = frozenset()

    def has_table(self, table_name: str) -> bool:
        if table_name not in self._known and super().has_table(table_name):
            self._known |= {table_name}
        return table_name in self._known


_POOL: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "pool_size": 1,
    "max_overflow": MORE_CONNECTIONS,
    "pool_recycle": RECYCLE_S,
    # A restarted Postgres is met with a new connection.
    "pool_pre_ping": True,
}


def _keep(storage: Any, engine: sa.Engine) -> None:
    vars(storage)["_engine"] = engine
