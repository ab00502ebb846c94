"""The rendered Helm chart with its pods as containers, beside a stand-in for the Kubernetes API.

Runs are started as Dagster starts them on Kubernetes: the daemon asks the API for a Job, and the Job's pod is started.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_pipeline_tests.deploy.browser import wait_for
from sync_pipeline_tests.deploy.chart import containers, tools_or_skip
from sync_pipeline_tests.deploy.containers.cluster import LOCATION, MIGRATION, Cluster, cluster
from sync_pipeline_tests.deploy.containers.installation import Installation
from sync_pipeline_tests.deploy.containers.pods import docker, in_bytes
from sync_pipeline_tests.deploy.kubernetes_api import RefusedError

pytestmark = pytest.mark.containers

MANY = 1_000
SCHEDULES = """query ($location: String!) {
  schedulesOrError(repositorySelector: {repositoryLocationName: $location, repositoryName: "__repository__"}) {
    ... on Schedules { results { name scheduleState { status } } }
  }
}"""
RELOAD = "mutation { reloadWorkspace { __typename } }"


@pytest.fixture(scope="module")
def kubernetes_image(built: Installation) -> Iterator[str]:
    image = built.build(f"{built.version}-kubernetes", "--build-arg", "EXTRAS=auth kubernetes", "migrate")
    yield image
    docker("image", "rm", "--force", image)


@pytest.fixture(scope="module")
def release(kubernetes_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The release with all of its pods running and two tenants."""
    tools = tools_or_skip(tmp_path_factory.mktemp("chart"))
    with cluster(tools, kubernetes_image, tmp_path_factory.mktemp("cluster")) as found:
        found.add_tenant("acme", "lumina")
        found.add_tenant("berlin", "mekong")
        found.apply_tenants()
        found.node.start(MIGRATION, found.rendered.of_kind("Job")[MIGRATION]["spec"]["template"])
        wait_for(lambda: found.node.status(MIGRATION), lambda status: not status.running)
        assert found.node.status(MIGRATION).exit_code == 0, found.node.log(MIGRATION)
        for component in ("user-deployments", "dagster-daemon", "dagster-webserver"):
            found.start(component)
        found.ready()
        yield found


def day(back: int) -> str:
    return str(datetime.now(UTC).date() - timedelta(days=back))


def job_of(run_id: str) -> str:
    return f"dagster-run-{run_id}"


def wait_for_job(release: Cluster, run_id: str) -> str:
    """Wait until the daemon has asked for the Job of a run, and return its name."""
    found = wait_for(lambda: release.api.refused or job_of(run_id) in release.api.of_kind("Job"))
    assert found is True, found
    return job_of(run_id)


def launch(release: Cluster, tenant: str, since: int, until: int) -> str:
    return release.browser.launch(LOCATION, f"{tenant}__daily_sync", day(since), day(until))


def test_a_run_of_the_daemon_is_a_pod_that_stores_rows(release: Cluster) -> None:
    run_id = launch(release, "acme", 3, 2)
    job = wait_for_job(release, run_id)
    assert release.browser.wait(run_id) == "SUCCESS", release.node.log(job)
    days = "SELECT count(DISTINCT date) FROM meta_ad_insights WHERE tenant_id = 'acme' AND spend > 0"
    assert release.rows(days) == [["2"]]
    orders = "SELECT count(*) > 0 FROM pos_orders WHERE tenant_id = 'acme'"
    assert release.rows(orders) == [["t"]]
    wait_for(lambda: release.node.status(job), lambda status: not status.running)
    assert release.node.status(job).exit_code == 0
    assert release.api.refused == []


def test_a_run_pod_has_its_own_limit_and_a_read_only_file_system(release: Cluster) -> None:
    run_id = launch(release, "berlin", 2, 2)
    job = wait_for_job(release, run_id)
    assert release.browser.wait(run_id) == "SUCCESS", release.node.log(job)
    host = json.loads(release.node.inspected(job, "{{json .HostConfig}}"))
    assert host["Memory"] == in_bytes("512Mi")
    assert host["ReadonlyRootfs"] is True
    mounts = {mount["Destination"] for mount in json.loads(release.node.inspected(job, "{{json .Mounts}}"))}
    assert not any("serviceaccount" in target for target in mounts)
    assert {"/etc/sync_pipeline/tenants", "/etc/sync_pipeline/secrets"} <= mounts


@pytest.mark.parametrize("component", ["user-deployments", "dagster-daemon", "dagster-webserver"])
def test_pods_run_within_what_the_manifest_gives_them(release: Cluster, component: str) -> None:
    name = release.name_of(component)
    host = json.loads(release.node.inspected(name, "{{json .HostConfig}}"))
    container = containers(release.template(component))[-1]
    assert host["Memory"] == in_bytes(container["resources"]["limits"]["memory"])
    assert host["ReadonlyRootfs"] is True
    assert release.node.execute(name, "sh", "-c", "touch /var/lib/dagster/x").returncode != 0
    assert release.node.execute(name, "sh", "-c", "touch /tmp/x && rm /tmp/x").returncode == 0
    assert release.node.execute(name, "id", "-u").stdout.strip() == "10001"
    assert json.loads(release.node.inspected(name, "{{json .State}}"))["OOMKilled"] is False


def test_the_daemon_passes_its_liveness_probe(release: Cluster) -> None:
    container = containers(release.template("dagster-daemon"))[-1]
    command = container["livenessProbe"]["exec"]["command"]
    wait_for(lambda: release.succeeds(release.name_of("dagster-daemon"), command))


def test_the_webserver_passes_its_probes(release: Cluster) -> None:
    container = containers(release.template("dagster-webserver"))[-1]
    script = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)"
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[kind]["httpGet"]
        # A kubelet sends the pod's address as the Host.
        address = release.node.inspected(
            release.name_of("dagster-webserver"), "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        )
        url = f"http://{address}:{probe['port']}{probe['path']}"
        done = release.node.execute(release.name_of("dagster-webserver"), "python", "-c", script, url)
        assert done.returncode == 0, done.stderr


def test_terminate_in_the_ui_stops_the_pod_and_cancels_the_run(release: Cluster) -> None:
    run_id = launch(release, "acme", 300, 2)
    job = wait_for_job(release, run_id)
    release.browser.wait(run_id, "STARTED")
    terminate = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
    assert release.browser.ask(terminate, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert release.browser.wait(run_id) == "CANCELED"
    wait_for(lambda: release.node.status(job), lambda status: not status.running)
    assert job not in release.api.of_kind("Job")


def test_a_run_whose_pod_is_killed_ends_as_failed(release: Cluster) -> None:
    run_id = launch(release, "acme", 300, 2)
    job = wait_for_job(release, run_id)
    release.browser.wait(run_id, "STARTED")
    release.node.kill(job)
    assert release.browser.wait(run_id) == "FAILURE"


def test_commands_in_the_code_server_switch_schedules(release: Cluster) -> None:
    def status() -> str:
        found = release.browser.ask(SCHEDULES, location=LOCATION)["schedulesOrError"]["results"]
        by_name: dict[str, str] = {one["name"]: one["scheduleState"]["status"] for one in found}
        return by_name["acme__daily_sync_schedule"]

    before = status()
    verb, after = ("disable", "STOPPED") if before == "RUNNING" else ("enable", "RUNNING")
    done = release.node.execute(release.code, "sync-pipeline", "workflows", verb, "acme", "daily_sync")
    assert done.returncode == 0, done.stderr
    assert status() == after
    unknown = release.node.execute(
        release.code, "sync-pipeline", "workflows", verb, "acme", "daily_sync", "--location", "nowhere"
    )
    assert unknown.returncode != 0
    assert f"there are {LOCATION}" in unknown.stderr


def test_the_api_refuses_code_servers_and_large_config_maps(release: Cluster) -> None:
    account = release.template("user-deployments")["spec"]["serviceAccountName"]
    token = release.node.tokens[account]
    with pytest.raises(RefusedError, match="cannot list resource jobs"):
        release.api.answer("GET", "/apis/batch/v1/namespaces/production/jobs", None, token)
    large = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"x": "y" * 1_048_577}}
    with pytest.raises(RefusedError, match="Too long"):
        release.api.put(large)


def test_a_thousand_tenants_are_applied_loaded_and_run(release: Cluster, record_property: Any) -> None:
    tenants = release.folder / "tenants"
    for number in range(MANY - len(list(tenants.glob("*.yaml")))):
        release.add_tenant(f"tenant_{number:04d}", "lumina")
    release.apply_tenants()
    sizes = [len(b"".join(release.api.data("ConfigMap", f"sync-pipeline-tenants-{n}").values())) for n in range(8)]
    # They would not fit into one.
    assert sum(sizes) > 1_048_576 > max(sizes)
    began = datetime.now(UTC)
    release.browser.ask(RELOAD)
    loaded = wait_for(lambda: release.browser.job_names(LOCATION), lambda jobs: "tenant_0997__daily_sync" in jobs)
    assert len({name.split("__")[0] for name in loaded if not name.startswith("__")}) == MANY
    record_property("seconds until loaded", (datetime.now(UTC) - began).total_seconds())
    record_property("MB of the code server", memory(release, release.code))
    record_property("MB of the webserver", memory(release, release.name_of("dagster-webserver")))
    assert json.loads(release.node.inspected(release.code, "{{json .State}}"))["OOMKilled"] is False

    run_id = launch(release, "tenant_0500", 2, 2)
    job = wait_for_job(release, run_id)
    assert release.browser.wait(run_id) == "SUCCESS", release.node.log(job)

    # A file that is deleted here is deleted there.
    (tenants / "tenant_0500.yaml").unlink()
    release.apply_tenants()
    found = release.node.execute(release.code, "ls", "/etc/sync_pipeline/tenants").stdout.split()
    assert "tenant_0500.yaml" not in found
    assert "tenant_0501.yaml" in found


def memory(release: Cluster, pod: str) -> int:
    """Megabytes that a pod uses now."""
    paths = "/sys/fs/cgroup/memory.current /sys/fs/cgroup/memory/memory.usage_in_bytes"
    said = release.node.execute(pod, "sh", "-c", f"cat {paths} 2>/dev/null").stdout.split()
    return int(said[0]) // 1024**2 if said else 0
