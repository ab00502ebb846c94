"""Dagster resources around the two clients and the warehouse.

None of them has a field. Dagster keeps a resource's fields in run storage, and whoever may launch a run may replace
them: with the address of an API in a field, they would receive every tenant's tokens. Addresses, tokens, keys and the
URL of the database are read from the environment, or from mounted files, when a run asks for a client or a connection.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import dagster as dg

from sync_pipeline.settings import Settings
from sync_pipeline.sources.http import Pacing, Wait
from sync_pipeline.sources.meta import MetaClient, Notice
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.tenants import PancakeKey, SourceName, Tenant, Workflow
from sync_pipeline.warehouse import database, migrate
from sync_pipeline.warehouse.locks import LockWait
from sync_pipeline.warehouse.tenancy import TenantWarehouse, Warehouse

MS_PER_S = 1000


@cache
def warn_once(sentence: str) -> None:
    """Log a warning, once per process: sensors open the warehouse every few seconds."""
    logging.getLogger("sync_pipeline").warning("%s", sentence)


class MetaGraph(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Meta's Graph API, as each tenant reaches it with its own token."""

    def client(
        self,
        tenant: Tenant,
        workflow: Workflow | None,
        *,
        on_wait: Callable[[Wait], None],
        on_notice: Callable[[Notice], None],
    ) -> MetaClient:
        """A client with the tenant's token. Raises `MissingSecretError` where there is none."""
        assert tenant.meta is not None
        secret = tenant.meta.app_secret
        return MetaClient(
            tenant=tenant.tenant_id,
            graph_url=Settings.from_environment().meta_graph_url,
            api_version=tenant.meta.api_version,
            token=tenant.meta.access_token.resolve(os.environ).reveal(),
            app_secret=secret.resolve(os.environ).reveal() if secret else None,
            pacing=_pacing(tenant, workflow, "meta"),
            on_wait=on_wait,
            on_notice=on_notice,
        )


class PancakePos(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Pancake's POS API, as each tenant reaches it with its own keys."""

    def clients(
        self, tenant: Tenant, workflow: Workflow | None, *, on_wait: Callable[[Wait], None]
    ) -> dict[str, PancakeClient]:
        """A client per key, by the key's source. Raises as `client` does."""
        return {key.api_key.source: self.client(tenant, key, workflow, on_wait=on_wait) for key in tenant.pancake}

    def client(
        self, tenant: Tenant, key: PancakeKey, workflow: Workflow | None, *, on_wait: Callable[[Wait], None]
    ) -> PancakeClient:
        """The client of one key. Raises `MissingSecretError`, and `TokenError` for a key that cannot be one."""
        return PancakeClient(
            tenant=tenant.tenant_id,
            api_url=Settings.from_environment().pancake_api_url,
            api_key=key.api_key.resolve(os.environ).reveal(),
            key_source=key.api_key.source,
            pacing=_pacing(tenant, workflow, "pos"),
            on_wait=on_wait,
        )


class PostgresWarehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The warehouse that `SYNC_PIPELINE_DATABASE_URL` names, or the embedded one."""

    @contextmanager
    def tenant(
        self,
        tenant: Tenant,
        run_id: str,
        on_wait: Callable[[LockWait], None],
        on_newer: Callable[[str], None] = warn_once,
    ) -> Iterator[TenantWarehouse]:
        """The tenant's corner of the warehouse, held for this run alone; see `Warehouse.tenant` and `open_warehouse`.

        Raises `WarehouseError`: unreachable, or its tables are of a version that this one cannot work with.
        """
        with (
            open_warehouse(on_newer) as warehouse,
            warehouse.tenant(
                tenant.tenant_id, name=tenant.name, timezone=tenant.timezone, run_id=run_id, on_wait=on_wait
            ) as held,
        ):
            yield held


def _pacing(tenant: Tenant, workflow: Workflow | None, source: SourceName) -> Pacing:
    limit = tenant.rate_limit_for(workflow)
    return Pacing(
        delay_s=(limit.meta_delay_ms if source == "meta" else limit.pos_delay_ms) / MS_PER_S,
        pacing=limit.pacing,
        max_wait_s=limit.max_wait_s,
        max_retries=workflow.max_retries if workflow else 0,
    )


@contextmanager
def open_warehouse(on_newer: Callable[[str], None] = warn_once) -> Iterator[Warehouse]:
    """The warehouse of this environment, its tables checked; its connections are closed at the end.

    `on_newer` is called with a sentence where the tables are newer than this version, which can work with them.
    """
    settings = Settings.from_environment()
    engine = database.connect(database.warehouse_url(settings.database_url, settings.home))
    try:
        if warning := migrate.require_current(engine):
            on_newer(warning)
        yield Warehouse(engine)
    finally:
        engine.dispose()
