"""How every source of every tenant is: what `sync_health` knows, and what the schedules should have brought by now."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from sync_pipeline.assets.freshness import expectations, freshness_verdict, switched
from sync_pipeline.assets.verdicts import Verdict
from sync_pipeline.cli.tables import table
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.health import SourceHealth, source_health
from sync_pipeline.warehouse.tenancy import Warehouse

ERROR_SHOWN = 100


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source with its health, None before its first run, and the verdict of the check `up_to_date` as of now."""

    tenant_id: str
    source: str
    scheduled: bool
    verdict: Verdict
    health: SourceHealth | None

    @property
    def state(self) -> str:
        """`ok`, `late`, or `unscheduled` where no schedule brings the source."""
        return "late" if not self.verdict.passed else "ok" if self.scheduled else "unscheduled"


def statuses(
    tenants: Collection[Tenant], instance: dg.DagsterInstance, warehouse: Warehouse, now: datetime
) -> list[SourceStatus]:
    """Every source that the tenants have, as of `now`. Raises `WarehouseFailedError`."""
    expected = expectations(tenants, switched(instance), now)
    wanted = [(one.tenant_id, one.source, one.day, one.since) for one in expected.values()]
    found = warehouse.completeness(wanted) if wanted else {}
    listed = []
    for tenant in tenants:
        health = {one.source: one for one in source_health(warehouse.engine, tenant.tenant_id)}
        for source in tenant.sources:
            key = (tenant.tenant_id, source)
            verdict = freshness_verdict(tenant, expected.get(key), found.get(key))
            listed.append(SourceStatus(*key, key in expected, verdict, health.get(source)))
    return listed


def as_table(listed: Sequence[SourceStatus]) -> str:
    """The list as aligned text, times in this machine's timezone."""
    header = (
        "TENANT",
        "SOURCE",
        "STATE",
        "COMPLETE UP TO",
        "BEHIND",
        "MISSING",
        "ROWS",
        "REQUESTS",
        "LAST RUN",
        "LAST ERROR",
    )
    return table(header, map(_cells, listed), right=(4, 5, 6, 7))


def as_json(one: SourceStatus) -> dict[str, Any]:
    """The same for machines: instants in UTC and days as ISO 8601; what is not known is null."""
    known = asdict(one.health) if one.health else dict.fromkeys(SourceHealth.__dataclass_fields__)
    values = {name: _plain(value) for name, value in known.items()}
    return {**values, "tenant_id": one.tenant_id, "source": one.source, "state": one.state, "why": one.verdict.sentence}


def _cells(one: SourceStatus) -> tuple[str, ...]:
    known = one.health
    named = (one.tenant_id, one.source, one.state)
    if known is None:
        return (*named, *[""] * 7)
    counts = (known.days_behind, known.days_missing, known.rows, known.requests)
    return (
        *named,
        str(known.last_complete_day or ""),
        *("" if count is None else str(count) for count in counts),
        _local(known.finished),
        _error(known),
    )


def _error(known: SourceHealth) -> str:
    if known.last_error is None or known.last_error_at is None:
        return ""
    line = f"{_local(known.last_error_at)} {' '.join(known.last_error.split())}"
    return line if len(line) <= ERROR_SHOWN else f"{line[: ERROR_SHOWN - 1]}…"


def _local(instant: datetime | None) -> str:
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S}" if instant else ""


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value
