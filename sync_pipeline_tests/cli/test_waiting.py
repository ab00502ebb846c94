"""`sync-pipeline wait`: it returns once no execution is in progress, and says which ones are."""

import threading

import dagster as dg
import pytest

from sync_pipeline.cli import waiting
from sync_pipeline.cli.waiting import StillInProgressError
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

IN_PROGRESS = ("STARTING", "STARTED", "CANCELING")
NOT_IN_PROGRESS = ("QUEUED", "SUCCESS", "FAILURE", "CANCELED")


def test_without_executions_in_progress_it_returns_at_once(installed: Installed) -> None:
    for status in NOT_IN_PROGRESS:
        installed.note("lumina__daily_sync", dg.DagsterRunStatus(status))
    result = installed.command("wait", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (0, "no execution is in progress\n")


@pytest.mark.parametrize("status", IN_PROGRESS)
def test_after_the_timeout_it_names_what_is_in_progress(installed: Installed, status: str) -> None:
    run_id = installed.note("lumina__daily_sync", dg.DagsterRunStatus(status))
    result = installed.command("wait", "--timeout", "0")
    assert isinstance(result.exception, StillInProgressError)
    assert result.exception.run_ids == (run_id,)
    assert str(result.exception) == (
        f"in progress after 0 s: {run_id[:8]} lumina daily_sync. Wait longer (--timeout), or end one with "
        "`sync-pipeline cancel RUN_ID`, which also ends one whose process is gone"
    )
    [title, header, line] = result.stdout.splitlines()
    assert title == "Waiting for:"
    assert header.startswith("RUN ")
    assert line.split()[:3] == [run_id[:8], "lumina", "daily_sync"]


def test_it_lists_executions_again_only_when_they_change(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_S", 0.01)
    first, second = (installed.note("lumina__daily_sync", dg.DagsterRunStatus.STARTED) for _ in range(2))
    seen: list[set[str]] = []
    looked = threading.Event()
    listed = waiting.listed

    def look(*arguments: object, **options: object) -> object:
        found = listed(*arguments, **options)  # type: ignore[arg-type]
        if len(seen) == 1 and looked.is_set():
            installed.instance.report_run_failed(run_of(installed, first))
        if len(seen) == 2:
            installed.instance.report_run_failed(run_of(installed, second))
        looked.set()
        return found

    monkeypatch.setattr(waiting, "listed", look)
    waiting.wait(installed.instance, PATIENCE_S, lambda found: seen.append({one.run_id for one in found}))
    assert seen == [{first, second}, {second}]


def run_of(installed: Installed, run_id: str) -> dg.DagsterRun:
    run = installed.instance.get_run_by_id(run_id)
    assert run is not None
    return run


def test_it_waits_for_the_end_of_a_run(installed: Installed, shell: Shell, sandbox: SandboxServer) -> None:
    held = sandbox.faults.add(Fault(faults.held(), path="insights", times=1))
    run = shell.start("trigger", "lumina", "daily_sync", "--since", "2026-10-05", "--until", "2026-10-05")
    wait_until(lambda: held.hits, process=run)
    assert installed.command("wait", "--timeout", "0").exit_code == 1
    waiting_for_it = shell.start("wait", "--timeout", str(int(PATIENCE_S)))
    assert waiting_for_it.stdout is not None
    assert waiting_for_it.stdout.readline() == "Waiting for:\n"
    held.release()
    out, err = waiting_for_it.communicate(timeout=PATIENCE_S)
    assert (waiting_for_it.returncode, err) == (0, "")
    assert out.endswith("no execution is in progress\n")
    assert run.wait(PATIENCE_S) == 0
    run.communicate()
