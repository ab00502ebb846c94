"""Waits until no execution is in progress, so that an upgrade or a restart disturbs none."""

import time
from collections.abc import Callable, Sequence

import dagster as dg

from sync_pipeline.cli.executions import ID_SHOWN, Execution, listed
from sync_pipeline.errors import SyncPipelineError

POLL_S = 2.0
# More than any queue starts at once.
MOST = 1000
SHOWN = 20


class StillInProgressError(SyncPipelineError):
    """Executions are still in progress when the time to wait for them is over."""

    def __init__(self, executions: Sequence[Execution], waited_s: float) -> None:
        named = [
            " ".join(filter(None, (one.run_id[:ID_SHOWN], one.tenant, one.workflow))) for one in executions[:SHOWN]
        ]
        more = ", ..." if len(executions) > SHOWN else ""
        super().__init__(
            f"in progress after {waited_s:g} s: {', '.join(named)}{more}. Wait longer (--timeout), or end one with "
            "`sync-pipeline cancel RUN_ID`, which also ends one whose process is gone"
        )
        self.run_ids = tuple(one.run_id for one in executions)
        self.waited_s = waited_s


def wait(instance: dg.DagsterInstance, timeout_s: float, on_change: Callable[[Sequence[Execution]], None]) -> None:
    """Return once no execution is in progress; queued ones are not.

    `on_change` is called with those in progress at first, and whenever others are. Raises `StillInProgressError` after
    `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    reported: set[str] = set()
    while found := listed(instance, status="RUNNING", limit=MOST):
        run_ids = {one.run_id for one in found}
        if run_ids != reported:
            on_change(found)
            reported = run_ids
        left = deadline - time.monotonic()
        if left <= 0:
            raise StillInProgressError(found, timeout_s)
        time.sleep(min(POLL_S, left))
