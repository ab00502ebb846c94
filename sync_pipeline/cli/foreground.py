"""A workflow's job run here and now, in this process, as a run in Dagster's run storage like any other."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from sync_pipeline import logs
from sync_pipeline.assets.interrupts import interrupt_main_thread
from sync_pipeline.assets.specs import SYNCED
from sync_pipeline.automation.jobs import job_name, range_tags
from sync_pipeline.cli.progress import CommittedDay, Listener, progress_of
from sync_pipeline.dagster_internals.runs import (
    ReconstructableRepository,
    execute_run_iterator,
    open_instance_without_capture,
)
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.resources import open_warehouse
from sync_pipeline.tenants import Tenant, Workflow
from sync_pipeline.terminal import say
from sync_pipeline.warehouse.database import primary_message
from sync_pipeline.warehouse.errors import RunStorageFailedError

DEFINITIONS = "sync_pipeline.definitions"
# The terminal is for the progress; everything that a run logs is in run storage. JSON is for machines, which want it.
SILENT_CONSOLE = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

INTERRUPTS = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
LOOK_EVERY_S = 1.0
STATES = {dg.DagsterRunStatus.CANCELED: "was cancelled"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a foreground run ended; `error` is the failing step's one sentence."""

    run_id: str
    status: dg.DagsterRunStatus
    error: str | None

    @property
    def succeeded(self) -> bool:
        """Whether every step of the run did."""
        return self.status == dg.DagsterRunStatus.SUCCESS


def run_in_foreground(tenant: Tenant, workflow: Workflow, days: DayRange) -> bool:
    """Run a workflow with its progress on the terminal; True when every day was stored.

    Raises `WarehouseError` before anything is run.
    """
    with open_warehouse():
        pass  # a run that cannot store anything is not worth starting
    title = f"{tenant.tenant_id} {workflow.name}"
    with progress_of(title, len(days) * len(workflow.sources)) as progress:
        outcome = run_workflow(tenant, workflow, days, progress)
    if outcome.succeeded:
        say(f"{title}: {days.since} to {days.until} stored (run {outcome.run_id})")
        return True
    reason = f": {outcome.error}" if outcome.error else ""
    state = STATES.get(outcome.status, "failed")
    fields = {"tenant": tenant.tenant_id, "workflow": workflow.name, "run_id": outcome.run_id}
    logs.tell(f"{title} {state}{reason} (run {outcome.run_id})", fields=fields)
    return False


def run_workflow(tenant: Tenant, workflow: Workflow, days: DayRange, listener: Listener) -> Outcome:
    """Run the workflow's job over `days` and return when it has ended; `listener` hears how it goes.

    An interrupt (SIGINT, SIGTERM) cancels the run: committed days stay and are shown as such. So does asking for it
    elsewhere, by `sync-pipeline cancel` or *Terminate* in the UI, which both only mark the run: see `_cancellable`.
    Raises `RunStorageFailedError`.
    """
    repository = ReconstructableRepository.for_module(DEFINITIONS, "defs", working_directory=str(Path.cwd()))
    job = repository.get_reconstructable_job(job_name(tenant, workflow))
    definition = job.get_definition()
    with _failing_clearly(), open_instance_without_capture(os.environ["DAGSTER_HOME"]) as instance:
        run = instance.create_run_for_job(
            definition,
            run_config={} if logs.as_json() else SILENT_CONSOLE,
            tags={**definition.run_tags, **range_tags(days)},
            job_code_origin=job.get_python_origin(),
        )

        def on_event(entry: dg.EventLogEntry) -> None:
            if committed := _committed_day(entry):
                listener.committed(committed)
            elif entry.dagster_event is None and int(entry.level) >= logging.WARNING:
                listener.said(entry.user_message)

        instance.add_event_listener(run.run_id, on_event)
        error = None
        with _cancellable(instance, run.run_id) as settled:
            for event in execute_run_iterator(job, run, instance):
                if _interrupted(event):
                    settled.set()
                    # Dagster takes an interrupt that nobody announced for a crash.
                    instance.report_run_canceling(run)
                elif event.is_step_failure and error is None:
                    error = _sentence(event)
        ended = instance.get_run_by_id(run.run_id)
        if ended and ended.status == dg.DagsterRunStatus.CANCELING:
            # It was marked before it had begun, and so Dagster did not begin it.
            instance.report_run_canceled(ended)
            ended = instance.get_run_by_id(run.run_id)
    status = ended.status if ended else dg.DagsterRunStatus.FAILURE
    return Outcome(run.run_id, status, error)


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """Raise `RunStorageFailedError` where Dagster's database goes away: a run's own errors are events by then."""
    reason = None
    try:
        yield
    except DBAPIError as error:
        reason = primary_message(error.orig)
    except DagsterPostgresException as error:
        reason = str(error).partition("\n")[0]
    if reason is not None:
        raise RunStorageFailedError(reason)


@contextmanager
def _cancellable(instance: dg.DagsterInstance, run_id: str) -> Iterator[threading.Event]:
    """Interrupt ourselves once run storage says that the run is to be cancelled, unless the event is set by then.

    A run in the foreground has no launcher that could be asked to end it. So whoever wants it ended marks it, on
    whatever machine, and the run looks.
    """
    settled = threading.Event()

    def look() -> None:
        while not settled.wait(LOOK_EVERY_S):
            # A database that is gone is told by the run itself.
            with suppress(DBAPIError, DagsterPostgresException):
                run = instance.get_run_by_id(run_id)
                if run and run.status == dg.DagsterRunStatus.CANCELING and not settled.is_set():
                    interrupt_main_thread()
                    return

    watch = threading.Thread(target=look, name="cancellation", daemon=True)
    watch.start()
    try:
        yield settled
    finally:
        settled.set()
        watch.join()


def _committed_day(entry: dg.EventLogEntry) -> CommittedDay | None:
    event = entry.dagster_event
    if event is None or not event.is_asset_observation:
        return None
    observation = event.asset_observation_data.asset_observation
    sources = {name: source for source, name in SYNCED.items()}
    source = sources.get(observation.asset_key.path[-1])
    if source is None or observation.partition is None:
        return None
    figures = {name: value.value for name, value in observation.metadata.items()}
    return CommittedDay(source, date.fromisoformat(observation.partition), figures)


def _interrupted(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error if event.is_step_failure else None
    return error is not None and error.cls_name in INTERRUPTS


def _sentence(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    return data.error.message.strip() if data.error else "the step failed without an error of its own"
