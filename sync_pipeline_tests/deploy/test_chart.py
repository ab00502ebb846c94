"""What Dagster's Helm chart makes of deploy/helm: valid manifests, which agree with each other and with the project."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._serdes import ConfigurableClassData
from dagster_k8s import K8sRunLauncher

from sync_pipeline.run_pods import changed_context
from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.chart import (
    HELM_FILES,
    VALUES,
    Manifest,
    Rendered,
    Tools,
    containers,
    environment,
    tools_or_skip,
    validate,
    with_changes,
    written,
)
from sync_pipeline_tests.deploy.kubernetes_api import KubernetesApi, Recorder

IMAGE = "registry.example/sync-pipeline:1"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return tools_or_skip(tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="module")
def rendered(tools: Tools) -> Rendered:
    return tools.render(VALUES)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance for launching runs, with a storage that nothing is read from."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("instance"))) as found:
        yield found


@pytest.fixture(scope="module")
def run_pod(rendered: Rendered, instance: dg.DagsterInstance, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return launched(rendered, instance, tmp_path_factory.mktemp("run"))["spec"]["template"]


def launched(rendered: Rendered, instance: dg.DagsterInstance, folder: Path) -> Manifest:
    """The Job that Dagster's run launcher asks Kubernetes for, with the rendered configuration."""
    with KubernetesApi(Recorder()) as api:
        account = folder / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": api.url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        account.write_text(
            yaml.safe_dump({"clusters": [cluster], "contexts": [context], "current-context": "c", "users": []})
        )
        declared = yaml.safe_load(rendered.instance)["run_launcher"]
        outside = {"load_incluster_config": False, "kubeconfig_file": str(account)}
        config = yaml.safe_dump({**declared["config"], **outside})
        launcher = ConfigurableClassData(declared["module"], declared["class"], config).rehydrate(K8sRunLauncher)
        launcher.register_instance(instance)
        origin = JobPythonOrigin("an_empty_job", an_origin(context_of_runs(rendered)))
        run = instance.create_run_for_job(an_empty_job, job_code_origin=origin)
        launcher.launch_run(LaunchRunContext(run, workspace=None))
        [job] = api.of_kind("Job").values()
    return job


@dg.job
def an_empty_job() -> None:
    pass


def an_origin(context: Any) -> RepositoryPythonOrigin:
    pointer = ModuleCodePointer("sync_pipeline.definitions", "defs", None)
    return RepositoryPythonOrigin("/usr/bin/python", pointer, container_image=IMAGE, container_context=context)


def context_of_runs(rendered: Rendered) -> Any:
    """The container context of the first code location, as the image's entrypoint changes it."""
    [name] = [name for name in rendered.of_kind("Deployment") if name.endswith("user-deployments-sync-pipeline")]
    template = rendered.of_kind("Deployment")[name]["spec"]["template"]
    variables = environment(containers(template)[-1])
    environ = {key: variables[key]["value"] for key in ("DAGSTER_CONTAINER_CONTEXT", "SYNC_PIPELINE_RUN_PODS")}
    return json.loads(changed_context(environ))


def all_pods(rendered: Rendered, run_pod: Manifest) -> dict[str, Manifest]:
    return {**dict(rendered.pods()), "run": run_pod}


# What is rendered


def test_kubernetes_accepts_every_manifest(rendered: Rendered, run_pod: Manifest) -> None:
    kinds = {manifest["kind"] for manifest in rendered.manifests}
    assert {"Deployment", "Service", "ConfigMap", "NetworkPolicy", "Job", "Role", "ServiceAccount"} <= kinds
    for manifest in rendered.manifests:
        validate(manifest)
    validate({"apiVersion": "v1", "kind": "Pod", **run_pod})


@pytest.mark.parametrize("release", ["sync-pipeline", "acme", "dagster"])
def test_manifests_do_not_depend_on_the_name_of_the_release(tools: Tools, release: str) -> None:
    rendered = tools.render(VALUES, release=release)
    known = {
        kind: set(rendered.of_kind(kind)) for kind in ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim")
    }
    made_by_hand = {
        "ConfigMap": {"sync-pipeline-tenants"},
        "Secret": {"sync-pipeline-postgres", "sync-pipeline-login", "sync-pipeline-tenants"},
    }
    for name, template in rendered.pods():
        for kind, used in references(template):
            assert used in known[kind] | made_by_hand.get(kind, set()), f"{name} uses the {kind} {used}"


def references(template: Manifest) -> Iterator[tuple[str, str]]:
    """Kinds and names of what a pod needs in order to start."""
    spec = template["spec"]
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes") or []:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
    for container in containers(template):
        for source in container.get("envFrom") or []:
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"]["name"]
            elif not source["secretRef"].get("optional"):
                yield "Secret", source["secretRef"]["name"]
        for variable in environment(container).values():
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]


def test_every_code_location_knows_its_name_in_the_workspace(tools: Tools, tmp_path: Path) -> None:
    document = yaml.safe_load(VALUES.read_text())
    [location] = document["dagster-user-deployments"]["deployments"]
    south = json.loads(json.dumps(location).replace('"sync-pipeline"', '"south"'))
    document["dagster-user-deployments"]["deployments"].append(south)
    rendered = tools.render(written(document, tmp_path))
    # Code servers and the others read the same file.
    assert [server["location_name"] for server in rendered.workspace] == ["sync-pipeline", "south"]
    for server in rendered.workspace:
        service = rendered.of_kind("Service")[server["host"]]
        assert service["spec"]["ports"][0]["port"] == server["port"]
        [template] = [
            pod
            for _, pod in rendered.pods()
            if service["spec"]["selector"].items() <= (pod.get("metadata", {}).get("labels") or {}).items()
        ]
        variables = environment(containers(template)[-1])
        assert variables["SYNC_PIPELINE_LOCATION"]["value"] == server["location_name"]
        assert mounted(template, variables["SYNC_PIPELINE_WORKSPACE"]["value"]) == (
            "configMap",
            {"name": "sync-pipeline-workspace"},
        )


def mounted(template: Manifest, path: str) -> tuple[str, Any]:
    """The kind and source of the volume that a file of the last container is on."""
    [name] = [
        mount["name"]
        for mount in containers(template)[-1]["volumeMounts"]
        if path.startswith(mount["mountPath"].rstrip("/") + "/")
    ]
    [volume] = [volume for volume in template["spec"]["volumes"] if volume["name"] == name]
    [kind] = set(volume) - {"name"}
    return kind, volume[kind]


def test_a_new_tag_is_set_in_one_place(tools: Tools, tmp_path: Path) -> None:
    text = VALUES.read_text()
    assert text.count('tag: "1"') == 1
    assert text.count("registry.example/sync-pipeline") == 1
    file = tmp_path / "values.yaml"
    file.write_text(text.replace('tag: "1"', 'tag: "2"'))
    images = {
        container["image"]
        for _, template in tools.render(file).pods()
        for container in containers(template)
        if "busybox" not in container["image"]
    }
    assert images == {"registry.example/sync-pipeline:2"}


def test_secrets_of_a_registry_reach_every_pod(tools: Tools, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    text = VALUES.read_text()
    assert text.count("&pull_secrets []") == 1
    file.write_text(text.replace("&pull_secrets []", "&pull_secrets [{name: registry}]"))
    rendered = tools.render(file)
    pods = all_pods(rendered, launched(rendered, instance, tmp_path)["spec"]["template"])
    assert len(pods) >= 5
    for name, template in pods.items():
        assert {"name": "registry"} in template["spec"]["imagePullSecrets"], name


# What runs how


def test_every_container_runs_without_privileges(rendered: Rendered, run_pod: Manifest) -> None:
    for name, template in all_pods(rendered, run_pod).items():
        assert template["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_every_container_can_write_to_tmp(rendered: Rendered, run_pod: Manifest) -> None:
    for name, template in all_pods(rendered, run_pod).items():
        assert mounted(template, "/tmp/x")[0] == "emptyDir", name  # noqa: S108
    for template in (rendered.deployment("user-deployments")["spec"]["template"], run_pod):
        home = compose.image_variables()["SYNC_PIPELINE_HOME"]
        assert mounted(template, f"{home}/x")[0] == "emptyDir"


def test_every_container_has_requests_and_a_limit_of_memory(rendered: Rendered, run_pod: Manifest) -> None:
    for name, template in all_pods(rendered, run_pod).items():
        for container in containers(template):
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, name
            assert set(resources["limits"]) == {"memory"}, name


def test_run_pods_have_their_own_resources_and_no_api_token(rendered: Rendered, run_pod: Manifest) -> None:
    code = containers(rendered.deployment("user-deployments")["spec"]["template"])[-1]
    own = containers(run_pod)[-1]["resources"]
    assert own == {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
    assert own != code["resources"]
    assert run_pod["spec"]["automountServiceAccountToken"] is False


def test_run_pods_see_the_files_and_variables_of_the_code_server(rendered: Rendered, run_pod: Manifest) -> None:
    code = rendered.deployment("user-deployments")["spec"]["template"]
    of_code, of_run = ({mount["mountPath"] for mount in containers(pod)[-1]["volumeMounts"]} for pod in (code, run_pod))
    assert of_code <= of_run
    declared, given = (environment(containers(pod)[-1]) for pod in (code, run_pod))
    own = {"DAGSTER_CURRENT_IMAGE", "DAGSTER_CONTAINER_CONTEXT"}
    for name, variable in declared.items():
        if name not in own:
            assert {**variable, **given[name]} == variable, name


def test_run_pods_survive_an_autoscaler_and_have_time_to_end(run_pod: Manifest) -> None:
    assert run_pod["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert run_pod["spec"]["terminationGracePeriodSeconds"] == 60
    assert run_pod["spec"]["restartPolicy"] == "Never"


def test_only_webserver_and_daemon_may_use_the_kubernetes_api(rendered: Rendered, run_pod: Manifest) -> None:
    allowed = {
        subject["name"] for binding in rendered.of_kind("RoleBinding").values() for subject in binding["subjects"]
    }
    accounts = {name: pod["spec"].get("serviceAccountName") for name, pod in all_pods(rendered, run_pod).items()}
    assert {name for name, account in accounts.items() if account in allowed} == {
        "acme-dagster-webserver",
        "acme-dagster-daemon",
    }


def test_services_have_the_probes_that_they_need(rendered: Rendered) -> None:
    expected = {
        "dagster-webserver": {"startupProbe", "readinessProbe", "livenessProbe"},
        "dagster-daemon": {"livenessProbe"},
        "user-deployments": {"startupProbe", "readinessProbe"},
    }
    for component, probes in expected.items():
        container = containers(rendered.deployment(component)["spec"]["template"])[-1]
        assert {probe for probe in PROBES if probe in container} == probes, component


def test_a_failure_of_postgres_does_not_restart_the_webserver(rendered: Rendered) -> None:
    container = containers(rendered.deployment("dagster-webserver")["spec"]["template"])[-1]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in PROBES}
    live = "/auth/health?type=live"
    assert paths == {"startupProbe": live, "readinessProbe": "/auth/health", "livenessProbe": live}


# dagster.yaml


def test_dagster_connects_with_the_rendered_instance(
    rendered: Rendered, dagster_database: sa.URL, tmp_path: Path
) -> None:
    # Of the chart's storage, only the server is another one here.
    document = yaml.safe_load(rendered.instance)
    parts = {"username": dagster_database.username, "hostname": "localhost", "db_name": dagster_database.database}
    socket = {"host": dagster_database.query["host"]}
    for storage in ("run_storage", "event_log_storage", "schedule_storage"):
        declared = document[storage]["config"]["postgres_db"]
        assert declared["password"] == {"env": "DAGSTER_PG_PASSWORD"}
        assert declared["scheme"] == "postgresql+psycopg2"
        declared.update(parts, password="", params=socket)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(document))
    with dg.DagsterInstance.from_config(str(tmp_path)) as loaded:
        assert loaded.get_runs() == []
        assert type(loaded.run_coordinator).__name__ == "QueuedRunCoordinator"
        assert type(loaded.compute_log_manager).__name__ == "NoOpComputeLogManager"


def test_step_logs_are_left_out_explicitly(rendered: Rendered) -> None:
    assert yaml.safe_load(rendered.instance)["compute_logs"]["class"] == "NoOpComputeLogManager"


def test_the_rendered_instance_says_what_dagster_yaml_says(rendered: Rendered) -> None:
    ours = yaml.safe_load((compose.DEPLOY.parent / "dagster.yaml").read_text())
    chart = yaml.safe_load(rendered.instance)
    for key in ("run_coordinator", "concurrency", "nux", "schedules", "sensors", "telemetry"):
        assert chart[key] == ours[key], key
    assert chart["run_monitoring"] == {**ours["run_monitoring"], "max_resume_run_attempts": 0}
    assert chart["retention"]["schedule"] == ours["retention"]["schedule"]
    assert ours["retention"]["sensor"]["purge_after_days"].items() <= (
        chart["retention"]["sensor"]["purge_after_days"].items()
    )
    assert not chart.get("run_retries", {}).get("enabled")


# Network policies


def test_policies_let_only_the_right_pods_connect(rendered: Rendered, run_pod: Manifest) -> None:
    pods = {name: pod.get("metadata", {}).get("labels") or {} for name, pod in all_pods(rendered, run_pod).items()}
    # Every pod of the release that another one may connect to, by port; a pod that no policy selects would be open.
    assert {name: callers(rendered, pods, name) for name in pods if "migrate" not in name} == {
        "acme-dagster-user-deployments-sync-pipeline": {
            (4000, "acme-dagster-webserver"),
            (4000, "acme-dagster-daemon"),
        },
        "acme-dagster-daemon": set(),
        "acme-dagster-webserver": {(3000, "namespace ingress-nginx")},
        "run": set(),
    }


def callers(rendered: Rendered, pods: dict[str, dict[str, str]], name: str) -> set[tuple[int, str]]:
    """Who may connect to a pod, and to which port."""
    policies = [
        policy["spec"]
        for policy in rendered.of_kind("NetworkPolicy").values()
        if policy["spec"]["podSelector"]["matchLabels"].items() <= pods[name].items()
    ]
    assert policies, f"no policy selects {name}"
    found: set[tuple[int, str]] = set()
    for rule in (rule for policy in policies for rule in policy["ingress"]):
        for peer in rule["from"]:
            if "namespaceSelector" in peer:
                who = {f"namespace {peer['namespaceSelector']['matchLabels']['kubernetes.io/metadata.name']}"}
            else:
                labels = peer["podSelector"]["matchLabels"].items()
                who = {other for other, own in pods.items() if labels <= own.items()}
            found |= {(port["port"], one) for port in rule["ports"] for one in who}
    return found


# Variants


def test_an_ingress_has_tls_and_reaches_the_webserver(tools: Tools) -> None:
    rendered = tools.render(VALUES, HELM_FILES / "ingress.yaml")
    [ingress] = rendered.of_kind("Ingress").values()
    validate(ingress)
    assert ingress["spec"]["tls"] == [{"hosts": ["dagster.example"], "secretName": "sync-pipeline-tls"}]
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert (rule["host"], path["path"], path["pathType"]) == ("dagster.example", "/", "Prefix")
    backend = path["backend"]["service"]
    [port] = rendered.of_kind("Service")[backend["name"]]["spec"]["ports"]
    assert backend["port"] == {"number": port["port"]}


@pytest.mark.parametrize("variant", ["shards", "claim", "git", "secrets-store"])
def test_runs_have_the_tenants_of_each_kind_of_volume(
    tools: Tools, instance: dg.DagsterInstance, tmp_path: Path, variant: str
) -> None:
    entry = yaml.safe_load((HELM_FILES / "tenants" / f"{variant}.yaml").read_text())
    rendered = tools.render(with_changes(VALUES, entry, tmp_path))
    for manifest in rendered.manifests:
        validate(manifest)
    run = launched(rendered, instance, tmp_path)
    validate(run)
    code = rendered.deployment("user-deployments")["spec"]["template"]
    for pod in (code, run["spec"]["template"]):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for wanted in entry["volumes"]:
            assert volumes[wanted["name"]] == wanted
        mounts = {mount["name"]: mount for mount in containers(pod)[-1]["volumeMounts"]}
        for wanted in entry.get("volumeMounts", []):
            assert mounts[wanted["name"]] == wanted
        started = {container["name"]: container for container in pod["spec"].get("initContainers") or []}
        for wanted in entry.get("initContainers", []):
            # A sidecar that does not end would keep the Job of a run from ending.
            assert started[wanted["name"]]["restartPolicy"] == "Always"
            assert len(pod["spec"]["containers"]) == 1


def test_the_writer_of_a_volume_is_accepted() -> None:
    documents = list(yaml.safe_load_all((HELM_FILES / "tenants" / "claim-writer.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["PersistentVolumeClaim", "Pod"]
    for document in documents:
        validate(document)
    image = yaml.safe_load(VALUES.read_text())["dagsterDaemon"]["image"]
    assert documents[1]["spec"]["containers"][0]["image"] == f"{image['repository']}:{image['tag']}"


def test_values_with_an_unknown_key_are_refused(tools: Tools, tmp_path: Path) -> None:
    document = yaml.safe_load(VALUES.read_text())
    document["dagsterDaemon"]["livenesProbe"] = {}
    done = tools.run("template", "acme", str(tools.chart), "--values", str(written(document, tmp_path)))
    assert done.returncode != 0
    assert "livenesProbe" in done.stderr
