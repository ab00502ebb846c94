"""Says when a day is missing that should be here, also where nothing runs that could say so."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from sync_pipeline.assets.freshness import UP_TO_DATE, expected_and_stored, freshness_verdict
from sync_pipeline.assets.verdicts import evaluation
from sync_pipeline.resources import open_warehouse
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.tenancy import Warehouse


def freshness_sensor(tenants: Sequence[Tenant]) -> dg.SensorDefinition:
    """One sensor for all tenants of the code location; it starts no runs."""

    @dg.sensor(
        name="watch_freshness",
        description="Evaluates the check up_to_date of every tenant and source, and tells where it changes.",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        told: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        with open_warehouse() as warehouse:
            now_told = tell_freshness(
                context.instance, warehouse, tenants, told, datetime.now(UTC), _location_of(context)
            )
        context.update_cursor(json.dumps(now_told))
        changed = sum(told.get(place) != sentence for place, sentence in now_told.items())
        return dg.SkipReason(f"{changed} of {len(now_told)} checks of freshness have changed")

    return sensor


def tell_freshness(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    tenants: Sequence[Tenant],
    told: dict[str, str],
    now: datetime,
    location: str | None,
) -> dict[str, str]:
    """Evaluate every tenant's sources as of `now`, and store evaluations that differ from `told`.

    `location` is the name of the tenants' code location. Returns the present evaluations.
    """
    locations = None if location is None else [location]
    expected, found = expected_and_stored(instance, warehouse, tenants, now, lambda _: locations)
    now_told: dict[str, str] = {}
    for tenant in tenants:
        for source in tenant.sources:
            key = (tenant.tenant_id, source)
            verdict = freshness_verdict(tenant, expected.get(key), found.get(key))
            place = "/".join(key)
            now_told[place] = verdict.sentence
            if told.get(place) != verdict.sentence:
                instance.report_runless_asset_event(evaluation(tenant, UP_TO_DATE[source], verdict))
    return now_told


def _location_of(context: dg.SensorEvaluationContext) -> str | None:
    """Return the name of the sensor's code location; the configured one where Dagster does not give it."""
    origin = context.code_location_origin
    return Settings.from_environment().location if origin is None else origin.location_name
