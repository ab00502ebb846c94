"""Reads a snapshot from both databases and the tenant files, each part with a time limit of its own."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import dagster as dg
import sqlalchemy as sa

from sync_pipeline.assets.check_results import CheckReader, CheckResults
from sync_pipeline.assets.freshness import LocationsOf, days_behind, expectation, switched_of_all
from sync_pipeline.assets.specs import schedule_name
from sync_pipeline.automation.jobs import job_name
from sync_pipeline.cli import installation
from sync_pipeline.cli.locations import AmbiguousLocationError, known_locations
from sync_pipeline.dagster_internals.stored_runs import (
    FINISHED,
    StoredRun,
    heartbeat_ages,
    last_runs,
    oldest_queued_s,
    runs_by_status,
)
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.last_good import Fingerprint, TenantsInUse, fingerprint, load_tenants_in_use
from sync_pipeline.metrics.run_durations import RunDurations
from sync_pipeline.metrics.snapshot import Part, Runs, Schedule, Snapshot, Tenants, WorkflowKey
from sync_pipeline.settings import Settings
from sync_pipeline.sync import META
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse import database, migrate
from sync_pipeline.warehouse.counters import Counts
from sync_pipeline.warehouse.source_figures import TenantFigures, tenant_figures

STATEMENT_TIMEOUT_S: Final = 5.0
# Of the statements for all tenants together.
WAREHOUSE_TIMEOUT_S: Final = 30.0
ALL_PARTS: Final[tuple[Part, ...]] = ("checks", "runs", "schedules", "tenants", "warehouse")

_logger = logging.getLogger("sync_pipeline.metrics")


class ReadTooSlowError(SyncPipelineError):
    """The warehouse did not give the figures of all tenants in time."""

    def __init__(self, done: int, tenants: int, limit_s: float) -> None:
        super().__init__(
            f"the warehouse gave the figures of {done} of {tenants} tenants within {limit_s:g} s; find out what keeps "
            "it busy"
        )
        self.done = done
        self.tenants = tenants
        self.limit_s = limit_s


@dataclass(slots=True)
class _Connections:
    """What is opened once both databases can be reached, and kept."""

    settings: Settings
    instance: dg.DagsterInstance
    warehouse: sa.Engine
    dagster: sa.Engine


@dataclass(slots=True)
class _Draft:
    """The parts of a snapshot as they are read."""

    failed: set[Part] = field(default_factory=set)
    in_use: TenantsInUse | None = None
    locations: LocationsOf = lambda _: None
    tenants: Tenants = field(default_factory=Tenants)
    on: Mapping[str, bool] = field(default_factory=dict)
    runs: Runs | None = None
    schedules: tuple[Schedule, ...] = ()
    last_runs: Mapping[WorkflowKey, StoredRun] = field(default_factory=dict)
    checks: CheckResults | None = None
    days_behind: Mapping[tuple[str, str], int] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], Counts] = field(default_factory=dict)


class SnapshotReader:
    """Reads snapshots, one at a time; connections and what was read of the checks are kept in between."""

    def __init__(self, *, only_tenants: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._only_tenants = only_tenants
        self._clock = clock
        self._connections: _Connections | None = None
        self._checks = CheckReader()
        self._durations = RunDurations(clock)
        self._files: Fingerprint | None = None
        self._in_use: TenantsInUse | None = None

    def read(self) -> Snapshot:
        """Read everything; a part that cannot be read is logged in one line, and in `failed`."""
        began, draft = self._clock(), _Draft()
        connections = self._open(draft)
        if connections is not None:
            now = datetime.fromtimestamp(began, UTC)
            with self._part("tenants", draft):
                self._read_tenants(connections, draft)
            with self._part("schedules", draft):
                draft.on = switched_of_all(connections.instance, self._tenants(draft), draft.locations)
                draft.schedules = tuple(_schedules(self._tenants(draft), draft.on))
            with self._part("runs", draft), _reading(connections.dagster) as connection:
                self._read_runs(connections, connection, draft, now)
            with self._part("checks", draft), _reading(connections.dagster) as connection:
                draft.checks = self._checks.read(connection, draft.tenants.sources, now)
            with self._part("warehouse", draft):
                self._read_warehouse(connections, draft, now)
        return Snapshot(
            taken_at=began,
            seconds=max(0.0, self._clock() - began),
            parts=ALL_PARTS,
            failed=frozenset(draft.failed),
            tenants=draft.tenants,
            runs=draft.runs,
            schedules=draft.schedules,
            last_runs=draft.last_runs,
            checks=draft.checks,
            days_behind=draft.days_behind,
            counts=draft.counts,
        )

    def close(self) -> None:
        """Close the connections."""
        if self._connections is not None:
            self._connections.warehouse.dispose()
            self._connections.dagster.dispose()
            self._connections.instance.dispose()
            self._connections = None

    def _open(self, draft: _Draft) -> _Connections | None:
        if self._connections is None:
            try:
                self._connections = _open()
            except SyncPipelineError as error:
                _logger.error("metrics cannot be read: %s", error)  # noqa: TRY400 (one line, without a traceback)
                draft.failed.update(ALL_PARTS)
        return self._connections

    @contextmanager
    def _part(self, part: Part, draft: _Draft) -> Iterator[None]:
        why = None
        try:
            yield
        except SyncPipelineError as error:
            why = str(error)
        except MemoryError:
            raise
        except sa.exc.DBAPIError as error:
            # Its text has the statement, and may have its values.
            why = database.primary_message(error.orig)
        except Exception as error:  # noqa: BLE001 (one part must not take the others with it)
            why = f"unexpected {type(error).__name__}"
        if why is not None:
            draft.failed.add(part)
            _logger.error("metrics of %s cannot be read: %s", part, why)

    def _read_tenants(self, connections: _Connections, draft: _Draft) -> None:
        settings = connections.settings
        files = fingerprint(settings.tenants)
        if self._in_use is None or files != self._files:
            self._in_use = load_tenants_in_use(settings.tenants, settings.home)
            self._files = files
        draft.in_use = self._in_use
        locations = known_locations(settings, connections.instance)
        draft.locations = locations.candidates

        def location(tenant: Tenant) -> str:
            try:
                return str(locations.of(tenant).location_name)
            except AmbiguousLocationError:
                return ""

        tenants = self._in_use.tenants
        draft.tenants = Tenants(
            {tenant.tenant_id: tuple(tenant.sources) for tenant in tenants},
            {tenant.tenant_id: location(tenant) for tenant in tenants},
            len(self._in_use.set_aside),
        )

    def _tenants(self, draft: _Draft) -> Sequence[Tenant]:
        return draft.in_use.tenants if draft.in_use else ()

    def _read_runs(self, connections: _Connections, connection: sa.Connection, draft: _Draft, now: datetime) -> None:
        jobs = {
            job_name(tenant, workflow): WorkflowKey(tenant.tenant_id, workflow.name)
            for tenant in self._tenants(draft)
            for workflow in tenant.workflows
        }
        draft.last_runs = {jobs[name]: run for name, run in last_runs(connection, jobs).items()}
        if self._only_tenants:
            return
        self._durations.read(connection)
        draft.runs = Runs(
            runs_by_status(connection),
            oldest_queued_s(connection),
            heartbeat_ages(connections.instance, now),
            {status: self._durations.histogram(status) for status in FINISHED},
        )

    def _read_warehouse(self, connections: _Connections, draft: _Draft, now: datetime) -> None:
        tenants = {tenant.tenant_id: tenant for tenant in self._tenants(draft)}
        behind: dict[tuple[str, str], int] = {}
        counts: dict[tuple[str, str], Counts] = {}
        deadline = time.monotonic() + WAREHOUSE_TIMEOUT_S
        figures = tenant_figures(connections.warehouse, draft.tenants.sources, statement_timeout_s=STATEMENT_TIMEOUT_S)
        for done, found in enumerate(figures):
            if time.monotonic() > deadline:
                raise ReadTooSlowError(done, len(tenants), WAREHOUSE_TIMEOUT_S)
            behind |= _days_behind(tenants[found.tenant_id], found, draft.on, now)
            counts |= {(found.tenant_id, source): totals for source, totals in found.counts.items()}
        draft.days_behind, draft.counts = behind, counts


def _open() -> _Connections:
    settings = installation.prepare(Settings.from_environment())
    assert settings.database_url is not None
    assert settings.dagster_postgres_url is not None
    warehouse = database.connect(database.parse_url(settings.database_url))
    migrate.require_current(warehouse)
    dagster_url = database.parse_url(settings.dagster_postgres_url, database.DAGSTER_VARIABLE)
    dagster = database.connect(dagster_url, database.DAGSTER_VARIABLE)
    instance = dg.DagsterInstance.get()
    # Dagster's own way to limit its statements, which its webserver uses, too.
    instance.optimize_for_webserver(statement_timeout=int(STATEMENT_TIMEOUT_S * 1000), pool_recycle=600, max_overflow=1)
    return _Connections(settings, instance, warehouse, dagster)


@contextmanager
def _reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A read-only transaction whose statements have a time limit."""
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        connection.execute(sa.text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_S * 1000:.0f}"))
        yield connection


def _schedules(tenants: Sequence[Tenant], on: Mapping[str, bool]) -> Iterator[Schedule]:
    for tenant in tenants:
        for workflow in tenant.workflows:
            if workflow.schedule is not None:
                enabled = on.get(schedule_name(tenant, workflow), workflow.enabled)
                key = WorkflowKey(tenant.tenant_id, workflow.name)
                yield Schedule(key, enabled, switched=enabled != workflow.enabled)


def _days_behind(
    tenant: Tenant, found: TenantFigures, on: Mapping[str, bool], now: datetime
) -> dict[tuple[str, str], int]:
    behind: dict[tuple[str, str], int] = {}
    for source, last_complete in found.last_complete.items():
        # The schedules of other sources do not count; see `days_behind`.
        expected = expectation(tenant, source, on, now, found.timezones) if source == META else None
        days = days_behind(source, expected, last_complete, found.since_last_over.get(source))
        if days is not None:
            behind[tenant.tenant_id, source] = days
    return behind
