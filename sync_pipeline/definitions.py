"""The front door of the code location: reads the tenants' files and returns everything that Dagster is to know."""

import gc
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path

import dagster as dg

from sync_pipeline.assets.checks import day_checks
from sync_pipeline.assets.costs import order_costs_asset, product_costs_asset
from sync_pipeline.assets.days import synced_days_asset
from sync_pipeline.assets.discovery import meta_ad_accounts_asset, pos_products_asset, pos_shops_asset
from sync_pipeline.assets.performance import ad_performance_asset
from sync_pipeline.automation.alerts import failure_alerts_sensor
from sync_pipeline.automation.check_alerts import check_alerts_sensor
from sync_pipeline.automation.credentials import credentials_sensor
from sync_pipeline.automation.freshness import freshness_sensor
from sync_pipeline.automation.heartbeat import heartbeat_sensor
from sync_pipeline.automation.jobs import workflow_job
from sync_pipeline.automation.late_orders import late_orders_sensor
from sync_pipeline.automation.recovery import recovery_sensor
from sync_pipeline.automation.schedules import workflow_schedule
from sync_pipeline.dagster_internals.run_definitions import definitions_of_run, is_run_process
from sync_pipeline.files import shown_path
from sync_pipeline.last_good import LEFT_OUT, SetAside, load_tenants_in_use
from sync_pipeline.logs import configure as configure_logs
from sync_pipeline.resources import MetaGraph, PancakePos, PostgresWarehouse
from sync_pipeline.run_config import console_logger, executor, no_stored_values
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import BROKEN_GROUP, BrokenTenantFile, Tenant, unexpected
from sync_pipeline.text_safety import escape_markdown

_logger = logging.getLogger("dagster.sync_pipeline")


def build_definitions(settings: Settings, only: Collection[str] | None = None) -> dg.Definitions:
    """Definitions of every tenant, or of `only` these, whose file is valid.

    In place of a broken file its last good version is used; without one its tenant, and no other, is left out. The
    reason is logged, and shown in the catalog as an asset of the group `broken_tenant_files`. Raises
    `TenantFolderError` where there is no folder to read.
    """
    folder = load_tenants_in_use(settings.tenants, settings.home, only)
    with _no_garbage():
        built = [_guarded_definitions(tenant) for tenant in folder.tenants]
    parts = [part for part in built if isinstance(part, dg.Definitions)]
    set_aside = [*folder.set_aside, *(part for part in built if isinstance(part, SetAside))]
    for one in set_aside:
        for sentence in one.sentences:
            _logger.error("%s", sentence)
    for tenant in folder.tenants:
        for warning in tenant.warnings:
            _logger.warning("%s", warning)
    shared = dg.Definitions(
        assets=_broken_files(set_aside),
        resources={
            "meta_graph": MetaGraph(),
            "pancake_pos": PancakePos(),
            "warehouse": PostgresWarehouse(),
            "io_manager": no_stored_values,
        },
        sensors=[
            recovery_sensor(folder.tenants),
            failure_alerts_sensor(folder.tenants, settings.ui_url),
            check_alerts_sensor(folder.tenants, settings.ui_url),
            freshness_sensor(folder.tenants),
            credentials_sensor(folder.tenants),
            *([heartbeat_sensor()] if settings.heartbeat_url else []),
        ],
        executor=executor,
        loggers={"console": console_logger},
    )
    return dg.Definitions.merge(shared, *parts)


def _guarded_definitions(tenant: Tenant) -> dg.Definitions | SetAside:
    """A tenant's definitions, or why there are none: Dagster may refuse what the tenant file allows."""
    try:
        return tenant_definitions(tenant)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (one tenant must not stop the others)
        file = Path(f"{tenant.tenant_id}.yaml")
        broken = BrokenTenantFile(file, tenant.tenant_id, (f"tenant {tenant.tenant_id}: {unexpected(error)}",))
        return SetAside(broken, LEFT_OUT, left_out=True)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Keep Python from looking for garbage where all that is made is kept: a sixth of the time of many tenants."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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
        problems = "\n".join(f"- {escape_markdown(problem)}" for problem in one.file.problems)
        specs[unique] = dg.AssetSpec(
            key=dg.AssetKey([BROKEN_GROUP, unique]),
            group_name=BROKEN_GROUP,
            description=f"{escape_markdown(f'{shown_path(file)} is not valid, so {one.consequence}:')}\n\n{problems}",
            metadata={"problems": list(one.sentences)},
        )
    return list(specs.values())


def _definitions() -> dg.Definitions:
    settings = Settings.from_environment()
    if is_run_process():
        return definitions_of_run(partial(build_definitions, settings))
    return build_definitions(settings)


configure_logs()
defs = _definitions()
# All of it lives as long as the process: the garbage collector need not look at it again.
gc.freeze()
