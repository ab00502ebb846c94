"""The container of the code server is told to stop while a run is in progress."""

from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline_tests.deploy.browser import wait_for
from sync_pipeline_tests.deploy.containers.installation import Installation
from sync_pipeline_tests.waiting import wait_until

pytestmark = pytest.mark.containers

LOCATION = "sync_pipeline"


def processes(installation: Installation) -> str:
    """The command lines of the processes in the container of the code server; empty once it has ended."""
    return installation.engine.docker("top", installation.container("code"), "-eo", "pid,args", check=False).stdout


def test_a_stop_waits_for_the_run_which_succeeds(whole: Installation) -> None:
    last = datetime.now(UTC).date() - timedelta(days=2)
    days = [str(last - timedelta(days=1)), str(last)]
    whole.rows("DELETE FROM tenants WHERE tenant_id = 'acme'")
    whole.sandbox.hold(days[1])
    run = whole.browser.launch(LOCATION, "acme__daily_sync", *days)
    # The first day is stored, and the run waits for the answer of the second.
    wait_for(whole.sandbox.held)
    container = whole.container("code")
    assert "bin/dagster code-server" in processes(whole)

    with whole.compose_process("stop", "code") as stop:
        # The code server waits for half a minute and ends. A container without the supervisor ends with it.
        wait_until(lambda: processes(whole), lambda shown: "bin/dagster code-server" not in shown, process=stop)
        assert whole.state("code")["Status"] == "running", whole.logs("code")[-3000:]
        assert stop.poll() is None
        assert whole.browser.status(run) == "STARTED"

        whole.sandbox.release()
        assert whole.browser.wait(run) == "SUCCESS", whole.browser.said(run)
        printed, _ = stop.communicate()
    assert stop.returncode == 0, printed
    state = whole.state("code")
    assert whole.container("code") == container
    assert state["Status"] == "exited"
    # The engine did not have to kill it. The code server itself ends with 1 when a run outlasts its half minute.
    assert state["ExitCode"] in (0, 1), state
    assert "1 of its processes have not yet" in whole.logs("code")
    stored = whole.rows("SELECT DISTINCT date::text FROM meta_ad_insights WHERE tenant_id = 'acme' ORDER BY 1")
    assert [day for [day] in stored] == days
