"""Limits, logs and file systems of the containers, and what restarts a service that hangs."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline_tests.deploy.containers import documented
from sync_pipeline_tests.deploy.containers.installation import Installation
from sync_pipeline_tests.waiting import wait_until

pytestmark = pytest.mark.containers

OURS = ("code", "daemon", "webserver")
SERVICES = ("postgres", *OURS)
LOCATION = "sync_pipeline"


@pytest.mark.parametrize("service", SERVICES)
def test_the_engine_limits_a_service(whole: Installation, service: str) -> None:
    host = whole.inspect(service)["HostConfig"]
    assert host["Memory"] >= 1 << 30
    assert host["NanoCpus"] >= 1_000_000_000
    assert 0 < host["PidsLimit"] <= 1000
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}
    assert host["ReadonlyRootfs"] is True


@pytest.mark.parametrize("service", SERVICES)
def test_the_root_file_system_is_read_only(whole: Installation, service: str) -> None:
    for folder in ("/", "/var/lib/dagster" if service in OURS else "/usr/local", "/etc"):
        done = whole.engine.docker("exec", "--user", "0", whole.container(service), "touch", f"{folder}/x", check=False)
        assert "Read-only file system" in done.stderr, folder
    assert whole.execute(service, "sh", "-c", "touch /tmp/x && rm /tmp/x").returncode == 0


def test_a_run_writes_nothing_into_a_container(whole: Installation) -> None:
    day = str(datetime.now(UTC).date() - timedelta(days=3))
    run = whole.browser.launch(LOCATION, "acme__daily_sync", day, day)
    assert whole.browser.wait(run) == "SUCCESS", whole.browser.said(run)
    for service in OURS:
        changed = whole.engine.docker("diff", whole.container(service)).stdout.splitlines()
        # Mount points, and nothing in them, are made when the container is.
        mounted = [mount["Destination"] for mount in whole.inspect(service)["Mounts"]]
        tmpfs = list(whole.inspect(service)["HostConfig"]["Tmpfs"])
        paths = [line[2:] for line in changed]
        assert all(any(target.startswith(path) for target in [*mounted, *tmpfs, "/sbin/docker-init"]) for path in paths)


def test_the_documented_commands_restart_what_hangs(whole: Installation) -> None:
    # A container that stands for a daemon whose health check fails, in another project.
    project = f"{whole.project}-hangs"
    container = whole.engine.docker(
        "run", "--detach", "--init", "--label", f"com.docker.compose.project={project}",
        "--label", "com.docker.compose.service=daemon", "--health-cmd", "false", "--health-interval", "1s",
        "--health-retries", "1", "--entrypoint", "sleep", whole.image, "600",
    ).stdout.strip()  # fmt: skip
    try:

        def state() -> dict[str, object]:
            found: dict[str, object] = json.loads(
                whole.engine.docker("inspect", "--format", "{{json .State}}", container).stdout
            )
            return found

        wait_until(lambda: state()["Health"]["Status"], lambda status: status == "unhealthy")  # type: ignore[index]
        began = state()["StartedAt"]
        text = documented.commands("deploy/README.md", "health=unhealthy")
        text = text.replace("project=sync-pipeline", f"project={project}")
        subprocess.run(["sh", "-euc", text], check=True, capture_output=True)  # noqa: S607
        assert state()["StartedAt"] != began
        assert state()["Status"] == "running"
    finally:
        whole.engine.docker("rm", "--force", container)
