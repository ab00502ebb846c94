"""The files under deploy/ agree with each other, with the project, and with what only one of them may know."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from dagster_postgres.utils import get_conn_string

from sync_pipeline.secret_files import SECRET_VARIABLES
from sync_pipeline.supervisor import Limits
from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.compose import DEPLOY

PROJECT = DEPLOY.parent
SERVICES: dict[str, Any] = compose.document()["services"]
OURS = [name for name, declared in SERVICES.items() if "sync-pipeline" in declared["image"]]
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
[LOCATION] = VALUES["dagster-user-deployments"]["deployments"]
# What an installation makes itself, and README.md says how.
MADE_BY_HAND = ("./secrets/", "./tenants", "./backups")
# The labels of the chart's pods, for a check without the chart; test_chart.py reads them from rendered manifests. They
# are, in the repository dagster-io/dagster, those of helm/dagster/templates/
# helpers/_deployment-webserver.tpl, deployment-daemon.yaml and charts/dagster-user-deployments/templates/
# deployment-user.yaml (`dagster.selectorLabels` is the chart's name and the release's), and for run pods what
# `construct_dagster_k8s_job` of dagster-k8s 0.29.27 sets.
POD_LABELS = {
    "webserver": {
        "app.kubernetes.io/name": "dagster",
        "app.kubernetes.io/instance": "any-release",
        "component": "dagster-webserver",
    },
    "daemon": {
        "app.kubernetes.io/name": "dagster",
        "app.kubernetes.io/instance": "any-release",
        "component": "dagster-daemon",
        "deployment": "daemon",
    },
    "code server": {
        "app.kubernetes.io/name": "dagster-user-deployments",
        "app.kubernetes.io/instance": "any-release",
        "component": "user-deployments",
        "deployment": "sync-pipeline",
    },
    "second code server": {
        "app.kubernetes.io/name": "dagster-user-deployments",
        "app.kubernetes.io/instance": "any-release",
        "component": "user-deployments",
        "deployment": "south",
    },
    "run": {
        "app.kubernetes.io/name": "dagster",
        "app.kubernetes.io/instance": "dagster",
        "app.kubernetes.io/part-of": "dagster",
        "app.kubernetes.io/component": "run_worker",
    },
    "migration": {},
}
# What run pods get; the chart sets the context itself.
ON_KUBERNETES = {"SYNC_PIPELINE_RUN_PODS", "DAGSTER_CONTAINER_CONTEXT"}
# Read by the project, and left at what they are without: the real APIs, and what only `dev` looks at.
DELIBERATELY_UNSET = {
    "META_GRAPH_URL",
    "PANCAKE_API_URL",
    "DAGSTER_CLI_CODE_SERVER_START_LOG_FORMAT",
    "DAGSTER_EVENT_BATCH_SIZE",
    *ON_KUBERNETES,
}


def read_by_the_project() -> set[str]:
    """The variables that the package reads, the sandbox's and Dagster's own made-up ones aside."""
    sources = [file for file in (PROJECT / "sync_pipeline").rglob("*.py") if "sandbox" not in file.parts]
    # What the supervisor of `dev` sets itself, and the prefix of the variables for the options of `dagster-webserver`.
    own = {"DAGSTER_IS_DEV_CLI", "DAGSTER_WEBSERVER"}
    name = re.compile(r'["\']((?:SYNC_PIPELINE|DAGSTER|META|PANCAKE)_[A-Z_]+|[A-Z_]+_API_URL)["\']')
    return {found for file in sources for found in name.findall(file.read_text())} - own


def variables(service: str) -> set[str]:
    return {name.removesuffix("_FILE") for name in compose.service(service).environment}


def test_every_file_that_compose_names_is_there_or_made_by_hand() -> None:
    mounts = [
        compose.interpolated(mount).split(":")[0]
        for declared in SERVICES.values()
        for mount in declared.get("volumes", [])
    ]
    secrets = [secret["file"] for secret in compose.document()["secrets"].values()]
    builds = [
        Path(declared["build"]["context"], declared["build"]["dockerfile"])
        for declared in SERVICES.values()
        if "build" in declared
    ]
    named = [path for path in [*mounts, *secrets] if path.startswith(".")]
    assert named
    assert all((DEPLOY / path).exists() for path in named if not path.startswith(MADE_BY_HAND))
    assert all((DEPLOY / path).is_file() for path in builds)


@pytest.mark.parametrize(
    "path",
    [
        "deploy/secrets",  # a link to a folder elsewhere
        "deploy/secrets/database_password",
        "deploy/secrets/tenants/acme_meta",
        "deploy/secrets/tenants-south/acme_meta",
        "deploy/tenants/acme.yaml",
        "deploy/tenants-south/acme.yaml",
        "deploy/compose.override.yaml",
        "compose.override.yaml",
        "deploy/.env",
        ".env",
        "deploy/warehouse-2026-10-20.dump",
        "deploy/backups/2026-10-20T02-00-00Z/warehouse.figures",
    ],
)
def test_git_ignores_files_of_an_installation(path: str) -> None:
    assert ignored_by_git(path)


@pytest.mark.parametrize(
    "path", ["deploy/compose.yaml", "deploy/.env.example", "deploy/helm/values.yaml", "tenants/lumina.yaml"]
)
def test_git_does_not_ignore_files_of_the_project(path: str) -> None:
    assert not ignored_by_git(path)


def ignored_by_git(path: str) -> bool:
    # Without the index, which hides that a tracked file matches, and without the developer's own ignore file.
    command = ["git", "-c", "core.excludesFile=", "check-ignore", "--no-index", "--quiet", path]
    code = subprocess.run(command, cwd=PROJECT, check=False).returncode
    assert code in (0, 1)
    return code == 0


def test_every_foreign_image_is_pinned_to_an_exact_version() -> None:
    services = [compose.interpolated(declared["image"]) for name, declared in SERVICES.items() if name not in OURS]
    images = [compose.base_image(), *services]
    assert {image.partition(":")[0] for image in images} == {"python", "postgres", "caddy"}
    # With the Debian release: a newer one has other collations, under which Postgres' indexes are corrupt.
    exact = {"python": r"3\.11\.\d+-slim-[a-z]+", "postgres": r"18\.\d+-[a-z]+", "caddy": r"2\.\d+\.\d+-alpine"}
    for image in images:
        name, _, tag = image.partition(":")
        assert re.fullmatch(exact[name], tag), image


def test_every_stage_begins_with_the_base_or_a_stage() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    named = {name for _, name in stages}
    assert {base for base, _ in stages} - named == {"${PYTHON_IMAGE}"}
    # The base is an argument of the last stage too, so all of it is replaced together.
    assert stages[-1] == ("${PYTHON_IMAGE}", "")


def test_the_image_installs_an_exact_version_of_uv() -> None:
    installed = re.findall(r"pip install (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    [pip] = [line for line in installed if "--python" not in line]
    assert re.fullmatch(r"--no-cache-dir --root-user-action=ignore uv==\d+\.\d+\.\d+", pip)


def test_the_label_of_the_version_is_that_of_the_project() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert re.findall(r"^ARG VERSION=(.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE) == [version]


def test_arguments_for_the_index_are_not_in_the_last_stage() -> None:
    *building, last = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")
    for argument in ("INDEX_URL", "CA_CERTIFICATES"):
        assert all(f"ARG {argument}=" in stage for stage in building[1:])
        assert argument not in last
    assert "--mount" not in last


def test_every_variable_that_the_project_reads_is_set_or_deliberately_not() -> None:
    known = set().union(*(variables(name) for name in OURS))
    read = read_by_the_project()
    assert {"SYNC_PIPELINE_DATABASE_URL", "DAGSTER_POSTGRES_URL", "META_GRAPH_URL"} <= read
    assert read - known == DELIBERATELY_UNSET


@pytest.mark.parametrize("service", list(SERVICES))
def test_a_service_has_exactly_the_secrets_that_its_variables_point_to(service: str) -> None:
    pointed_to = [v for k, v in compose.service(service).environment.items() if k.endswith("_FILE")]
    assert sorted(pointed_to) == sorted(f"/run/secrets/{name}" for name in SERVICES[service].get("secrets", []))
    assert all("password" not in value or value.startswith("/run/") for value in pointed_to)


@pytest.mark.parametrize("service", ["daemon", "webserver"])
def test_webserver_and_daemon_have_neither_tenants_nor_the_warehouse(service: str) -> None:
    assert "SYNC_PIPELINE_DATABASE_URL" not in variables(service)
    assert not any("tenants" in mount for mount in SERVICES[service]["volumes"])
    assert "outside" not in SERVICES[service]["networks"]


def test_only_the_tls_proxy_is_published_beyond_this_machine() -> None:
    published = {
        name: [compose.interpolated(port) for port in declared["ports"]]
        for name, declared in SERVICES.items()
        if "ports" in declared
    }
    assert published == {"webserver": ["127.0.0.1:3000:3000"], "caddy": ["80:80", "443:443", "443:443/udp"]}
    assert SERVICES["caddy"]["profiles"] == ["tls"]
    assert compose.document()["networks"]["inside"] == {"internal": True}


def test_only_clients_of_code_servers_mount_their_sockets() -> None:
    # Neither the code server nor its workspace entry names a port.
    [entry] = yaml.safe_load((DEPLOY / "workspace" / "workspace.yaml").read_text())["load_from"]
    socket = compose.service("code").environment["DAGSTER_CODE_SERVER_SOCKET"]
    assert entry["grpc_server"] == {"socket": socket, "location_name": "sync_pipeline"}
    assert not {"-h", "-p", "--host", "--port"} & set(compose.service("code").command)
    volume = f"code-servers:{Path(socket).parent}"
    mounting = {name for name, declared in SERVICES.items() if volume in declared.get("volumes", [])}
    assert mounting == {"code", "cli", "daemon", "webserver"}
    # The user of the image, and nobody else on the machine, may open the folder.
    options = compose.document()["volumes"]["code-servers"]["driver_opts"]["o"].split(",")
    assert {"uid=10001", "gid=10001", "mode=0700"} <= set(options)


def test_everything_waits_for_the_migration_and_is_watched() -> None:
    for name in OURS:
        if name == "migrate":
            assert SERVICES[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        elif name != "cli":
            assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
            assert "healthcheck" in SERVICES[name]


def test_a_command_container_starts_no_other_service() -> None:
    assert "depends_on" not in SERVICES["cli"]


@pytest.mark.parametrize("service", list(SERVICES))
def test_every_service_has_limits_and_a_read_only_root(service: str) -> None:
    declared = SERVICES[service]
    assert all(declared.get(name) for name in ("mem_limit", "cpus", "pids_limit"))
    assert declared["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}
    assert declared["read_only"] is True
    assert any(mount.startswith("/tmp:") for mount in declared["tmpfs"])  # noqa: S108
    assert declared["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "postgres"])
def test_services_drop_all_capabilities(service: str) -> None:
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service].get("cap_add", []) == {"caddy": ["NET_BIND_SERVICE"], "backup": ["DAC_OVERRIDE"]}.get(
        service, []
    )


def test_configuration_is_mounted_as_folders() -> None:
    mounts = [mount.split(":")[0] for declared in SERVICES.values() for mount in declared.get("volumes", [])]
    files = {mount for mount in mounts if mount.startswith("./") and Path(mount).suffix}
    # The server reads this one only when it is new.
    assert files == {"./postgres/make-databases.sh"}


def test_env_example_lists_every_variable_of_compose() -> None:
    document = (DEPLOY / "compose.yaml").read_text()
    listed = dict(re.findall(r"^#(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    # Compose itself reads COMPOSE_PROFILES.
    assert set(re.findall(r"\$\{(\w+)", document)) | {"COMPOSE_PROFILES"} == set(listed)
    for name, default in listed.items():
        for found in re.findall(rf"\$\{{{name}:-((?:[^${{}}]|\$\{{[^}}]*\}})*)\}}", document):
            assert compose.interpolated(found) == default


def test_our_images_have_one_name_and_version() -> None:
    assert {SERVICES[name]["image"] for name in OURS} == {
        "${SYNC_PIPELINE_IMAGE:-sync-pipeline}:${SYNC_PIPELINE_VERSION:-latest}"
    }


def test_the_image_is_made_of_what_is_let_in_and_runs_without_privileges() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = [
        source for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for source in line.split()[:-1]
    ]
    let_in = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert {"/".join(Path(source).parts[:2]) for source in sources} == set(let_in)
    assert all((PROJECT / source).exists() for source in sources)
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    extras = re.findall(r"--extra (\w+)|EXTRAS=\"([^\"]*)\"", text)
    assert not {"embedded", "dev"} & {word for pair in extras for part in pair for word in part.split()}


def test_helm_gives_the_code_location_the_variables_that_compose_gives_it() -> None:
    image = set(compose.image_variables())
    in_pod = {entry["name"] for entry in LOCATION["env"]}
    # The socket and the webserver's address are compose's. On Kubernetes *Reload definitions* in the UI is `reload`.
    own = {"DAGSTER_CODE_SERVER_SOCKET", "SYNC_PIPELINE_WEBSERVER_URL", "DAGSTER_AUTH_SERVICE_TOKEN"}
    assert in_pod == variables("code") - image - own | {"SYNC_PIPELINE_RUN_PODS"}
    webserver = {entry["name"] for entry in VALUES["dagsterWebserver"]["env"]} - {"PATH"}
    assert webserver == variables("webserver") - image - {
        "DAGSTER_AUTH_SECRET_KEY",  # of the secret under envSecrets
        "DAGSTER_AUTH_SERVICE_TOKEN",
        "SYNC_PIPELINE_OIDC_CLIENT_SECRET",
    }
    # Its database and password come from the chart.
    assert VALUES["dagsterDaemon"]["env"] == [{"name": "SYNC_PIPELINE_LOG", "value": "json"}]
    assert not [entry for entry in LOCATION["env"] if "PASSWORD" in entry["name"] and "value" in entry]


def test_commands_know_the_workspace_and_their_code_location() -> None:
    [entry] = yaml.safe_load((DEPLOY / "workspace" / "workspace.yaml").read_text())["load_from"]
    for name in ("code", "cli"):
        environment = compose.service(name).environment
        assert environment["SYNC_PIPELINE_LOCATION"] == entry["grpc_server"]["location_name"]
        assert f"./workspace:{Path(environment['SYNC_PIPELINE_WORKSPACE']).parent}:ro" in SERVICES[name]["volumes"]
    in_pod = {variable["name"]: variable.get("value") for variable in LOCATION["env"]}
    # The chart names a location like its deployment; all pods read this config map.
    assert in_pod["SYNC_PIPELINE_LOCATION"] == LOCATION["name"]
    [volume] = [volume for volume in LOCATION["volumes"] if volume["name"] == "workspace"]
    [workspace] = [manifest for manifest in VALUES["extraManifests"] if manifest["kind"] == "ConfigMap"]
    assert volume["configMap"] == workspace["metadata"]
    assert VALUES["dagsterWebserver"]["workspace"]["externalConfigmap"] == workspace["metadata"]["name"]
    [mount] = [mount for mount in LOCATION["volumeMounts"] if mount["name"] == "workspace"]
    assert in_pod["SYNC_PIPELINE_WORKSPACE"] == f"{mount['mountPath']}/workspace.yaml"


def test_helm_has_dagster_connect_with_the_installed_driver() -> None:
    # The chart writes the parts of the URL into dagster.yaml, from which Dagster makes it.
    scheme = VALUES["postgresql"]["postgresqlScheme"]
    url = get_conn_string("user", "p@ss", "host", "dagster", params={}, scheme=scheme)
    assert sa.create_engine(url).driver == "psycopg2"


def test_helm_starts_what_compose_starts() -> None:
    image = LOCATION["image"]
    assert VALUES["dagsterWebserver"]["image"] == VALUES["dagsterDaemon"]["image"] == image
    [job] = manifests("Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    # The chart expands it to the image of the daemon.
    assert container["image"] == '{{ include "dagster.dagsterImage.name" (list $ .Values.dagsterDaemon.image) }}'
    assert container["command"] == SERVICES["migrate"]["command"]
    command = SERVICES["code"]["command"]
    assert LOCATION["codeServerArgs"] == command[command.index("-m") :]
    assert VALUES["global"]["dagsterHome"] == compose.image_variables()["DAGSTER_HOME"]


def test_helm_migrates_before_the_first_installation_only() -> None:
    hooks = [manifest["metadata"].get("annotations", {}).get("helm.sh/hook") for manifest in VALUES["extraManifests"]]
    assert [hook for hook in hooks if hook] == ["pre-install"]
    [job] = manifests("Job")
    [template] = manifests("CronJob")
    assert template["metadata"]["name"] == job["metadata"]["name"]
    assert template["spec"]["suspend"] is True
    assert template["spec"]["jobTemplate"]["spec"] == job["spec"]


def test_upgrading_names_what_helm_installs() -> None:
    text = (DEPLOY / "upgrading.md").read_text()
    [template] = manifests("CronJob")
    [container] = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert f"--from cronjob/{template['metadata']['name']} " in text
    assert f" {container['name']}=$image " in text
    assert f"code=deploy/sync-pipeline-dagster-user-deployments-{LOCATION['name']}\n" in text
    pod = yaml.safe_load((DEPLOY / "helm" / "backup.yaml").read_text())
    assert pod["spec"]["containers"][0]["image"] == compose.interpolated(SERVICES["postgres"]["image"])
    assert f"kubectl exec {pod['metadata']['name']} -- pg_dump" in text


def test_network_policies_select_the_pods_of_the_chart() -> None:
    selected = {name: pods_matching(policy["podSelector"]) for name, policy in policies().items()}
    assert selected == {
        "sync-pipeline-code-servers": {"code server", "second code server"},
        "sync-pipeline-webserver": {"webserver"},
        "sync-pipeline-daemon": {"daemon"},
        "sync-pipeline-runs": {"run"},
    }


def test_network_policies_restrict_what_may_connect() -> None:
    assert all(policy["policyTypes"] == ["Ingress"] for policy in policies().values())

    [to_code] = policies()["sync-pipeline-code-servers"]["ingress"]
    assert all(set(peer) == {"podSelector"} for peer in to_code["from"])
    assert [pods_matching(peer["podSelector"]) for peer in to_code["from"]] == [{"webserver"}, {"daemon"}]
    assert to_code["ports"] == [{"protocol": "TCP", "port": LOCATION["port"]}]

    [to_webserver] = policies()["sync-pipeline-webserver"]["ingress"]
    [peer] = to_webserver["from"]
    assert set(peer) == {"namespaceSelector"}
    # The label that Kubernetes itself sets on every namespace.
    assert list(peer["namespaceSelector"]["matchLabels"]) == ["kubernetes.io/metadata.name"]
    assert to_webserver["ports"] == [{"protocol": "TCP", "port": VALUES["dagsterWebserver"]["service"]["port"]}]

    assert policies()["sync-pipeline-daemon"]["ingress"] == policies()["sync-pipeline-runs"]["ingress"] == []


def manifests(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in VALUES["extraManifests"] if manifest["kind"] == kind]


def policies() -> dict[str, Any]:
    """The specifications of the network policies, by name."""
    found = manifests("NetworkPolicy")
    assert all(manifest["apiVersion"] == "networking.k8s.io/v1" for manifest in found)
    return {manifest["metadata"]["name"]: manifest["spec"] for manifest in found}


def pods_matching(selector: dict[str, Any]) -> set[str]:
    """The pods of an installation that a selector chooses; one without labels would choose all."""
    assert set(selector) == {"matchLabels"}
    assert selector["matchLabels"]
    return {pod for pod, labels in POD_LABELS.items() if selector["matchLabels"].items() <= labels.items()}


def test_helm_says_of_the_instance_what_dagster_yaml_says() -> None:
    ours = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    daemon = VALUES["dagsterDaemon"]
    assert snake(daemon["runMonitoring"]) == {**ours["run_monitoring"], "max_resume_run_attempts": 0}
    assert {name: snake(daemon[name]) for name in ("schedules", "sensors")} == {
        name: ours[name] for name in ("schedules", "sensors")
    }
    assert daemon["runRetries"] == ours["run_retries"]
    assert daemon["runCoordinator"]["config"]["customRunCoordinator"] == ours["run_coordinator"]
    assert VALUES["additionalInstanceConfig"] == {name: ours[name] for name in ("concurrency", "nux")}
    assert snake(VALUES["retention"]) == {"enabled": True, **ours["retention"]}
    assert VALUES["telemetry"] == ours["telemetry"]
    assert VALUES["computeLogManager"] == {"type": ours["compute_logs"]["class"]}
    # What is left is the storage, which the chart sets up, and nothing that could be forgotten.
    told = {
        "schedules",
        "sensors",
        "run_monitoring",
        "run_retries",
        "run_coordinator",
        "concurrency",
        "nux",
        "retention",
        "telemetry",
        "compute_logs",
    }
    assert set(ours) - told == {"storage"}


def test_secrets_of_files_get_into_the_environment_whatever_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("pa ss'w\"rd$HOME `x` %40\n")
    done = start("printenv", "PGPASSWORD", PGPASSWORD_FILE=str(file))
    assert done.stdout == "pa ss'w\"rd$HOME `x` %40\n"
    assert start("printenv", "PGPASSWORD_FILE", PGPASSWORD_FILE=str(file)).stdout == ""
    missing = start("true", PGPASSWORD_FILE=str(tmp_path / "none"))
    assert missing.returncode != 0
    assert "none" in missing.stderr


def test_the_entrypoint_puts_the_supervisor_before_a_code_server(tmp_path: Path) -> None:
    # Both compose and the chart start `dagster code-server start`; the supervisor is then its parent.
    assert compose.service("code").command[:2] == ("dagster", "code-server")
    executable(tmp_path / "dagster", "tr '\\0' ' ' </proc/$PPID/cmdline")
    executable(tmp_path / "sync-pipeline", "exit 0")
    path = f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"
    supervised = start("dagster", "code-server", "start", PATH=path)
    assert supervised.stdout == "python -m sync_pipeline.supervisor -- dagster code-server start "
    assert "sync_pipeline.supervisor" not in start("dagster", "api", "grpc-health-check", PATH=path).stdout


def test_a_code_server_does_not_start_on_unusable_tables(tmp_path: Path) -> None:
    executable(tmp_path / "dagster", "echo started")
    executable(tmp_path / "sync-pipeline", 'echo "error: $* failed" >&2; exit 1')
    path = f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"
    refused = start("dagster", "code-server", "start", PATH=path)
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "error: migrate --check failed\n")
    assert start("dagster", "api", "grpc-health-check", PATH=path).stdout == "started\n"


def executable(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def test_the_entrypoint_keeps_the_webservers_token_from_runs(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("marker-token")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    given = {"PATH": path, "DAGSTER_AUTH_SERVICE_TOKEN_FILE": str(token)}
    assert "marker-token" not in start("dagster", "code-server", "start", **given).stdout
    assert "DAGSTER_AUTH_SERVICE_TOKEN=marker-token" in start("env", **given).stdout


def test_commands_read_the_same_secrets_as_the_entrypoint() -> None:
    [names] = re.findall(r"^for name in ([^;]+);", (DEPLOY / "entrypoint").read_text(), re.MULTILINE)
    assert names.replace("\\\n", " ").split() == list(SECRET_VARIABLES)


def test_the_supervisor_gives_up_before_the_engine_does() -> None:
    minutes = re.fullmatch(r"(\d+)m", SERVICES["code"]["stop_grace_period"])
    assert minutes
    limits = Limits()
    assert limits.wait_s + limits.kill_after_s < int(minutes[1]) * 60


def start(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    search = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(
        [DEPLOY / "entrypoint", *command], env={**search, **environment}, capture_output=True, text=True, check=False
    )


def snake(value: Any) -> Any:
    """The chart's words in dagster.yaml's spelling."""
    if isinstance(value, dict):
        return {re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): snake(inner) for key, inner in value.items()}
    return value
