"""A snapshot as metric families. Every name, HELP text and label is here; docs/metrics.md lists the same."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from sync_pipeline.metrics.snapshot import Snapshot
from sync_pipeline.sources.usage import ERRORS, REQUESTS, WAIT_SECONDS, WAITS
from sync_pipeline.warehouse.counters import DAYS, ROWS

FAILED: Final = "FAILURE"
# Counters of the warehouse: name, HELP text, and the label of the class, None for a counter without classes.
_COUNTERS: Final = {
    REQUESTS: ("sync_pipeline_api_requests", "Requests sent to the API of a source.", None),
    WAITS: ("sync_pipeline_api_waits", "Waits between requests, by class.", "class"),
    WAIT_SECONDS: ("sync_pipeline_api_wait_seconds", "Seconds waited between requests, by class.", "class"),
    ERRORS: ("sync_pipeline_api_errors", "Errors of the API of a source, by class, retried ones included.", "class"),
    ROWS: ("sync_pipeline_rows", "Rows of committed days, by kind.", "kind"),
    DAYS: ("sync_pipeline_committed_days", "Days committed; a day that is synced again counts again.", None),
}


def families(snapshot: Snapshot, now: float) -> Iterator[Metric]:
    """Yield the families of a snapshot, as of an instant in seconds of the epoch."""
    yield from _collection(snapshot, now)
    yield from _tenants(snapshot)
    if snapshot.runs is not None:
        yield from _runs(snapshot)
    yield from _schedules(snapshot)
    yield from _last_runs(snapshot)
    if snapshot.checks is not None:
        yield from _checks(snapshot)
    yield from _sources(snapshot)


def build_info() -> Metric:
    """The versions of the project, Dagster and Python."""
    info = InfoMetricFamily("sync_pipeline_build", "Versions of sync_pipeline, Dagster and Python.")
    versions = {
        "version": version("sync-pipeline"),
        "dagster_version": version("dagster"),
        "python_version": platform.python_version(),
    }
    info.add_metric([], versions)
    return info


def up(value: bool) -> Metric:  # noqa: FBT001
    """Whether everything could be read."""
    return GaugeMetricFamily(
        "sync_pipeline_up", "1 if everything could be read, 0 if some or all of it is missing.", float(value)
    )


def _collection(snapshot: Snapshot, now: float) -> Iterator[Metric]:
    yield up(not snapshot.failed)
    parts = GaugeMetricFamily(
        "sync_pipeline_collector_success",
        "1 if this part could be read, 0 if it is missing.",
        labels=["part"],
    )
    for part in snapshot.parts:
        parts.add_metric([part], float(part not in snapshot.failed))
    yield parts
    yield GaugeMetricFamily(
        "sync_pipeline_collection_duration_seconds", "Seconds that reading everything took.", snapshot.seconds
    )
    yield GaugeMetricFamily(
        "sync_pipeline_collection_age_seconds",
        "Seconds since everything was read; scrapes in quick succession share what was read.",
        max(0.0, now - snapshot.taken_at),
    )


def _tenants(snapshot: Snapshot) -> Iterator[Metric]:
    if "tenants" in snapshot.parts and "tenants" not in snapshot.failed:
        info = GaugeMetricFamily(
            "sync_pipeline_tenant_info",
            "1 for each tenant in use and its code location.",
            labels=["tenant", "location"],
        )
        for tenant_id in snapshot.tenants.sources:
            info.add_metric([tenant_id, snapshot.tenants.locations.get(tenant_id, "")], 1.0)
        yield info
        yield GaugeMetricFamily(
            "sync_pipeline_broken_tenant_files",
            "Tenant files that are not valid, so that their tenant is left out or an earlier version is in use.",
            float(snapshot.tenants.broken_files),
        )


def _runs(snapshot: Snapshot) -> Iterator[Metric]:
    assert snapshot.runs is not None
    runs = snapshot.runs
    by_status = GaugeMetricFamily(
        "sync_pipeline_runs", "Runs in Dagster's storage, by Dagster's status.", labels=["status"]
    )
    for status, count in sorted(runs.by_status.items()):
        by_status.add_metric([status], float(count))
    yield by_status
    yield GaugeMetricFamily(
        "sync_pipeline_queue_length", "Runs that wait in the queue.", float(runs.by_status.get("QUEUED", 0))
    )
    yield GaugeMetricFamily(
        "sync_pipeline_queue_oldest_age_seconds",
        "Seconds that the oldest run in the queue has waited, 0 for an empty queue.",
        runs.oldest_queued_s or 0.0,
    )
    beats = GaugeMetricFamily(
        "sync_pipeline_daemon_heartbeat_age_seconds",
        "Seconds since the last heartbeat of each daemon that the installation needs, +Inf if it never had one.",
        labels=["daemon"],
    )
    for daemon, age in sorted(runs.heartbeats.items()):
        beats.add_metric([daemon.lower()], float("inf") if age is None else age)
    yield beats
    durations = HistogramMetricFamily(
        "sync_pipeline_run_duration_seconds",
        "Seconds that runs took, by Dagster's status, of runs that ended since the start of this process.",
        labels=["status"],
    )
    for status, (buckets, total) in sorted(runs.durations.items()):
        durations.add_metric([status], buckets=buckets, sum_value=total)
    yield durations


def _schedules(snapshot: Snapshot) -> Iterator[Metric]:
    if "schedules" in snapshot.failed:
        return
    labels = ["tenant", "workflow"]
    enabled = GaugeMetricFamily(
        "sync_pipeline_schedule_enabled", "1 if the schedule of a workflow is on, 0 if it is off.", labels=labels
    )
    switched = GaugeMetricFamily(
        "sync_pipeline_schedule_switched",
        "1 if somebody switched the schedule to another state than the tenant file has, else 0.",
        labels=labels,
    )
    for one in snapshot.schedules:
        values = [one.key.tenant_id, one.key.workflow]
        enabled.add_metric(values, float(one.enabled))
        switched.add_metric(values, float(one.switched))
    yield enabled
    yield switched


def _last_runs(snapshot: Snapshot) -> Iterator[Metric]:
    if "runs" in snapshot.failed:
        return
    labels = ["tenant", "workflow"]
    failed = GaugeMetricFamily(
        "sync_pipeline_last_run_failed",
        "1 if the newest run of a workflow that has ended failed, else 0; a cancelled run did not fail.",
        labels=labels,
    )
    seconds = GaugeMetricFamily(
        "sync_pipeline_last_run_duration_seconds",
        "Seconds that the newest run of a workflow that has ended took.",
        labels=labels,
    )
    ended = GaugeMetricFamily(
        "sync_pipeline_last_run_end_timestamp_seconds",
        "When the newest run of a workflow that has ended did so, in seconds of the epoch.",
        labels=labels,
    )
    for key, run in snapshot.last_runs.items():
        values = [key.tenant_id, key.workflow]
        failed.add_metric(values, float(run.status == FAILED))
        if run.seconds is not None:
            seconds.add_metric(values, run.seconds)
        if run.ended is not None:
            ended.add_metric(values, run.ended)
    yield failed
    yield seconds
    yield ended


def _checks(snapshot: Snapshot) -> Iterator[Metric]:
    assert snapshot.checks is not None
    failing = GaugeMetricFamily(
        "sync_pipeline_check_failed",
        "Days on which the latest evaluation of a check did not pass, 1 for a check that is not of a day. "
        "A check that passes has no series.",
        labels=["tenant", "asset", "check", "severity"],
    )
    for one in sorted(snapshot.checks.failing, key=lambda found: (found.key, found.severity)):
        failing.add_metric([one.key.tenant_id, one.key.asset, one.key.check, one.severity], float(one.days))
    yield failing
    passing = GaugeMetricFamily(
        "sync_pipeline_checks_passed", "Checks of a tenant whose latest evaluations pass.", labels=["tenant"]
    )
    for tenant_id, count in snapshot.checks.passing.items():
        passing.add_metric([tenant_id], float(count))
    yield passing
    ends = GaugeMetricFamily(
        "sync_pipeline_credential_expiry_timestamp_seconds",
        "When Meta's API version, the token and its access to data end, in seconds of the epoch, as the check "
        "credentials_current found it. What does not end, or is not known to, has no series.",
        labels=["tenant", "subject"],
    )
    for (tenant_id, subject), at in sorted(snapshot.checks.ends.items()):
        ends.add_metric([tenant_id, subject], at)
    yield ends


def _sources(snapshot: Snapshot) -> Iterator[Metric]:
    if "warehouse" in snapshot.failed or "warehouse" not in snapshot.parts:
        return
    behind = GaugeMetricFamily(
        "sync_pipeline_days_behind",
        "Days that follow the last complete day of a source, up to the last one that can be complete by now. "
        "A source without a complete day has no series.",
        labels=["tenant", "source", "location"],
    )
    for (tenant_id, source), days in snapshot.days_behind.items():
        behind.add_metric([tenant_id, source, snapshot.tenants.locations.get(tenant_id, "")], float(days))
    yield behind
    for counter, (name, text, label) in _COUNTERS.items():
        family = CounterMetricFamily(name, text, labels=["tenant", "source", *([label] if label else [])])
        for (tenant_id, source), counts in snapshot.counts.items():
            for (counted, class_name), total in counts.items():
                if counted == counter:
                    family.add_metric([tenant_id, source, *([class_name] if label else [])], total)
        yield family
