"""Jobs that are resolved among some of the assets.

`define_asset_job` returns a job that Dagster resolves against the assets of all tenants, each time: with 1,000 tenants
that is most of the time of loading. A `define_asset_job` that takes its assets would replace it.
"""

from typing import Any

from dagster import JobDefinition
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

__all__ = ["AssetGraph", "PartialGraphJob", "UnresolvedAssetJobDefinition"]


class PartialGraphJob(UnresolvedAssetJobDefinition):
    """A job over the part of the asset graph that a subclass chooses."""

    def part_of(self, asset_graph: AssetGraph) -> AssetGraph:
        """Return the part that holds the job's assets."""
        raise NotImplementedError

    def resolve(self, asset_graph: AssetGraph, *args: Any, **kwargs: Any) -> JobDefinition:
        """Resolve the job against its part of the graph."""
        return super().resolve(self.part_of(asset_graph), *args, **kwargs)
