"""Commands of the command line in an installation: in the running code container, and in one of their own."""

import time

import pytest

from sync_pipeline_tests.deploy.containers.installation import Installation
from sync_pipeline_tests.waiting import wait_until

pytestmark = pytest.mark.containers

SERVICES = ("postgres", "migrate", "code", "daemon", "webserver")


def started(installation: Installation) -> dict[str, tuple[str, str]]:
    """The container of each service, and when it was started."""
    return {name: (installation.container(name), installation.state(name)["StartedAt"]) for name in SERVICES}


def test_commands_work_in_the_running_code_container(whole: Installation) -> None:
    before = started(whole)
    began = time.monotonic()
    status = whole.execute("code", "sync-pipeline", "status", check=False)
    print(f"exec code sync-pipeline status: {time.monotonic() - began:.1f} s")
    assert "acme" in status.stdout, status.stderr
    reloaded = whole.execute("code", "sync-pipeline", "reload")
    assert "tenants loaded: " in reloaded.stdout
    listed = whole.execute("webserver", "sync-pipeline-webserver", "list-users")
    assert listed.returncode == 0
    assert started(whole) == before


def test_a_command_container_works_while_code_is_down(whole: Installation) -> None:
    whole.compose("stop", "code")
    try:
        before = started(whole)
        began = time.monotonic()
        status = whole.compose("run", "--rm", "-T", "cli", "status", check=False)
        print(f"run --rm cli status: {time.monotonic() - began:.1f} s")
        assert "acme" in status.stdout, status.stderr
        # Above all it has neither migrated nor started code again.
        assert started(whole) == before
        assert whole.state("code")["Status"] == "exited"
    finally:
        whole.compose("start", "code")


def test_runs_do_not_know_the_token_of_the_webserver(whole: Installation) -> None:
    token = (whole.folder / "secrets" / "service_token").read_text()
    known = whole.execute("code", "sh", "-c", "cat /proc/[0-9]*/environ").stdout
    assert "SYNC_PIPELINE_DATABASE_URL" in known
    assert token not in known


def test_an_edited_workspace_takes_effect_with_a_reload(whole: Installation) -> None:
    file = whole.folder / "workspace" / "workspace.yaml"
    original = file.read_text()
    second = "  - grpc_server: {socket: /run/sync_pipeline/second.sock, location_name: second}\n"
    try:
        # As editors and `git pull` do, with a new file in the place of the old one.
        draft = file.with_suffix(".new")
        draft.write_text(f"{original.rstrip()}\n{second}")
        draft.replace(file)
        refused = whole.execute("code", "sync-pipeline", "reload", check=False)
        assert "second does not load" in refused.stderr
        assert set(whole.browser.locations()) == {"sync_pipeline", "second"}
    finally:
        draft.write_text(original)
        draft.replace(file)
        whole.execute("code", "sync-pipeline", "reload")
    assert set(whole.browser.locations()) == {"sync_pipeline"}


def test_the_daemon_reads_an_edited_workspace_by_itself(whole: Installation) -> None:
    file = whole.folder / "workspace" / "workspace.yaml"
    original = file.read_text()
    draft = file.with_suffix(".new")
    second = "  - grpc_server: {socket: /run/sync_pipeline/unknown.sock, location_name: unknown}\n"
    try:
        draft.write_text(f"{original.rstrip()}\n{second}")
        draft.replace(file)
        # Its attempt to load the location fails, since no server has this socket.
        wait_until(lambda: whole.logs("daemon"), lambda log: "unknown" in log)
    finally:
        draft.write_text(original)
        draft.replace(file)
