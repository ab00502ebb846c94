"""What a check found, and how Dagster comes to know it: one evaluation per check and day."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

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


def tell(context: dg.AssetExecutionContext | dg.OpExecutionContext, event: dg.AssetCheckEvaluation) -> None:
    """Log the evaluation now: a step that yields results instead can say but one thing per check, whatever the days."""
    context.log_event(event)  # type: ignore[arg-type] # its annotation lags behind: it takes evaluations, too


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, list) else value
