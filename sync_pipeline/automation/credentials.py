"""The daily check of API versions and tokens: asks Meta of one tenant after the other, outside of all runs.

A run's requests are counted, and this one is none of them. Dagster ends a tick after 60 s, so a tick asks of a few
tenants with short timeouts, and the next one goes on with those that were asked least recently: a tenant whose API
hangs delays the others by one short request.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sync_pipeline.assets.credentials import CREDENTIALS_CURRENT, credentials_verdict
from sync_pipeline.assets.verdicts import Verdict, evaluation
from sync_pipeline.automation.cursors import DefaultedCursor
from sync_pipeline.date_ranges import local_date
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.resources import open_warehouse
from sync_pipeline.settings import Settings
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.waits import Pacing
from sync_pipeline.sync.credentials import OUTDATED_AFTER, Finding, Outlook, fetch_expiries, findings
from sync_pipeline.tenants import MetaSource, Tenant
from sync_pipeline.warehouse.credentials import CredentialExpiry, Subject, store_expiries, stored_expiries
from sync_pipeline.warehouse.tenancy import Warehouse

SENSOR: Final = "watch_credentials"
TENANTS_PER_TICK: Final = 10
# Nothing is begun later. The longest request, and a name server that does not answer, still fit in Dagster's 60 s.
BEGIN_WITHIN_S: Final = 20.0
TIMEOUTS_S: Final = (3.0, 10.0)
# After a failure, and while a token that has ended may be renewed at any time.
RETRY_AFTER: Final = timedelta(hours=1)
# A rate limit and a failure of Meta are for the next attempt.
_AT_ONCE: Final = Pacing(delay_s=0, max_wait_s=0)


class Checked(BaseModel):
    """The last attempt for a tenant. `failing_since`: the first of the attempts that failed in a row.

    `outcome` is what the check shows, `retry` asks for another attempt before the next day.
    """

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    api_version: str
    outcome: str | None = None
    retry: bool = False
    failing_since: AwareDatetime | None = None


class Cursor(DefaultedCursor):
    """The last attempt for each tenant."""

    tenants: dict[str, Checked] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What came of asking Meta. `stored`: the warehouse has the tenant; `failure`: there was no answer to use."""

    expiries: Sequence[CredentialExpiry]
    stored: bool
    failure: str | None = None


def credentials_sensor(tenants: Sequence[Tenant]) -> dg.SensorDefinition:
    """One sensor for all tenants of the code location; it starts no runs."""

    @dg.sensor(
        name=SENSOR,
        description="Asks Meta once a day and tenant when the token ends, and evaluates the check credentials_current.",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        before = Cursor.parse(context.cursor)
        with open_warehouse() as warehouse:
            cursor = check_due_credentials(
                context.instance, warehouse, tenants, before, datetime.now(UTC), warn=context.log.warning
            )
        context.update_cursor(cursor.model_dump_json())
        asked = sum(before.tenants.get(tenant_id) != checked for tenant_id, checked in cursor.tenants.items())
        return dg.SkipReason(f"{asked} of {len(cursor.tenants)} tenants checked" if asked else "no check is due")

    return sensor


def check_due_credentials(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    tenants: Sequence[Tenant],
    cursor: Cursor,
    now: datetime,
    *,
    warn: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    timeouts_s: tuple[float, float] = TIMEOUTS_S,
) -> Cursor:
    """Check the tenants that are due as far as time allows; return the cursor after it.

    An error of one tenant is passed to `warn` and never stops the others.
    """
    begun = clock()
    checked = {tenant.tenant_id: cursor.tenants.get(tenant.tenant_id) for tenant in tenants if tenant.meta}
    due = [
        (tenant, tenant.meta)
        for tenant in tenants
        if tenant.meta and _is_due(tenant, tenant.meta, checked[tenant.tenant_id], now)
    ]
    due.sort(key=lambda one: _last_attempt(checked[one[0].tenant_id]))
    for tenant, meta in due[:TENANTS_PER_TICK]:
        if clock() - begun > BEGIN_WITHIN_S:
            break
        attempt = _attempt(warehouse, tenant, meta, now, timeouts_s)
        if attempt.failure:
            warn(f"{tenant.tenant_id}: {attempt.failure}")
        checked[tenant.tenant_id] = _evaluate(instance, tenant, meta, attempt, checked[tenant.tenant_id], now)
    return Cursor(tenants={tenant_id: one for tenant_id, one in checked.items() if one})


def _is_due(tenant: Tenant, meta: MetaSource, last: Checked | None, now: datetime) -> bool:
    if last is None or last.api_version != meta.api_version:
        return True
    if last.retry and now - last.at >= RETRY_AFTER:
        return True
    return _is_new_day(tenant, last, now)


def _is_new_day(tenant: Tenant, last: Checked, now: datetime) -> bool:
    # Or an earlier one, where the clock was moved back.
    return local_date(last.at, tenant.timezone) != local_date(now, tenant.timezone)


def _last_attempt(last: Checked | None) -> datetime:
    return last.at if last else datetime.min.replace(tzinfo=UTC)


def _evaluate(
    instance: dg.DagsterInstance,
    tenant: Tenant,
    meta: MetaSource,
    attempt: _Attempt,
    last: Checked | None,
    now: datetime,
) -> Checked:
    """Evaluate the check after an attempt, and report the result once a day and whenever it changes."""
    failing_since = ((last.failing_since if last else None) or now) if attempt.failure else None
    found = findings(meta.api_version, attempt.expiries, now)
    found += _never_checked(found, failing_since, now)
    verdict = credentials_verdict(found)
    outcome = last.outcome if last else None
    # An attempt that failed leaves a good result as it is where nothing is known of the token.
    if not attempt.failure or attempt.expiries or not verdict.passed:
        previous, outcome = outcome, _outcome(verdict)
        recovered = last is not None and last.failing_since is not None and not attempt.failure
        is_first = last is None or last.api_version != meta.api_version or _is_new_day(tenant, last, now)
        if is_first or recovered or outcome != previous:
            instance.report_runless_asset_event(evaluation(tenant, CREDENTIALS_CURRENT, verdict))
    ended = any(one.is_problem and one.subject is not Subject.API_VERSION for one in found)
    return Checked(
        at=now,
        api_version=meta.api_version,
        outcome=outcome,
        retry=bool(attempt.failure) or ended or not attempt.stored,
        failing_since=failing_since,
    )


def _attempt(
    warehouse: Warehouse, tenant: Tenant, meta: MetaSource, now: datetime, timeouts_s: tuple[float, float]
) -> _Attempt:
    """Ask Meta and store the answer; without one, what was stored before counts."""
    try:
        fetched = fetch_expiries(_client(tenant, meta, timeouts_s), meta.api_version, now)
        stored = store_expiries(warehouse.engine, tenant.tenant_id, fetched.expiries)
        # Of a subject that Meta said nothing of now, what it said before counts.
        expiries = stored_expiries(warehouse.engine, tenant.tenant_id) if stored else fetched.expiries
        return _Attempt(expiries, stored)
    except SyncPipelineError as error:
        failure = str(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (one tenant must not stop the others)
        failure = f"unexpected {type(error).__name__}; report this as a bug"
    try:
        return _Attempt(stored_expiries(warehouse.engine, tenant.tenant_id), stored=True, failure=failure)
    except SyncPipelineError:
        return _Attempt((), stored=True, failure=failure)


def _never_checked(found: Sequence[Finding], failing_since: datetime | None, now: datetime) -> list[Finding]:
    """What to add after days of failures; where something is stored, `findings` itself says how old it is."""
    if failing_since is None or now - failing_since < OUTDATED_AFTER or any(one.checked_at for one in found):
        return []
    since = f"{failing_since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return [Finding(Subject.TOKEN, Outlook.OUTDATED, f"the check of the token has failed since {since}")]


def _outcome(verdict: Verdict) -> str:
    return "passed" if verdict.passed else verdict.severity.value if verdict.severity else "failed"


def _client(tenant: Tenant, meta: MetaSource, timeouts_s: tuple[float, float]) -> MetaClient:
    return MetaClient(
        tenant=tenant.tenant_id,
        graph_url=Settings.from_environment().meta_graph_url,
        api_version=meta.api_version,
        token=meta.access_token.resolve(os.environ).reveal(),
        app_secret=meta.app_secret.resolve(os.environ).reveal() if meta.app_secret else None,
        pacing=_AT_ONCE,
        timeouts_s=timeouts_s,
        max_response_s=timeouts_s[1],
    )
