"""What a run says of stored rows that it recomputed because rules or settings have changed."""

import dagster as dg

from sync_pipeline.sync.recompute import Recomputed


def tell_recomputed(context: dg.AssetExecutionContext, found: Recomputed) -> None:
    """Log how many rows were recomputed, and warn of those that could not be, each with its remedy."""
    if found.summary:
        context.log.info(found.summary)
    for sentence in found.not_recomputed:
        context.log.warning(f"not recomputed: {sentence}")
