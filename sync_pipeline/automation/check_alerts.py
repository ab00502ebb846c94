"""Check alerts: tells a tenant's webhook which of its checks have begun to fail, and which pass again.

It carries the evaluations that Dagster has, as Prometheus does, and computes none.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import dagster as dg

from sync_pipeline.assets.check_results import CheckReader, Failing
from sync_pipeline.automation.alerts import Quoting, hook_of, redactor_of
from sync_pipeline.automation.cursors import DefaultedCursor
from sync_pipeline.automation.webhooks import Message, post_all
from sync_pipeline.dagster_internals.stored_runs import reading_evaluations
from sync_pipeline.tenants import Tenant
from sync_pipeline.text_safety import escape_for_slack

SENSOR: Final = "check_alerts"
LISTED: Final = 10


class Cursor(DefaultedCursor):
    """The checks that the webhooks were told are failing, as `<tenant>/<asset>/<check>`."""

    told: tuple[str, ...] = ()


def check_alerts_sensor(tenants: Sequence[Tenant], ui_url: str) -> dg.SensorDefinition:
    """One sensor for all tenants of the code location that have a webhook; it starts no runs."""
    by_id = {tenant.tenant_id: tenant for tenant in tenants if tenant.alerts}
    reader = CheckReader()

    @dg.sensor(
        name=SENSOR,
        description="Tells the webhook that a tenant's file names which checks begin to fail or pass again.",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not by_id:
            return dg.SkipReason("no tenant has a webhook")
        told = set(Cursor.parse(context.cursor).told)
        with reading_evaluations(context.instance) as connection:
            results = reader.read(connection, by_id, datetime.now(UTC))
        failing = {name_of(one): one for one in results.failing if one.is_alarm}
        changed = {
            tenant_id: tenant for tenant_id, tenant in by_id.items() if _of(tenant_id, failing) != _of(tenant_id, told)
        }
        messages = [
            Message(hook_of(tenant), _text(tenant, failing, told, ui_url.rstrip("/"))) for tenant in changed.values()
        ]
        delivered = waiting = 0
        for tenant_id, outcome in zip(changed, post_all(messages), strict=True):
            if outcome is not None:
                context.log.warning(
                    f"the webhook of tenant {tenant_id} has not taken an alert of checks: {outcome.why}"
                )
            if outcome is None or not outcome.again:
                told = (told - _of(tenant_id, told)) | _of(tenant_id, failing)
            delivered += outcome is None
            waiting += outcome is not None and outcome.again
        # Of a tenant that is gone, or has no webhook any more, nothing is remembered.
        kept = sorted(name for name in told if name.partition("/")[0] in by_id)
        context.update_cursor(Cursor(told=tuple(kept)).model_dump_json())
        return dg.SkipReason(f"alerts delivered: {delivered}, waiting: {waiting}")

    return sensor


def name_of(one: Failing) -> str:
    """The name of a check that the cursor remembers it by."""
    return f"{one.key.tenant_id}/{one.key.asset}/{one.key.check}"


def _of(tenant_id: str, names: Iterable[str]) -> set[str]:
    return {name for name in names if name.partition("/")[0] == tenant_id}


def _text(tenant: Tenant, failing: Mapping[str, Failing], told: set[str], ui_url: str) -> str:
    quoted = Quoting(redactor_of(tenant))
    lines = (quoted.redact(line) for line in _lines(tenant, failing, told, ui_url, quoted))
    return escape_for_slack("\n".join(lines))


def _lines(
    tenant: Tenant, failing: Mapping[str, Failing], told: set[str], ui_url: str, quoted: Quoting
) -> Iterator[str]:
    now = _of(tenant.tenant_id, failing)
    begun, ended = sorted(now - told), sorted(_of(tenant.tenant_id, told) - now)
    yield f"Checks of {quoted(tenant.name)} ({tenant.tenant_id}):"
    for name in begun[:LISTED]:
        one = failing[name]
        days = f" for {one.days} days" if one.days > 1 else ""
        yield f"{one.severity}: {one.key.check} of {one.key.asset} fails{days}: {quoted(one.sentence)}"
    if len(begun) > LISTED:
        yield f"and {len(begun) - LISTED} more fail"
    for name in ended[:LISTED]:
        _, asset, check = name.split("/")
        yield f"OK: {check} of {asset} passes again"
    if len(ended) > LISTED:
        yield f"and {len(ended) - LISTED} more pass again"
    assets = {name.split("/")[1] for name in (*begun, *ended)}
    for asset in sorted(assets):
        yield f"Asset: {ui_url}/assets/{quote(tenant.tenant_id)}/{quote(asset)}?view=checks"
