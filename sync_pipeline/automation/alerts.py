"""Failure alerts: one message per failed run, or per backfill, to the webhook that the tenant's file names."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

import dagster as dg
from pydantic import BaseModel, ConfigDict

from sync_pipeline.assets.runs import TENANT_TAG, WORKFLOW_TAG
from sync_pipeline.automation.cursors import SensorCursor
from sync_pipeline.automation.jobs import RANGE_END_TAG, RANGE_START_TAG, TRIGGER_TAG
from sync_pipeline.automation.webhooks import NO_TIME, Message, Outcome, post_all
from sync_pipeline.sources.answers import one_line
from sync_pipeline.sources.redaction import Redactor, Secret
from sync_pipeline.tenants import MissingSecretError, SecretRef, Tenant
from sync_pipeline.text_safety import escape_for_slack, literal_for_chat

SENSOR = "failure_alerts"
RUNS_PER_TICK = 100
# How long a message is offered again to a hook that cannot take it.
PATIENCE_S = 900.0
BACKFILLS_REMEMBERED = 1000
ERRORS_LISTED = 10
SENTENCE_LENGTH = 1000

# Dagster's own tags.
BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"

_INTERRUPTS = {"KeyboardInterrupt", "DagsterExecutionInterruptedError"}


class Waiting(BaseModel):
    """An alert that its hook has not taken yet; `since` in seconds of the epoch."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    tenant_id: str
    since: float


class Cursor(SensorCursor):
    """Where the sensor stands: the last run failure it has read, what still waits, and the backfills it has told of.

    `backfills` are `<backfill id> <tenant>`, the latest last; of very old ones nothing is remembered.
    """

    after: int
    waiting: tuple[Waiting, ...] = ()
    backfills: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A failed run with what its steps, and Dagster, said of the failure."""

    run: dg.DagsterRun
    failed_at: float
    dagsters_words: str
    steps: tuple[dg.DagsterEvent, ...]


class Alert(NamedTuple):
    """What one tenant is to be told of one run, for the first time `since`."""

    tenant: Tenant
    failed: FailedRun
    since: float


def failure_alerts_sensor(tenants: Sequence[Tenant], ui_url: str) -> dg.SensorDefinition:
    """One sensor for all tenants of the code location.

    It reads the failures of all runs after its cursor, those in the foreground too, which Dagster's own run-failure
    sensor takes for another location's. It posts side by side, so that no tenant's hook delays another's.
    """
    by_id = {tenant.tenant_id: tenant for tenant in tenants if tenant.alerts}

    @dg.sensor(
        name=SENSOR,
        description="Tells the webhook that a tenant's file names under alerts of every failed run, once per backfill.",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        cursor = Cursor.parse(context.cursor)
        if cursor is None:
            context.update_cursor(Cursor(after=_latest_failure(context.instance)).model_dump_json())
            return dg.SkipReason("runs that fail from now on are told of")
        cursor, alerts = _due(context.instance, by_id, cursor)
        texts = [_text(context.instance, alert, ui_url) for alert in alerts]
        outcomes = post_all([Message(hook_of(alert.tenant), text) for alert, text in zip(alerts, texts, strict=True)])
        waiting = []
        for alert, outcome in zip(alerts, outcomes, strict=True):
            waits = _waits(alert, outcome)
            if waits:
                run_id, tenant_id = alert.failed.run.run_id, alert.tenant.tenant_id
                waiting.append(Waiting(run_id=run_id, tenant_id=tenant_id, since=alert.since))
            _note(context, alert, outcome, waits=waits)
        context.update_cursor(cursor.model_copy(update={"waiting": tuple(waiting)}).model_dump_json())
        delivered = sum(outcome is None for outcome in outcomes)
        return dg.SkipReason(f"alerts delivered: {delivered}, waiting: {len(waiting)}" if alerts else "nothing to tell")

    return sensor


def _latest_failure(instance: dg.DagsterInstance) -> int:
    latest = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
    return latest[0].storage_id if latest else 0


def _due(instance: dg.DagsterInstance, tenants: Mapping[str, Tenant], cursor: Cursor) -> tuple[Cursor, list[Alert]]:
    """What is to be posted now: what waited, and the failures since; with the cursor after it, nothing waiting."""
    alerts = []
    for waiting in cursor.waiting:
        failed = _failed_run(instance, waiting.run_id)
        if failed and waiting.tenant_id in tenants:
            alerts.append(Alert(tenants[waiting.tenant_id], failed, waiting.since))

    after, backfills = cursor.after, dict.fromkeys(cursor.backfills)
    for record in instance.fetch_run_status_changes(
        dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=cursor.after),
        limit=RUNS_PER_TICK,
        ascending=True,
    ).records:
        after = record.storage_id
        failed = _failed_run(instance, record.event_log_entry.run_id)
        # A run may be reported as failed more than once, by itself and by whoever watches it.
        if failed is None or failed.failed_at != record.event_log_entry.timestamp:
            continue
        for tenant_id in _concerned(failed):
            if tenant_id not in tenants:
                continue
            backfill = failed.run.tags.get(BACKFILL_TAG)
            if backfill:
                told = f"{backfill} {tenant_id}"
                if told in backfills:
                    continue
                backfills[told] = None
            alerts.append(Alert(tenants[tenant_id], failed, time.time()))
    return Cursor(after=after, backfills=tuple(backfills)[-BACKFILLS_REMEMBERED:]), alerts


def _failed_run(instance: dg.DagsterInstance, run_id: str) -> FailedRun | None:
    """The run as it failed; None where it was deleted, or has another end by now."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status != dg.DagsterRunStatus.FAILURE:
        return None
    entries = [
        record.event_log_entry
        for record in instance.get_records_for_run(
            run_id, of_type={dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.STEP_FAILURE}
        ).records
    ]
    ends = [entry for entry in entries if entry.get_dagster_event().is_run_failure]
    if not ends:
        return None
    return FailedRun(
        run,
        failed_at=ends[0].timestamp,
        dagsters_words=ends[0].get_dagster_event().message or "",
        steps=tuple(entry.get_dagster_event() for entry in entries if entry.get_dagster_event().is_step_failure),
    )


def _concerned(failed: FailedRun) -> list[str]:
    """The tenants whose steps failed; where none did, those whose assets the run was to fill."""
    tenants = _tenants(failed.run)
    own = {tenant_id for step in failed.steps for tenant_id in tenants if _is_step_of(step, tenant_id, tenants)}
    return [tenant_id for tenant_id in tenants if not own or tenant_id in own]


def _tenants(run: dg.DagsterRun) -> list[str]:
    # A run of assets picked in the UI may have those of several tenants; its tag is that of the step begun last.
    if run.asset_selection:
        return sorted({key.path[0] for key in run.asset_selection})
    return [run.tags[TENANT_TAG]] if TENANT_TAG in run.tags else []


def _is_step_of(step: dg.DagsterEvent, tenant_id: str, tenants: Sequence[str]) -> bool:
    if len(tenants) == 1:
        return True
    # Steps are named <tenant>__<what>, and a tenant's name may begin with another's.
    named = [one for one in tenants if (step.step_key or "").startswith(f"{one}__")]
    return max(named, key=len, default=None) == tenant_id


def hook_of(tenant: Tenant) -> SecretRef:
    """The webhook of a tenant that has one."""
    assert tenant.alerts is not None
    return tenant.alerts.webhook


def _waits(alert: Alert, outcome: Outcome) -> bool:
    if outcome is None or not outcome.again:
        return False
    return outcome is NO_TIME or time.time() - alert.since < PATIENCE_S


def _note(context: dg.SensorEvaluationContext, alert: Alert, outcome: Outcome, *, waits: bool) -> None:
    """Say in the tick's log, and in the run's, what became of an alert."""
    run, tenant_id = alert.failed.run, alert.tenant.tenant_id
    if outcome is None:
        said = f"alert posted to the webhook of tenant {tenant_id}"
    elif waits:
        context.log.warning(f"run {run.run_id}: alert waits for the webhook of tenant {tenant_id}: {outcome.why}")
        return
    else:
        said = f"alert not taken by the webhook of tenant {tenant_id}: {outcome.why}"
        context.log.warning(f"run {run.run_id}: {said}")
    context.instance.report_engine_event(said, run)


def _text(instance: dg.DagsterInstance, alert: Alert, ui_url: str) -> str:
    quoted = Quoting(redactor_of(alert.tenant))
    # The address of the UI is ours, but may hold a password.
    lines = (quoted.redact(line) for line in _lines(instance, alert, ui_url.rstrip("/"), quoted))
    return escape_for_slack("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Quoting:
    """Makes a foreign text safe for a message: without secrets, on one line, and shown literally by chat services.

    Names come from tenant files, errors from APIs, and tags from whoever launched the run.
    """

    redact: Redactor

    def __call__(self, text: str) -> str:
        """Return the text as the message has it."""
        # A secret must be found before the text is shortened or changed.
        return literal_for_chat(one_line(self.redact(text), SENTENCE_LENGTH))


def redactor_of(tenant: Tenant) -> Redactor:
    """What hides a tenant's secrets."""
    found = []
    for secret in tenant.secrets:
        try:
            found.append(Secret(secret.resolve(os.environ).reveal()))
        except MissingSecretError:
            continue
    return Redactor(found)


def _lines(instance: dg.DagsterInstance, alert: Alert, ui_url: str, quoted: Quoting) -> Iterator[str]:
    run, tenant_id = alert.failed.run, alert.tenant.tenant_id
    yield f"Sync of {quoted(alert.tenant.name)} ({tenant_id}) failed: {_what(run, tenant_id, quoted)}"
    if days := _days(run, quoted):
        yield f"Days: {days}"
    tenants = _tenants(run)
    steps = [step for step in alert.failed.steps if _is_step_of(step, tenant_id, tenants)]
    for step in steps:
        yield from _reasons(step, quoted)
    if not steps:
        said = quoted(alert.failed.dagsters_words)
        yield (
            "Error: the run ended without an error of its own: its process was killed or died, or could not be "
            f"started.{f' {said}' if said else ''}"
        )
    if backfill := run.tags.get(BACKFILL_TAG):
        count = instance.get_runs_count(
            dg.RunsFilter(tags={BACKFILL_TAG: backfill, TENANT_TAG: tenant_id}, statuses=[dg.DagsterRunStatus.FAILURE])
        )
        runs = "1 run has" if count <= 1 else f"{count} runs have"
        address = f"{ui_url}/runs/b/{quote(backfill, safe='')}"
        yield f"Backfill: {runs} failed so far; further failures are not reported: {address}"
    yield f"Run: {ui_url}/runs/{quote(run.run_id, safe='')}"


def _what(run: dg.DagsterRun, tenant_id: str, quoted: Quoting) -> str:
    if workflow := run.tags.get(WORKFLOW_TAG):
        return f"workflow {quoted(workflow)} ({quoted(run.tags.get(TRIGGER_TAG, 'manual'))})"
    names = sorted(key.path[-1] for key in run.asset_selection or () if key.path[0] == tenant_id)
    return f"{quoted(', '.join(names) or run.job_name)} (without a workflow)"


def _days(run: dg.DagsterRun, quoted: Quoting) -> str | None:
    since, until = (run.tags.get(tag) or run.tags.get(PARTITION_TAG) for tag in (RANGE_START_TAG, RANGE_END_TAG))
    if not since:
        return None
    days = quoted(since if since == until else f"{since} to {until}")
    done = run.tags.get("days_processed")
    return f"{days}, {quoted(done)} done" if done else days


def _reasons(step: dg.DagsterEvent, quoted: Quoting) -> Iterator[str]:
    """The step's failure as lines: where and why, or each of several errors."""
    failure = step.step_failure_data.user_failure_data
    if failure is None:
        error = step.step_failure_data.error
        name = (error.cause or error).cls_name if error else None
        if name in _INTERRUPTS:
            yield "Error: the run was interrupted: its process was told to end."
        else:
            # Its text may quote a row, which is nobody's business where the message goes.
            yield f"Error: an unexpected {quoted(name or 'error')}; the run's log has its traceback."
        return
    facts = {name: value.value for name, value in failure.metadata.items()}
    yield from _errors(facts, failure.description, quoted)
    missing = facts.get("missing")
    if isinstance(missing, list):
        for one in missing[:ERRORS_LISTED]:
            yield f"Missing: {quoted(one['sentence'])}"
        if len(missing) > ERRORS_LISTED:
            yield f"Missing: {len(missing) - ERRORS_LISTED} more"


def _errors(facts: Mapping[str, Any], description: str | None, quoted: Quoting) -> Iterator[str]:
    errors = facts.get("errors")
    if isinstance(errors, list) and len(errors) > 1:
        yield f"{len(errors)} errors:"
        for error in errors[:ERRORS_LISTED]:
            yield f"- {quoted(_place(error))}: {quoted(_words(error))}"
        if len(errors) > ERRORS_LISTED:
            yield f"- and {len(errors) - ERRORS_LISTED} more"
        return
    if place := _place(facts):
        yield f"Where: {quoted(place)}"
    yield f"Error: {quoted(description or _words(facts))}"


_SCOPES = (("account", "account_id"), ("shop", "shop_id"), ("key in", "key"))


def _place(facts: Mapping[str, Any]) -> str:
    named = [str(facts.get("date", "")).replace("/", " to "), str(facts.get("source", ""))]
    named += [f"{name} {facts[key]}" for name, key in _SCOPES if key in facts]
    return ", ".join(part for part in named if part)


def _words(facts: Mapping[str, Any]) -> str:
    codes = [f"{name} {facts[key]}" for name, key in (("HTTP", "http_status"), ("code", "error_code")) if key in facts]
    said = str(facts.get("error_message", "no message"))
    return f"{said} [{', '.join(codes)}]" if codes else said
