"""A tenant's run, as its assets see it: the clients at the workflow's pace, the warehouse, waits in the log."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import dagster as dg
import sqlalchemy as sa

from sync_pipeline.assets.failures import failures_of, shown_as_failure
from sync_pipeline.assets.interrupts import insistent_interrupts
from sync_pipeline.date_ranges import DayRange, today_in
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.resources import MetaGraph, PancakePos, PostgresWarehouse, open_warehouse
from sync_pipeline.settings import Settings
from sync_pipeline.sources.errors import Place, TokenError
from sync_pipeline.sources.http import Wait
from sync_pipeline.sources.meta import MetaClient, Notice
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.credentials import Outlook, findings
from sync_pipeline.tenants import MissingSecretError, Tenant, Workflow
from sync_pipeline.warehouse.health import note_failures
from sync_pipeline.warehouse.locks import LockWait
from sync_pipeline.warehouse.tenancy import TenantWarehouse

if TYPE_CHECKING:
    from sync_pipeline.sources.usage import ApiUsage

TENANT_TAG = "tenant"
WORKFLOW_TAG = "workflow"
WAITS_TAG = "waits"
# The role and pid of the session that this run last waited for.
LOCK_WAIT_TAG = "lock_wait"
# The accounts and shops that refused, which the run went on without.
MISSING_TAG = "missing"
API_WARNING_TAG = "meta_api_warning"
# Dagster's own tag of a re-executed run.
PARENT_RUN_TAG = "dagster/parent_run_id"
USAGE_STORED_EVERY_S = 15.0
UNFINISHED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


# The days, `since/until`, that a scheduled run fetches of one source beside its own.
RESTATE_TAGS = {META: "restate_meta", POS: "restate_pos"}


def days_of(tags: Mapping[str, str]) -> list[date]:
    """The days that a run with these tags is for, oldest first; none for a run without partitions."""
    since = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
    until = tags.get("dagster/asset_partition_range_end") or tags.get("dagster/partition")
    return DayRange(date.fromisoformat(since), date.fromisoformat(until)).days if since and until else []


def restated_days(tags: Mapping[str, str]) -> dict[str, list[date]]:
    """The further days that a run with these tags fetches, by source."""
    found: dict[str, list[date]] = {}
    for source, tag in RESTATE_TAGS.items():
        if tag in tags:
            since, _, until = tags[tag].partition("/")
            found[source] = DayRange(date.fromisoformat(since), date.fromisoformat(until)).days
    return found


class RunOf:
    """What one run of a tenant needs from outside, each made on first use inside the run."""

    def __init__(self, tenant: Tenant, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
        self._tenant = tenant
        self._context = context
        # A run of UI "Materialize" or of an asset backfill belongs to no workflow: the tenant's own settings hold.
        name = context.run.tags.get(WORKFLOW_TAG)
        self.workflow: Workflow | None = tenant.workflow(name) if name else None
        self._waits: list[float] = []
        self._usages: list[tuple[str, ApiUsage]] = []
        self._usage_stored = time.monotonic()
        self.unusable_keys: dict[str, TokenError] = {}

    @property
    def go_on(self) -> bool:
        """Whether the workflow wants the rest to be fetched after an error."""
        return self.workflow is not None and self.workflow.on_error == "continue"

    def meta_client(self, meta_graph: MetaGraph) -> MetaClient:
        """Meta's client with the tenant's token, at the workflow's pace.

        Raises `MissingSecretError`; with `go_on` a `TokenError` of Meta, because the other source is synced even so.
        """
        try:
            client = meta_graph.client(
                self._tenant, self.workflow, on_wait=self._show_wait, on_notice=self._show_notice
            )
        except MissingSecretError as error:
            if not self.go_on:
                raise
            raise TokenError(Place(self._tenant.tenant_id, META), str(error)) from None
        self._usages.append((META, client.usage))
        return client

    def pancake_clients(self, pancake_pos: PancakePos) -> dict[str, PancakeClient]:
        """Pancake's clients by the source of their key, at the workflow's pace.

        Raises `MissingSecretError` and `TokenError`; with `go_on` such keys are in `unusable_keys` instead.
        """
        if not self.go_on:
            clients = pancake_pos.clients(self._tenant, self.workflow, on_wait=self._show_wait)
            self._usages += [(POS, client.usage) for client in clients.values()]
            return clients
        clients = {}
        for key in self._tenant.pancake:
            source = key.api_key.source
            try:
                clients[source] = pancake_pos.client(self._tenant, key, self.workflow, on_wait=self._show_wait)
            except TokenError as error:
                self.unusable_keys[source] = error
            except MissingSecretError as error:
                self.unusable_keys[source] = TokenError(Place(self._tenant.tenant_id, POS, key=source), str(error))
        self._usages += [(POS, client.usage) for client in clients.values()]
        return clients

    def warn_of_expiries(self, held: TenantWarehouse) -> None:
        """Repeat what the daily check stored about Meta's API version and the token, without a request."""
        if self._tenant.meta is None:
            return
        for finding in findings(self._tenant.meta.api_version, held.credential_expiries(), datetime.now(UTC)):
            if finding.outlook in (Outlook.ENDING, Outlook.ENDED):
                self._warn(finding.sentence)

    @property
    def location(self) -> str | None:
        """The name of the code location that the run is of; for a run in the foreground the configured one, if any."""
        origin = self._context.run.remote_job_origin
        if origin is None:
            return Settings.from_environment().location
        return origin.repository_origin.code_location_origin.location_name

    @property
    def first_day(self) -> str:
        """The first day that the run is for, YYYY-MM-DD; today for a run of the discovery alone."""
        tags = self._context.run.tags
        asked = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
        return asked or today_in(self._tenant.timezone).isoformat()

    def resumed_runs(self) -> list[str]:
        """The failed or cancelled runs that this one re-executes, the latest first.

        A run that succeeded is not among them: whoever repeats it wants it all anew.
        """
        instance, found = self._context.instance, list[str]()
        parent = self._context.run.tags.get(PARENT_RUN_TAG)
        while parent and (run := instance.get_run_by_id(parent)) and run.status in UNFINISHED:
            found.append(parent)
            parent = run.tags.get(PARENT_RUN_TAG)
        return found

    @contextmanager
    def failing(self, where: Mapping[str, str]) -> Iterator[None]:
        """Note an error for `sync_health` and show it as `shown_as_failure` does; `where` is a live mapping.

        An interrupt ends the block for certain: see `insistent_interrupts`.
        """
        with insistent_interrupts(), shown_as_failure(self._tenant.tenant_id, where):
            try:
                yield
            except Exception as error:
                self._note(error, where)
                raise

    def _note(self, error: Exception, where: Mapping[str, str]) -> None:
        failures = failures_of(error, where)
        if not failures:
            return
        try:
            with open_warehouse() as warehouse:
                note_failures(warehouse.engine, self._tenant.tenant_id, self._context.run.run_id, failures)
        except SyncPipelineError as problem:
            # Mostly it is the warehouse itself that has failed.
            self._context.log.warning(f"sync_health does not show this error: {problem}")

    @contextmanager
    def hold(self, warehouse: PostgresWarehouse) -> Iterator[TenantWarehouse]:
        """The tenant's corner of the warehouse, after any other run of the tenant has let go of it."""
        with warehouse.tenant(
            self._tenant,
            self._context.run.run_id,
            on_wait=self._show_lock_wait,
            on_newer=self._context.log.warning,
        ) as held:
            try:
                yield held
            finally:
                self._store_usage(held)

    def store_usage_regularly(self, held: TenantWarehouse) -> None:
        """Add requests, waits and errors so far to the totals, but not every time: a run may take hours."""
        if time.monotonic() - self._usage_stored >= USAGE_STORED_EVERY_S:
            self._store_usage(held)

    def _store_usage(self, held: TenantWarehouse) -> None:
        self._usage_stored = time.monotonic()
        try:
            for source, usage in self._usages:
                held.add_counts(source, usage.take())
        except sa.exc.SQLAlchemyError:
            # Mostly the connection is gone, and the error that ends the run says so.
            self._context.log.warning("the API requests of this run are missing in sync_counters")

    def _show_lock_wait(self, wait: LockWait) -> None:
        self._context.log.warning(str(wait))
        self._tag(LOCK_WAIT_TAG, str(wait.holder))

    def _show_wait(self, wait: Wait) -> None:
        self._waits.append(wait.seconds)
        self._context.log.info(f"waiting {wait.seconds:g} s: {wait.reason}")
        self._tag(WAITS_TAG, f"{len(self._waits)}, {sum(self._waits):g} s in all; last: {wait.reason}")

    def _show_notice(self, notice: Notice) -> None:
        if notice.warning:
            self._warn(notice.text)
        else:
            self._context.log.info(notice.text)

    def _warn(self, text: str) -> None:
        """Log a warning about Meta's API, and add it to those in the run's tag."""
        self._context.log.warning(text)
        # An earlier step may have written some.
        run = self._context.instance.get_run_by_id(self._context.run.run_id)
        told = run.tags.get(API_WARNING_TAG, "") if run else ""
        if text not in told:
            self._tag(API_WARNING_TAG, f"{told}; {text}" if told else text)

    def _tag(self, name: str, value: str) -> None:
        self._context.instance.add_run_tags(self._context.run.run_id, {name: value})
