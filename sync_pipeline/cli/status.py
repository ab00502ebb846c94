"""How every source of every tenant is: what `sync_health` knows, and what the schedules should have brought by now."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from sync_pipeline.assets.freshness import Expectation, days_behind, expected_and_stored, freshness_verdict
from sync_pipeline.assets.verdicts import Verdict
from sync_pipeline.cli.locations import AmbiguousLocationError, Locations
from sync_pipeline.cli.tables import table
from sync_pipeline.sync import META
from sync_pipeline.sync.credentials import Finding, findings
from sync_pipeline.sync.refusals import MissingScope, is_key_scope, key_scope
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.credentials import stored_expiries
from sync_pipeline.warehouse.health import SourceHealth, source_health
from sync_pipeline.warehouse.refusals import StandingRefusal, standing_refusals
from sync_pipeline.warehouse.rejected import RejectedSummary, rejected_by_source
from sync_pipeline.warehouse.tenancy import Warehouse

ERROR_SHOWN = 100


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source with its health, None before its first run, and the verdict of the check `up_to_date` as of now.

    `expected` is what its schedules should have brought, None without a schedule that is switched on. `rejected` sums
    up its rows that could not be read, None where there are none. `missing` are the accounts and shops that refuse, or
    that stored days lack because they did. `credentials` says when access to the API ends, as the daily check found it;
    it is empty for sources without such a check. `location` is the tenant's code location, None where several may have
    the tenant.
    """

    tenant_id: str
    source: str
    expected: Expectation | None
    verdict: Verdict
    health: SourceHealth | None
    rejected: RejectedSummary | None
    missing: tuple[StandingRefusal, ...] = ()
    credentials: Sequence[Finding] = ()
    location: str | None = None

    @property
    def state(self) -> str:
        """Return `late`, `incomplete`, `rejected`, `expired`, `ok` or `unscheduled`.

        Accounts or shops are missing where it is incomplete, rows could not be read where it is rejected, access to the
        API has ended where it is expired, and no schedule has the source where it is unscheduled.
        """
        if not self.verdict.passed:
            return "late"
        if self.missing:
            return "incomplete"
        if self.rejected:
            return "rejected"
        if any(one.is_problem for one in self.credentials):
            return "expired"
        return "ok" if self.expected else "unscheduled"

    @property
    def days_behind(self) -> int | None:
        """How many days, ending with the last one that can be complete by now, follow the last complete one."""
        if self.health is None:
            return None
        return days_behind(self.source, self.expected, self.health.last_complete_day, self.health.days_behind)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the source, a sentence each."""
        found = [] if self.verdict.passed else [self.verdict.sentence]
        for one in self.missing:
            missing = MissingScope(self.tenant_id, one.source, one.scope, one.days)
            found.append(f"{missing.sentence}{f' ({one.message})' if one.message else ''}")
        if self.rejected:
            found.append(f"{self.source}: {_rejected_sentence(self.rejected)}")
        return [*found, *(f"{self.source}: {one.sentence}" for one in self.credentials if one.is_problem)]

    @property
    def warnings(self) -> list[str]:
        """What will be wrong with the source soon, a sentence each."""
        return [f"{self.source}: {one.sentence}" for one in self.credentials if one.is_warning]


def statuses(
    tenants: Collection[Tenant],
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    now: datetime,
    locations: Locations,
) -> list[SourceStatus]:
    """Every source that the tenants have, as of `now`. Raises `WarehouseFailedError`."""
    expected, found = expected_and_stored(instance, warehouse, tenants, now, locations.candidates)
    listed = []
    for tenant in tenants:
        health = {one.source: one for one in source_health(warehouse.engine, tenant.tenant_id)}
        rejected = rejected_by_source(warehouse.engine, tenant.tenant_id)
        refusals = _refusals(tenant, warehouse)
        location = _location(tenant, locations)
        credentials = {META: _credentials(tenant, warehouse, now)} if tenant.meta else {}
        for source in tenant.sources:
            key = (tenant.tenant_id, source)
            verdict = freshness_verdict(tenant, expected.get(key), found.get(key))
            listed.append(
                SourceStatus(
                    *key,
                    expected.get(key),
                    verdict,
                    health.get(source),
                    rejected.get(source),
                    tuple(one for one in refusals if one.source == source),
                    credentials.get(source, ()),
                    location,
                )
            )
    return listed


def _location(tenant: Tenant, locations: Locations) -> str | None:
    try:
        return locations.of(tenant).location_name
    except AmbiguousLocationError:  # no reason to show nothing of the tenant
        return None


def _refusals(tenant: Tenant, warehouse: Warehouse) -> list[StandingRefusal]:
    """Return what the stored days lack, without keys that the tenant file no longer has."""
    keys = {key_scope(key.api_key.source) for key in tenant.pancake}
    return [
        one
        for one in standing_refusals(warehouse.engine, tenant.tenant_id)
        if one.scope in keys or not is_key_scope(one.scope)
    ]


def as_table(listed: Sequence[SourceStatus]) -> str:
    """The list as aligned text, times in this machine's timezone."""
    header = (
        "TENANT",
        "SOURCE",
        "STATE",
        "COMPLETE UP TO",
        "BEHIND",
        "MISSING",
        "REJECTED",
        "ROWS",
        "REQUESTS",
        "LOCATION",
        "LAST RUN",
        "LAST ERROR",
    )
    return table(header, map(_cells, listed), right=(4, 5, 6, 7, 8))


def as_json(one: SourceStatus) -> dict[str, Any]:
    """The same for machines: instants in UTC and days as ISO 8601; what is not known is null."""
    known = asdict(one.health) if one.health else dict.fromkeys(SourceHealth.__dataclass_fields__)
    values = {name: _plain(value) for name, value in known.items()}
    return {
        **values,
        "days_behind": one.days_behind,
        "tenant_id": one.tenant_id,
        "source": one.source,
        "location": one.location,
        "state": one.state,
        "why": one.verdict.sentence,
        "rejected_rows": one.rejected.rows if one.rejected else 0,
        "missing": [
            {
                **MissingScope(one.tenant_id, refusal.source, refusal.scope, refusal.days).metadata(),
                "days": len(refusal.days),
                "reason": refusal.message,
            }
            for refusal in one.missing
        ],
        "credentials": [
            {name: _plain(value) for name, value in asdict(finding).items()} for finding in one.credentials
        ],
    }


def _credentials(tenant: Tenant, warehouse: Warehouse, now: datetime) -> list[Finding]:
    assert tenant.meta is not None
    return findings(tenant.meta.api_version, stored_expiries(warehouse.engine, tenant.tenant_id), now)


def _cells(one: SourceStatus) -> tuple[str, ...]:
    known = one.health
    named = (one.tenant_id, one.source, one.state)
    rejected = one.rejected.rows if one.rejected else 0
    if known is None:
        return (*named, *[""] * 3, str(rejected), *[""] * 2, one.location or "", *[""] * 2)
    counts = (one.days_behind, known.days_missing, rejected, known.rows, known.requests)
    return (
        *named,
        str(known.last_complete_day or ""),
        *("" if count is None else str(count) for count in counts),
        one.location or "",
        _local(known.finished),
        _error(known),
    )


def _rejected_sentence(rejected: RejectedSummary) -> str:
    if rejected.since is None:
        place = "the catalogue"
    else:
        place = str(rejected.since) if rejected.since == rejected.until else f"{rejected.since} to {rejected.until}"
    rows = "1 row" if rejected.rows == 1 else f"{rejected.rows} rows"
    return (
        f"{rows} of {place} could not be read, for example {rejected.latest[0]}; the table rejected_rows lists them. "
        "Correct them at the source and sync their days again"
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
