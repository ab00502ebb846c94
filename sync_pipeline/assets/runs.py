"""A tenant's run, as its assets see it: the clients at the workflow's pace, the warehouse, waits in the log."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sync_pipeline.resources import MetaGraph, PancakePos, PostgresWarehouse
from sync_pipeline.sources.http import Wait
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.tenants import RateLimit, Tenant
from sync_pipeline.warehouse.tenancy import TenantWarehouse

TENANT_TAG = "tenant"
WORKFLOW_TAG = "workflow"


class RunOf:
    """What one run of a tenant needs from outside, each made on first use inside the run."""

    def __init__(self, tenant: Tenant, context: dg.AssetExecutionContext) -> None:
        self._tenant = tenant
        self._context = context

    def meta_client(self, meta_graph: MetaGraph) -> MetaClient:
        """Meta's client with the tenant's token, at the workflow's pace."""
        return meta_graph.client(
            self._tenant, self._rate_limit(), on_wait=self._log_wait, on_notice=self._context.log.warning
        )

    def pancake_clients(self, pancake_pos: PancakePos) -> dict[str, PancakeClient]:
        """Pancake's clients by the variable of their key, at the workflow's pace."""
        return pancake_pos.clients(self._tenant, self._rate_limit(), on_wait=self._log_wait)

    @contextmanager
    def hold(self, warehouse: PostgresWarehouse) -> Iterator[TenantWarehouse]:
        """The tenant's corner of the warehouse, after any other run of the tenant has let go of it."""
        name = self._tenant.tenant_id
        with warehouse.tenant(
            self._tenant,
            on_wait=lambda: self._context.log.info(f"another run of {name} is writing; waiting for it to end"),
        ) as held:
            yield held

    def _rate_limit(self) -> RateLimit:
        # A run of UI "Materialize" or of an asset backfill belongs to no workflow: the tenant's own pace holds.
        return self._tenant.rate_limit_for(self._context.run.tags.get(WORKFLOW_TAG))

    def _log_wait(self, wait: Wait) -> None:
        self._context.log.info(f"waiting {wait.seconds:g} s: {wait.reason}")
