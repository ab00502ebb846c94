"""The front door of the code location: reads the tenants' files and returns everything that Dagster is to know."""

import logging
import re

import dagster as dg

from sync_pipeline.assets.days import synced_days_asset
from sync_pipeline.assets.discovery import meta_ad_accounts_asset, pos_shops_asset, product_costs_asset
from sync_pipeline.automation.jobs import workflow_job
from sync_pipeline.automation.recovery import recovery_sensor
from sync_pipeline.automation.schedules import workflow_schedule
from sync_pipeline.resources import MetaGraph, PancakePos, PostgresWarehouse
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import BrokenTenantFile, Tenant, load_tenants

BROKEN_GROUP = "broken_tenant_files"

_logger = logging.getLogger("dagster.sync_pipeline")


def build_definitions(settings: Settings) -> dg.Definitions:
    """Definitions of every tenant whose file is valid.

    A broken file leaves out its tenant alone: the reason is logged, and shown in the catalog as an asset of the group
    `broken_tenant_files`. Raises `TenantFolderError` where there is no folder to read.
    """
    folder = load_tenants(settings.tenants)
    for broken in folder.broken:
        for problem in broken.problems:
            _logger.error("tenant left out: %s", problem)
    parts = [tenant_definitions(tenant) for tenant in folder.tenants]
    shared = dg.Definitions(
        assets=[_broken_file(broken) for broken in folder.broken],
        resources={
            "meta_graph": MetaGraph(graph_url=settings.meta_graph_url),
            "pancake_pos": PancakePos(api_url=settings.pancake_api_url),
            "warehouse": PostgresWarehouse(),
        },
        sensors=[recovery_sensor(folder.tenants)],
        # A process per step would cost more than most steps take.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(shared, *parts)


def tenant_definitions(tenant: Tenant) -> dg.Definitions:
    """One tenant's assets, and a job and a schedule for each of its workflows."""
    assets: list[dg.AssetsDefinition] = [synced_days_asset(tenant)]
    if tenant.meta:
        assets.append(meta_ad_accounts_asset(tenant))
    if tenant.pancake:
        assets += [pos_shops_asset(tenant), product_costs_asset(tenant)]
    jobs = {workflow.name: workflow_job(tenant, workflow) for workflow in tenant.workflows}
    schedules = [workflow_schedule(tenant, workflow, jobs[workflow.name]) for workflow in tenant.workflows]
    return dg.Definitions(
        assets=assets, jobs=list(jobs.values()), schedules=[schedule for schedule in schedules if schedule]
    )


def _broken_file(broken: BrokenTenantFile) -> dg.AssetSpec:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", broken.file.name)
    problems = "\n".join(f"- {problem}" for problem in broken.problems)
    return dg.AssetSpec(
        key=dg.AssetKey([BROKEN_GROUP, name]),
        group_name=BROKEN_GROUP,
        description=f"`{broken.file}` is not valid, so its tenant is left out:\n\n{problems}",
    )


defs = build_definitions(Settings.from_environment())
