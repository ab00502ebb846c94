"""A heartbeat for an external watcher, which raises an alarm once requests stop.

Whatever runs here cannot report its own end. The watcher notices it, and also a heartbeat that is withheld because
something essential does not work.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from sync_pipeline.automation.webhooks import ping
from sync_pipeline.dagster_internals.stored_runs import heartbeat_ages
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.resources import open_warehouse
from sync_pipeline.settings import HEARTBEAT_VARIABLE, Settings

SENSOR: Final = "send_heartbeat"
EVERY_S: Final = 60
# A daemon writes a heartbeat every 30 s; one that is busy is late by minutes.
DAEMON_SILENT_S: Final = 600.0
# With a run in progress the queue may wait for hours, for its tenant's pool or for a free slot.
QUEUE_STUCK_S: Final = 900.0
IN_PROGRESS: Final = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def heartbeat_sensor() -> dg.SensorDefinition:
    """One sensor for the code location; it starts no runs."""

    @dg.sensor(
        name=SENSOR,
        description=f"Requests {HEARTBEAT_VARIABLE} every minute, as long as daemons, queue and warehouse work.",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        url = Settings.from_environment().heartbeat_url
        if url is None:
            return dg.SkipReason(f"{HEARTBEAT_VARIABLE} is not set")
        if problems := list(essential_problems(context.instance, datetime.now(UTC))):
            context.log.warning(f"no heartbeat is sent: {'; '.join(problems)}")
            return dg.SkipReason(f"not sent: {'; '.join(problems)}")
        outcome = ping(url, HEARTBEAT_VARIABLE)
        if outcome is not None:
            context.log.warning(f"the heartbeat did not arrive: {outcome.why}")
            return dg.SkipReason(f"did not arrive: {outcome.why}")
        return dg.SkipReason("sent")

    return sensor


def essential_problems(instance: dg.DagsterInstance, now: datetime) -> Iterator[str]:
    """Yield what keeps syncs from running at all, a sentence each."""
    for daemon, age in sorted(heartbeat_ages(instance, now).items()):
        if age is None or age > DAEMON_SILENT_S:
            silent = "has never sent a heartbeat" if age is None else f"has sent no heartbeat for {age:.0f} s"
            yield f"the daemon {daemon.lower()} {silent}"
    queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
    for record in instance.get_run_records(queued, limit=1, ascending=True):
        waited_s = (now - record.create_timestamp).total_seconds()
        if waited_s > QUEUE_STUCK_S and not instance.get_runs_count(dg.RunsFilter(statuses=list(IN_PROGRESS))):
            yield f"run {record.dagster_run.run_id} has been queued for {waited_s:.0f} s, and no run is in progress"
    try:
        with open_warehouse():
            pass
    except SyncPipelineError as error:
        yield str(error)
