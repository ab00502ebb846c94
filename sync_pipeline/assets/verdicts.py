"""What a check found, and how Dagster comes to know it: one evaluation per check and day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, DagsterEventType

from sync_pipeline.assets.specs import asset_key
from sync_pipeline.tenants import Tenant

ERROR = dg.AssetCheckSeverity.ERROR
WARN = dg.AssetCheckSeverity.WARN


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one asset; `daily` ones are evaluated per partition."""

    name: str
    asset: str
    description: str
    severity: dg.AssetCheckSeverity = ERROR
    daily: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check; a sentence that names the figures on both sides. `severity` None is the check's own."""

    passed: bool
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity | None = None


def evaluation(tenant: Tenant, check: Check, verdict: Verdict, day: date | None = None) -> dg.AssetCheckEvaluation:
    """The verdict as the event that Dagster stores, on the day's partition where there is one."""
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(tenant, check.asset),
        check_name=check.name,
        passed=verdict.passed,
        severity=verdict.severity or check.severity,
        description=verdict.sentence,
        metadata={name: _shown(value) for name, value in verdict.figures.items()},
        partition=day.isoformat() if day else None,
    )


def tell(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, evaluations: Sequence[dg.AssetCheckEvaluation]
) -> None:
    """Log the evaluations now: a step that yields results instead can say but one thing per check, whatever the days.

    They are sent as a batch, which `storage` writes as a whole: a long range has thousands.
    """
    batch = uuid4().hex
    for number, one in enumerate(evaluations, start=1):
        passed = "passed" if one.passed else "did not pass"
        DagsterEvent.from_step(
            DagsterEventType.ASSET_CHECK_EVALUATION,
            context.get_step_execution_context(),
            event_specific_data=one,
            message=f"Asset check {one.check_name} of {one.asset_key.to_user_string()} {passed}: {one.description}",
            batch_metadata=DagsterEventBatchMetadata(batch, is_end=number == len(evaluations)),
        )


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, list) else value
