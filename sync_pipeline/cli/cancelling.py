"""Cancels an execution, wherever it runs, and waits until it has ended."""

import time

import dagster as dg

from sync_pipeline.cli.executions import WORDS
from sync_pipeline.dagster_internals.runs import DagsterUserCodeProcessError, DagsterUserCodeUnreachableError
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.warehouse.tenancy import Warehouse

PATIENCE_S = 20.0
POLL_S = 0.2


class AlreadyEndedError(SyncPipelineError):
    """The execution cannot be cancelled because it has ended."""

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"execution {run_id} has already ended: {status}")
        self.run_id = run_id
        self.status = status


class StillRunningError(SyncPipelineError):
    """The execution was asked to end, and has not."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"execution {run_id} is marked to be cancelled, but its process is still at work after {PATIENCE_S:.0f} s; "
            "end that process where it runs, and what it has committed stays"
        )
        self.run_id = run_id


def cancel(instance: dg.DagsterInstance, warehouse: Warehouse, run: dg.DagsterRun) -> str:
    """Cancel the run as *Terminate* in the UI does; returns how that went once the run has ended as cancelled.

    A queued run is taken from the queue. A launched one is interrupted by the code server that launched it, on the
    machine where that runs. One in the foreground looks at its mark every second (`foreground`). Where neither
    answers and no process holds the run's lock in the warehouse, the process is gone, and the run is ended for it.

    Raises `AlreadyEndedError`, also where the run came to its own end first, and `StillRunningError`.
    """
    if run.is_finished:
        raise AlreadyEndedError(run.run_id, WORDS[run.status])
    queued = run.status == dg.DagsterRunStatus.QUEUED
    _ask(instance, run)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        now = _again(instance, run)
        if now.status == dg.DagsterRunStatus.CANCELED:
            return "taken from the queue" if queued else "stopped; the days it had committed stay"
        if now.is_finished:
            raise AlreadyEndedError(run.run_id, WORDS[now.status])
        if now.status != dg.DagsterRunStatus.CANCELING:
            _ask(instance, now)  # it left the queue, or started, at the same moment
        time.sleep(POLL_S)
    if warehouse.is_held(run.run_id):
        raise StillRunningError(run.run_id)
    instance.report_run_canceled(_again(instance, run), "The run's process is gone.")
    return "its process is gone, so it was ended without it; the days it had committed stay"


def _ask(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    try:
        instance.run_coordinator.cancel_run(run.run_id)
    except (DagsterUserCodeUnreachableError, DagsterUserCodeProcessError) as error:
        instance.report_engine_event(f"The code server that launched the run did not take the request: {error}", run)


def _again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    return instance.get_run_by_id(run.run_id) or run
