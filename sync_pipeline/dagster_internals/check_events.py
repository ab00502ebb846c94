"""Several evaluations of one check in one step, logged as a batch.

A step may yield one result for each check, and a run over a range of days has an evaluation for each day (Dagster issue
#17005). `context.log_event` takes an evaluation, but writes each one separately.
"""

from collections.abc import Sequence
from uuid import uuid4

import dagster as dg
from dagster._core.events import DagsterEventBatchMetadata

__all__ = ["log_evaluations"]


def log_evaluations(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    evaluations: Sequence[tuple[dg.AssetCheckEvaluation, str]],
) -> None:
    """Log evaluations, each with its message, as a batch that the storage writes as a whole."""
    batch = uuid4().hex
    for number, (evaluation, message) in enumerate(evaluations, start=1):
        dg.DagsterEvent.from_step(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION,
            context.get_step_execution_context(),
            event_specific_data=evaluation,
            message=message,
            batch_metadata=DagsterEventBatchMetadata(batch, is_end=number == len(evaluations)),
        )
