"""What a check found, and how Dagster comes to know it: one evaluation per check and day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from sync_pipeline.assets.specs import asset_key
from sync_pipeline.dagster_internals.check_events import log_evaluations
from sync_pipeline.tenants import Tenant
from sync_pipeline.text_safety import escape_markdown, printable_line

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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A verdict of a check, of one day where the check is daily."""

    check: Check
    verdict: Verdict
    day: date | None = None


def evaluation(tenant: Tenant, check: Check, verdict: Verdict, day: date | None = None) -> dg.AssetCheckEvaluation:
    """Make the event that Dagster stores, on the day's partition if there is one.

    The UI renders the description of an evaluation as Markdown, and a sentence may name what an API or a file says.
    """
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(tenant, check.asset),
        check_name=check.name,
        passed=verdict.passed,
        severity=verdict.severity or check.severity,
        description=escape_markdown(verdict.sentence),
        metadata={name: _shown(value) for name, value in verdict.figures.items()},
        partition=day.isoformat() if day else None,
    )


def log_check_evaluations(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, tenant: Tenant, evaluations: Sequence[Evaluation]
) -> None:
    """Log the evaluations now: a step that yields results can yield only one per check, regardless of the days."""
    events = [evaluation(tenant, one.check, one.verdict, one.day) for one in evaluations]
    messages = [_message(event, one.verdict) for event, one in zip(events, evaluations, strict=True)]
    log_evaluations(context, list(zip(events, messages, strict=True)))


def _message(event: dg.AssetCheckEvaluation, verdict: Verdict) -> str:
    passed = "passed" if event.passed else "did not pass"
    # The UI shows the message as plain text.
    sentence = printable_line(verdict.sentence)
    return f"Asset check {event.check_name} of {event.asset_key.to_user_string()} {passed}: {sentence}"


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, list) else value
