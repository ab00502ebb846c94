"""Dagster's runs as the executions they are to users, read from run storage and the sync log alone."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

import dagster as dg

from sync_pipeline.assets.runs import PARENT_RUN_TAG, TENANT_TAG, WAITS_TAG, WORKFLOW_TAG
from sync_pipeline.automation.jobs import RANGE_END_TAG, RANGE_START_TAG, SCHEDULE, TRIGGER_TAG
from sync_pipeline.cli.tables import fields, table
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.sync import META, POS
from sync_pipeline.text_safety import printable_line
from sync_pipeline.warehouse.staging import DayResult
from sync_pipeline.warehouse.tenancy import Warehouse

# The words of the service that this one replaces.
STATUSES: Mapping[str, Sequence[dg.DagsterRunStatus]] = {
    "PENDING": (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.MANAGED),
    "RUNNING": (
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.SUSPENDED,
        dg.DagsterRunStatus.CANCELING,
    ),
    "COMPLETED": (dg.DagsterRunStatus.SUCCESS,),
    "FAILED": (dg.DagsterRunStatus.FAILURE,),
    "CANCELLED": (dg.DagsterRunStatus.CANCELED,),
}
WORDS = {status: word for word, statuses in STATUSES.items() for status in statuses}

# Dagster's own names.
ASSET_JOB = "__ASSET_JOB"
BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"

T = TypeVar("T")

PAGE = 100
ID_SHOWN = 8
ERROR_SHOWN = 100


class UnknownRunError(SyncPipelineError):
    """No run has an id that begins so."""

    def __init__(self, prefix: str) -> None:
        super().__init__(f"there is no execution whose id begins with {prefix!r}")
        self.prefix = prefix


class AmbiguousRunError(SyncPipelineError):
    """Several runs have ids that begin so."""

    def __init__(self, prefix: str, run_ids: Sequence[str]) -> None:
        super().__init__(
            f"several executions have ids that begin with {prefix!r}: {', '.join(run_ids)}; give more of it"
        )
        self.prefix = prefix
        self.run_ids = tuple(run_ids)


@dataclass(frozen=True, slots=True)
class ExecutionError:
    """One error of a run. `date` is a day, or `first/last` of a window; what is not known is None."""

    date: str | None
    source: str | None
    account_id: str | None
    shop_id: str | None
    error: str
    key: str | None = None

    @property
    def place(self) -> str:
        """Where it happened, as far as that is known."""
        named = (self.date, self.source, self.account_id and f"account {self.account_id}")
        of_pos = (self.shop_id and f"shop {self.shop_id}", self.key and f"key in {self.key}")
        return ", ".join(part for part in (*named, *of_pos) if part)


@dataclass(frozen=True, slots=True)
class Execution:
    """A run. `tenant` is several, separated by commas, where assets of several were picked in the UI.

    `since`, `until` and the counts are None where the run has no days, or has not begun with them. `error` is the
    first error in one sentence, `duration_s` up to now for a run still going.
    """

    run_id: str
    tenant: str | None
    workflow: str | None
    status: str
    trigger: str
    since: date | None
    until: date | None
    total_days: int | None
    days_processed: int | None
    meta_fetched: int | None
    pos_fetched: int | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    duration_s: float | None
    error: str | None
    errors: tuple[ExecutionError, ...]
    waits: str | None
    backfill: str | None
    resumes: str | None


def find_run(instance: dg.DagsterInstance, prefix: str) -> dg.RunRecord:
    """The one run whose id begins with `prefix`. Raises `UnknownRunError` and `AmbiguousRunError`."""
    found = [run_id for run_id in _run_ids(instance) if run_id.startswith(prefix.lower())] if prefix else []
    if not found:
        raise UnknownRunError(prefix)
    if len(found) > 1:
        raise AmbiguousRunError(prefix, found)
    record = instance.get_run_record_by_id(found[0])
    if record is None:
        raise UnknownRunError(prefix)
    return record


def listed(
    instance: dg.DagsterInstance,
    *,
    tenant: str | None = None,
    workflow: str | None = None,
    status: str | None = None,
    limit: int,
) -> list[Execution]:
    """The newest runs that fit, the newest first; `status` is one of `STATUSES`."""
    tags = {name: value for name, value in ((TENANT_TAG, tenant), (WORKFLOW_TAG, workflow)) if value}
    statuses = STATUSES[status] if status else None
    streams = [_records(instance, dg.RunsFilter(tags=tags, statuses=statuses))]
    if tenant and not workflow:
        # A run of assets carries its tenant's tag only once its step has begun.
        of_assets = _records(instance, dg.RunsFilter(job_name=ASSET_JOB, statuses=statuses))
        streams.append(record for record in of_assets if tenant in _tenants(record.dagster_run))
    merged = _unique(heapq.merge(*streams, key=lambda record: record.storage_id, reverse=True))
    return [execution(instance, record) for record in islice(merged, limit)]


def execution(instance: dg.DagsterInstance, record: dg.RunRecord) -> Execution:
    """A run as users know it."""
    run, tags = record.dagster_run, record.dagster_run.tags
    since = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG)
    until = tags.get(RANGE_END_TAG) or tags.get(PARTITION_TAG)
    done, _, total = tags.get("days_processed", "").partition("/")
    started, ended = _instant(record.start_time), _instant(record.end_time)
    latest = ended or (None if run.is_finished else datetime.now(UTC))
    errors = _errors(instance, run) if run.status == dg.DagsterRunStatus.FAILURE else ()
    return Execution(
        run_id=run.run_id,
        tenant=", ".join(_tenants(run)) or None,
        workflow=tags.get(WORKFLOW_TAG),
        status=WORDS[run.status],
        trigger=_trigger(tags),
        since=_day(since),
        until=_day(until),
        total_days=_number(total) or _length(_day(since), _day(until)),
        days_processed=_number(done),
        meta_fetched=_number(tags.get(f"{META}_fetched")),
        pos_fetched=_number(tags.get(f"{POS}_fetched")),
        created=record.create_timestamp.astimezone(UTC),
        started=started,
        ended=ended,
        duration_s=(latest - started).total_seconds() if started and latest else None,
        error=errors[0].error if errors else None,
        errors=errors,
        waits=tags.get(WAITS_TAG),
        backfill=tags.get(BACKFILL_TAG),
        resumes=tags.get(PARENT_RUN_TAG),
    )


def committed_days(warehouse: Warehouse, one: Execution) -> list[DayResult]:
    """What the sync log says that a run committed, in the order it did."""
    return warehouse.committed_by(one.run_id, one.tenant.split(", ") if one.tenant else [])


def as_table(executions: Sequence[Execution]) -> str:
    """The list as aligned text, times in this machine's timezone."""
    header = (
        "RUN",
        "TENANT",
        "WORKFLOW",
        "STATUS",
        "TRIGGER",
        "DAYS",
        "DONE",
        "META",
        "POS",
        "STARTED",
        "TOOK",
        "ERROR",
    )
    return table(
        header,
        (
            (
                one.run_id[:ID_SHOWN],
                one.tenant or "",
                one.workflow or "",
                one.status,
                one.trigger,
                _range(one),
                _done(one),
                _count(one.meta_fetched),
                _count(one.pos_fetched),
                _local(one.started),
                _took(one),
                _short(one.error),
            )
            for one in executions
        ),
    )


def as_text(one: Execution, days: Sequence[DayResult]) -> str:
    """One run with everything that is known of it, times in this machine's timezone."""
    parts = [
        fields(
            {
                "run": one.run_id,
                "tenant": one.tenant or "",
                "workflow": one.workflow or "",
                "status": one.status,
                "trigger": one.trigger,
                "backfill": one.backfill or "",
                "resumes": one.resumes or "",
                "days": _range(one),
                "done": _done(one),
                "fetched": f"{_count(one.meta_fetched) or '-'} rows of Meta, {_count(one.pos_fetched) or '-'} of POS",
                "waits": one.waits or "",
                "created": _local(one.created),
                "started": _local(one.started),
                "ended": _local(one.ended),
                "took": _took(one),
            }
        )
    ]
    if one.errors:
        lines = (f"{error.place}: {error.error}" if error.place else error.error for error in one.errors)
        parts.append("Errors:\n" + "\n".join(f"- {printable_line(line)}" for line in lines))
    if days:
        header = (
            "DAY",
            "SOURCE",
            "ROWS",
            "CHANGED",
            "REMOVED",
            "EXCLUDED",
            "REJECTED",
            "AMOUNT",
            "REQUESTS",
            "SECONDS",
            "COMPLETE",
        )
        parts.append("Committed:\n" + table(header, map(_day_cells, days)))
    else:
        parts.append("Committed: nothing")
    return "\n\n".join(parts)


def as_json(one: Execution, days: Sequence[DayResult] | None = None) -> dict[str, Any]:
    """The same for machines: instants in UTC and days as ISO 8601, money as text; of errors only what is known."""
    values: dict[str, Any] = {name: _plain(value) for name, value in asdict(one).items()}
    values["errors"] = [
        {name: value for name, value in asdict(error).items() if value is not None} for error in one.errors
    ]
    if days is not None:
        values["committed_days"] = [
            {
                **{name: _plain(value) for name, value in asdict(day).items() if name not in {"line", "run_id"}},
                "complete": day.is_complete,
                "all_read": day.complete,
            }
            for day in days
        ]
    return values


def _run_ids(instance: dg.DagsterInstance) -> Iterator[str]:
    return _pages(lambda cursor: instance.get_run_ids(cursor=cursor, limit=10 * PAGE), lambda run_id: run_id)


def _records(instance: dg.DagsterInstance, which: dg.RunsFilter) -> Iterator[dg.RunRecord]:
    return _pages(
        lambda cursor: instance.get_run_records(which, limit=PAGE, cursor=cursor),
        lambda record: record.dagster_run.run_id,
    )


def _pages(read: Callable[[str | None], Sequence[T]], run_id: Callable[[T], str]) -> Iterator[T]:
    cursor = None
    while page := read(cursor):
        yield from page
        cursor = run_id(page[-1])


def _unique(records: Iterator[dg.RunRecord]) -> Iterator[dg.RunRecord]:
    before = None
    for record in records:
        if record.storage_id != before:
            yield record
        before = record.storage_id


def _tenants(run: dg.DagsterRun) -> list[str]:
    if run.asset_selection:
        return sorted({key.path[0] for key in run.asset_selection})
    return [run.tags[TENANT_TAG]] if TENANT_TAG in run.tags else []


def _trigger(tags: Mapping[str, str]) -> str:
    if BACKFILL_TAG in tags:
        return "BACKFILL"
    # Executed again by hand, a run keeps the tags of the one before.
    return "SCHEDULED" if tags.get(TRIGGER_TAG) == SCHEDULE and PARENT_RUN_TAG not in tags else "MANUAL"


def _errors(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[ExecutionError, ...]:
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    events = [
        record.event_log_entry.get_dagster_event()
        for record in instance.get_records_for_run(run.run_id, of_type=kinds).records
    ]
    steps = [error for event in events if event.is_step_failure for error in _errors_of_step(event)]
    if steps:
        return tuple(steps)
    ends = [event.message for event in events if event.is_run_failure and event.message]
    return (ExecutionError(None, None, None, None, ends[0] if ends else "the run ended without an error of its own"),)


def _errors_of_step(event: dg.DagsterEvent) -> list[ExecutionError]:
    failure = event.step_failure_data.user_failure_data
    if failure is None:
        # Something unforeseen: its first line says what, and the run's log has the rest.
        error = event.step_failure_data.error
        said = (error.cause or error).message.strip() if error else ""
        return [ExecutionError(None, None, None, None, said.partition("\n")[0] or "the step failed without an error")]
    facts = {name: value.value for name, value in failure.metadata.items()}
    several = facts.get("errors")
    if isinstance(several, list) and len(several) > 1:
        return [_placed(one, _words(one)) for one in several]
    return [_placed(facts, failure.description or _words(facts))]


def _placed(facts: Mapping[str, Any], error: str) -> ExecutionError:
    names = ("date", "source", "account_id", "shop_id", "key")
    place = {name: str(facts[name]) if name in facts else None for name in names}
    return ExecutionError(**place, error=error)


def _words(facts: Mapping[str, Any]) -> str:
    codes = [f"{name} {facts[key]}" for name, key in (("HTTP", "http_status"), ("code", "error_code")) if key in facts]
    said = str(facts.get("error_message", "no message"))
    return f"{said} [{', '.join(codes)}]" if codes else said


def _instant(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _day(text: str | None) -> date | None:
    # Tags are anybody's to write.
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _length(since: date | None, until: date | None) -> int | None:
    return (until - since).days + 1 if since and until else None


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _range(one: Execution) -> str:
    if one.since is None or one.since == one.until:
        return str(one.since or "")
    return f"{one.since} to {one.until}"


def _done(one: Execution) -> str:
    return f"{one.days_processed or 0}/{one.total_days}" if one.total_days else ""


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _local(instant: datetime | None) -> str:
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S}" if instant else ""


def _took(one: Execution) -> str:
    return str(timedelta(seconds=round(one.duration_s))) if one.duration_s is not None else ""


def _short(error: str | None) -> str:
    if error is None:
        return ""
    line = " ".join(error.split())
    return line if len(line) <= ERROR_SHOWN else f"{line[: ERROR_SHOWN - 1]}…"


def _day_cells(day: DayResult) -> tuple[str, ...]:
    counts = (day.rows, day.changed, day.removed, day.excluded, day.rejected)
    return (
        day.day.isoformat(),
        day.source,
        *map(str, counts),
        f"{day.amount:,.2f}",
        str(day.requests),
        f"{day.seconds:.1f}",
        _completeness(day),
    )


def _completeness(day: DayResult) -> str:
    if day.is_complete:
        return "yes"
    return "not over" if day.complete else "no"
