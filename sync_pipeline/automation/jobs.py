"""A workflow as a Dagster job: the assets of its sources, discovery first, and what comes of them."""

from functools import lru_cache

import dagster as dg

from sync_pipeline.assets.runs import TENANT_TAG, WORKFLOW_TAG
from sync_pipeline.assets.specs import AD_PERFORMANCE, asset_key, source_keys
from sync_pipeline.dagster_internals.jobs import AssetGraph, PartialGraphJob, UnresolvedAssetJobDefinition
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.tenants import Tenant, Workflow
from sync_pipeline.text_safety import escape_markdown

TRIGGER_TAG = "trigger"
MANUAL = "manual"
SCHEDULE = "schedule"

# Dagster's own tags for a run over a range of partitions.
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def job_name(tenant: Tenant, workflow: Workflow) -> str:
    """The job's name, `<tenant>__<workflow>`."""
    return f"{tenant.tenant_id}__{workflow.name}"


class _TenantJob(PartialGraphJob):
    """A job over its tenant's assets."""

    def part_of(self, asset_graph: AssetGraph) -> AssetGraph:
        """Return the part of the graph that holds the tenant's assets."""
        return _part_of_tenant(asset_graph, (self.tags or {})[TENANT_TAG])


@lru_cache(maxsize=4)
def _part_of_tenant(graph: AssetGraph, tenant_id: str) -> AssetGraph:
    return AssetGraph.from_assets(_assets_by_tenant(graph)[tenant_id])


@lru_cache(maxsize=1)
def _assets_by_tenant(graph: AssetGraph) -> dict[str, list[dg.AssetsDefinition]]:
    found: dict[str, list[dg.AssetsDefinition]] = {}
    for assets in graph.assets_defs:
        key = next(iter([*assets.keys, *(check.asset_key for check in assets.check_keys)]))
        found.setdefault(key.path[0], []).append(assets)
    return found


def workflow_job(tenant: Tenant, workflow: Workflow) -> UnresolvedAssetJobDefinition:
    """The workflow's job; started by hand from the UI it runs over whatever days are chosen there."""
    keys = [key for source in workflow.sources for key in source_keys(tenant, source)]
    keys.append(asset_key(tenant, AD_PERFORMANCE))
    return _TenantJob(
        job_name(tenant, workflow),
        selection=dg.AssetSelection.assets(*keys),
        description=escape_markdown(workflow.description),
        tags={TENANT_TAG: tenant.tenant_id, WORKFLOW_TAG: workflow.name, TRIGGER_TAG: MANUAL},
    )


def range_tags(days: DayRange) -> dict[str, str]:
    """The tags that make a run cover `days`, both ends included."""
    return {RANGE_START_TAG: days.since.isoformat(), RANGE_END_TAG: days.until.isoformat()}
