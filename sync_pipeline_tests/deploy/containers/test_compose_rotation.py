"""Secrets are replaced while a run is in progress, and only what uses them is started again."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline_tests.deploy.browser import wait_for
from sync_pipeline_tests.deploy.containers.installation import Installation
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.containers

LOCATION = "sync_pipeline"
# The sandbox stands for services of an operator's own, which do not use the secrets.
SERVICES = ("postgres", "code", "daemon", "webserver", "sandbox")


@contextmanager
def rotating(installation: Installation, secret: str) -> Iterator["subprocess.Popen[str]"]:
    """Start deploy/rotate-secret as an operator does."""
    with subprocess.Popen(
        [installation.folder / "rotate-secret", secret],
        env={**os.environ, **installation.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process


def rotate(installation: Installation, secret: str) -> None:
    with rotating(installation, secret) as process:
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, printed


def started(installation: Installation) -> dict[str, tuple[str, str]]:
    return {name: (installation.container(name), installation.state(name)["StartedAt"]) for name in SERVICES}


def replaced(installation: Installation, before: dict[str, tuple[str, str]]) -> set[str]:
    """The services that are not the containers, or not the processes, that they were."""
    now = started(installation)
    return {name for name in SERVICES if now[name] != before[name]}


def connects(installation: Installation, user: str, password: str) -> bool:
    command = 'PGPASSWORD=$1 psql -w -h 127.0.0.1 -U "$2" -d warehouse -c "SELECT 1"'
    return installation.execute("postgres", "sh", "-c", command, "sh", password, user, check=False).returncode == 0


def test_a_run_in_progress_survives_a_new_database_password(whole: Installation) -> None:
    file = whole.folder / "secrets" / "database_password"
    old, inode = file.read_text(), file.stat().st_ino
    last = datetime.now(UTC).date() - timedelta(days=2)
    days = [str(last - timedelta(days=1)), str(last)]
    whole.rows("DELETE FROM tenants WHERE tenant_id = 'acme'")
    whole.sandbox.hold(days[1])
    run = whole.browser.launch(LOCATION, "acme__daily_sync", *days)
    wait_for(whole.sandbox.held)
    before = started(whole)

    with rotating(whole, "database_password") as process:
        # The daemon is stopped first, and the run goes on with the old password.
        wait_until(lambda: whole.state("daemon")["Status"], lambda status: status == "exited", process=process)
        assert whole.browser.status(run) == "STARTED"
        assert connects(whole, "sync_pipeline", old)
        queued = whole.browser.launch(LOCATION, "acme__daily_sync", *days)
        whole.sandbox.release()
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, printed
    whole.ready()
    assert whole.browser.wait(run) == "SUCCESS", whole.browser.said(run)
    assert replaced(whole, before) == {"code", "daemon", "webserver"}
    new = file.read_text()
    assert new != old
    assert file.stat().st_ino == inode
    assert not connects(whole, "sync_pipeline", old)
    assert connects(whole, "sync_pipeline", new)
    assert whole.browser.wait(queued) == "SUCCESS", whole.browser.said(queued)
    assert old not in printed
    assert new not in printed


def test_a_failed_rotation_starts_the_services_again(whole: Installation) -> None:
    file = whole.folder / "secrets" / "superuser_password"
    right, old = file.read_text(), (whole.folder / "secrets" / "database_password").read_text()
    file.write_text("wrong")
    try:
        with rotating(whole, "database_password") as process:
            printed, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        file.write_text(right)
    assert process.returncode != 0
    assert "password authentication failed" in printed
    whole.ready()
    assert (whole.folder / "secrets" / "database_password").read_text() == old
    assert all(whole.state(name)["Status"] == "running" for name in SERVICES)


def test_a_new_superuser_password_restarts_nothing(whole: Installation) -> None:
    file = whole.folder / "secrets" / "superuser_password"
    old, before = file.read_text(), started(whole)
    rotate(whole, "superuser_password")
    assert replaced(whole, before) == set()
    assert not connects(whole, "postgres", old)
    assert connects(whole, "postgres", file.read_text())
    # A new process in the old container reads the new password.
    assert whole.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("secret", ["session_key", "service_token"])
def test_new_secrets_of_the_login_restart_the_webserver(whole: Installation, secret: str) -> None:
    old, before = (whole.folder / "secrets" / secret).read_text(), started(whole)
    rotate(whole, secret)
    assert replaced(whole, before) == {"webserver"}
    new = (whole.folder / "secrets" / secret).read_text()
    assert new != old
    whole.ready()
    assert whole.execute("webserver", "cat", f"/run/secrets/{secret}").stdout == new
    # `reload` in the code container, which was not replaced, uses the new token.
    assert whole.execute("code", "sync-pipeline", "reload").returncode == 0
