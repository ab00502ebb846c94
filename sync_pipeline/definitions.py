"""The front door of the code location: reads the tenants' files and returns everything that Dagster is to know."""

import logging
import re
from collections.abc import Sequence
from itertools import chain, count

import dagster as dg

from sync_pipeline.assets.checks import day_checks
from sync_pipeline.assets.costs import order_costs_asset, product_costs_asset
from sync_pipeline.assets.days import synced_days_asset
from sync_pipeline.assets.discovery import meta_ad_accounts_asset, pos_products_asset, pos_shops_asset
from sync_pipeline.assets.performance import ad_performance_asset
from sync_pipeline.automation.alerts import failure_alerts_sensor
from sync_pipeline.automation.freshness import freshness_sensor
from sync_pipeline.automation.jobs import workflow_job
from sync_pipeline.automation.late_orders import late_orders_sensor
from sync_pipeline.automation.recovery import recovery_sensor
from sync_pipeline.automation.schedules import workflow_schedule
from sync_pipeline.last_good import SetAside, load_tenants_in_use
from sync_pipeline.logs import configure as configure_logs
from sync_pipeline.resources import MetaGraph, PancakePos, PostgresWarehouse
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import Tenant

BROKEN_GROUP = "broken_tenant_files"

_logger = logging.getLogger("dagster.sync_pipeline")


def build_definitions(settings: Settings) -> dg.Definitions:
    """Definitions of every tenant whose file is valid.

    In place of a broken file its last good version is used; without one its tenant, and no other, is left out. The
    reason is logged, and shown in the catalog as an asset of the group `broken_tenant_files`. Raises
    `TenantFolderError` where there is no folder to read.
    """
    folder = load_tenants_in_use(settings.tenants, settings.home)
    for set_aside in folder.set_aside:
        for sentence in set_aside.sentences:
            _logger.error("%s", sentence)
    parts = [tenant_definitions(tenant) for tenant in folder.tenants]
    shared = dg.Definitions(
        assets=_broken_files(folder.set_aside),
        resources={
            "meta_graph": MetaGraph(graph_url=settings.meta_graph_url),
            "pancake_pos": PancakePos(api_url=settings.pancake_api_url),
            "warehouse": PostgresWarehouse(),
        },
        sensors=[
            recovery_sensor(folder.tenants),
            failure_alerts_sensor(folder.tenants, settings.ui_url),
            freshness_sensor(folder.tenants),
        ],
        # A process per step would cost more than most steps take.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(shared, *parts)


def tenant_definitions(tenant: Tenant) -> dg.Definitions:
    """One tenant's assets, and a job and a schedule for each of its workflows."""
    assets: list[dg.AssetsDefinition] = [synced_days_asset(tenant), ad_performance_asset(tenant)]
    if tenant.meta:
        assets.append(meta_ad_accounts_asset(tenant))
    if tenant.pancake:
        assets += [
            pos_shops_asset(tenant),
            pos_products_asset(tenant),
            product_costs_asset(tenant),
            order_costs_asset(tenant),
        ]
    jobs = {workflow.name: workflow_job(tenant, workflow) for workflow in tenant.workflows}
    schedules = [workflow_schedule(tenant, workflow, jobs[workflow.name]) for workflow in tenant.workflows]
    return dg.Definitions(
        assets=assets,
        asset_checks=[day_checks(tenant)],
        jobs=list(jobs.values()),
        schedules=[schedule for schedule in schedules if schedule],
        sensors=[late_orders_sensor(tenant)] if tenant.pancake else [],
    )


def _broken_files(set_aside: Sequence[SetAside]) -> list[dg.AssetSpec]:
    specs: dict[str, dg.AssetSpec] = {}
    for one in set_aside:
        file = one.file.file
        # Tenants may share a product cost file, and a name may become another's: a key that comes twice would take
        # down all tenants.
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", file.name)
        unique = next(key for key in chain([name], (f"{name}_{n}" for n in count(2))) if key not in specs)
        problems = "\n".join(f"- {problem}" for problem in one.file.problems)
        specs[unique] = dg.AssetSpec(
            key=dg.AssetKey([BROKEN_GROUP, unique]),
            group_name=BROKEN_GROUP,
            description=f"`{file}` is not valid, so {one.consequence}:\n\n{problems}",
            metadata={"problems": list(one.sentences)},
        )
    return list(specs.values())


configure_logs()
defs = build_definitions(Settings.from_environment())
