"""Dagster's storage in Postgres over kept connections: a run writes thousands of events, each of them some statements.

Dagster's own storage opens a connection for every statement, which costs more than the statement, and waits for the
disk after each. Here each process keeps two connections. Events are written without waiting for the disk: when the
server itself dies, though not when one of our processes does, the last half second of them may be lost. What was
committed is in the sync log, and `automation.recovery` shows it again.
"""

import os
from collections.abc import Mapping
from typing import Any, Self

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import DagsterPostgresException, pg_url_from_config

from sync_pipeline.dagster_internals.postgres_storage import (
    ConfigurableClassData,
    PooledEventLogStorage,
    PooledRunStorage,
    PooledScheduleStorage,
    pooled_engine,
)
from sync_pipeline.warehouse.database import DAGSTER_VARIABLE, parse_url, shown, without_password
from sync_pipeline.warehouse.errors import WarehouseUnreachableError

# Dagster reads here how many events of a range of days it may write at a time; by default it writes them one by one.
BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
os.environ.setdefault(BATCH_SIZE_VARIABLE, "1000")

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
        options = f"{url.query.get('options', '')} {WITHOUT_WAITING}".strip()
        events = PooledEventLogStorage(postgres_url, should_autocreate_tables=False)
        events.use(pooled_engine(url.update_query_dict({"options": options})))
        runs = PooledRunStorage(postgres_url, should_autocreate_tables=False)
        schedules = PooledScheduleStorage(postgres_url, should_autocreate_tables=False)
        shared = pooled_engine(url)
        for storage in (runs, schedules):
            storage.use(shared)
        self._event_log_storage, self._run_storage, self._schedule_storage = events, runs, schedules

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make it from dagster.yaml."""
        return cls(
            pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
        )
