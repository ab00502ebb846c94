"""What `sync-pipeline check` finds out about the tenants, line by line."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.rows.costs import load_product_costs
from sync_pipeline.settings import Settings
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.tenants import BrokenTenantFile, EnvSecret, MissingSecretError, Tenant, TenantFolder, find_tenant

NO_DELAY = Pacing(delay_s=0)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report; a problem makes the check fail."""

    text: str
    problem: bool = False


def report(folder: TenantFolder, tenant_id: str | None, *, live: bool) -> Iterator[Line]:
    """Check every tenant of the folder, or one; with `live` the APIs are asked, too.

    Raises `UnknownTenantError`.
    """
    if tenant_id is not None:
        yield from _tenant(find_tenant(folder, tenant_id), live=live)
        return
    for broken in folder.broken:
        yield from _broken(broken)
    for tenant in folder.tenants:
        yield from _tenant(tenant, live=live)
    if not folder.tenants and not folder.broken:
        yield Line("error: the folder holds no tenant file (*.yaml)", problem=True)


def _broken(broken: BrokenTenantFile) -> Iterator[Line]:
    for problem in broken.problems:
        yield Line(f"error: {problem}", problem=True)


def _tenant(tenant: Tenant, *, live: bool) -> Iterator[Line]:
    lines = list(_problems(tenant, live=live))
    yield from lines
    if not any(line.problem for line in lines):
        workflows = ", ".join(workflow.name for workflow in tenant.workflows) or "none"
        yield Line(f"{tenant.tenant_id}: ok (workflows: {workflows})")


def _problems(tenant: Tenant, *, live: bool) -> Iterator[Line]:
    if tenant.product_costs:
        try:
            load_product_costs(tenant.product_costs)
        except SyncPipelineError as error:
            yield Line(f"error: {error}", problem=True)
    for secret in _secrets(tenant):
        try:
            secret.resolve(os.environ)
        except MissingSecretError as error:
            # Files are often checked where the secrets are not; a run, or --live, cannot do without.
            yield Line(f"{'error' if live else 'warning'}: {error}", problem=live)
    if live:
        yield from _reach(tenant)


def _secrets(tenant: Tenant) -> Iterator[EnvSecret]:
    if tenant.meta:
        yield tenant.meta.access_token
    for key in tenant.pancake:
        yield key.api_key


def _reach(tenant: Tenant) -> Iterator[Line]:
    settings = Settings.from_environment()
    if tenant.meta:
        try:
            client = MetaClient(
                tenant=tenant.tenant_id,
                graph_url=settings.meta_graph_url,
                api_version=tenant.meta.api_version,
                token=tenant.meta.access_token.resolve(os.environ).reveal(),
                pacing=NO_DELAY,
            )
            for account in client.ad_accounts():
                facts = ", ".join(fact for fact in (account.currency, account.timezone_name) if fact)
                yield Line(f"{tenant.tenant_id}: ad account {account.account_id} {account.name or ''} ({facts})")
        except MissingSecretError:
            pass  # already reported
        except SyncPipelineError as error:
            yield Line(f"error: {error}", problem=True)
    for key in tenant.pancake:
        try:
            pancake = PancakeClient(
                tenant=tenant.tenant_id,
                api_url=settings.pancake_api_url,
                api_key=key.api_key.resolve(os.environ).reveal(),
                pacing=NO_DELAY,
            )
            for shop in pancake.shops():
                yield Line(f"{tenant.tenant_id}: shop {shop.shop_id} {shop.name or ''} (key {key.api_key.env})")
        except MissingSecretError:
            pass
        except SyncPipelineError as error:
            yield Line(f"error: {error}", problem=True)
