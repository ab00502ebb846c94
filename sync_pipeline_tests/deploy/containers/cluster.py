"""A release of the Helm chart on the engine: Postgres, the sandbox, the Kubernetes API, and the release's pods."""

import os
import secrets
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from json import loads
from pathlib import Path
from typing import Any

import yaml

from sync_pipeline.sandbox.graph import PREFIX as GRAPH_PREFIX
from sync_pipeline.sandbox.pancake import PREFIX as PANCAKE_PREFIX
from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.browser import Browser, wait_for
from sync_pipeline_tests.deploy.chart import HELM_FILES, NAMESPACE, VALUES, Manifest, Rendered, Tools, with_changes
from sync_pipeline_tests.deploy.containers.certificates import make_certificates
from sync_pipeline_tests.deploy.containers.pods import Node, docker
from sync_pipeline_tests.deploy.installing import write_secrets, write_tenant
from sync_pipeline_tests.deploy.kubernetes_api import KubernetesApi

ADMINISTRATOR = "administrator"
LOCATION = "sync-pipeline"
MIGRATION = "sync-pipeline-migrate"
WEBSERVER_PORT, SANDBOX_PORT = 3000, 8000
EVERYTHING = [{"apiGroups": ["", "batch"], "resources": ["configmaps", "secrets"], "verbs": ["get", "patch", "list"]}]


@dataclass
class Cluster:
    """The release; `folder` has the tenants and secrets as an operator has them."""

    node: Node
    api: KubernetesApi
    folder: Path
    sandbox: dict[str, str]
    kubeconfig: Path

    @property
    def rendered(self) -> Rendered:
        return self.node.rendered

    def name_of(self, component: str) -> str:
        """The name of the pod of a component."""
        return str(self.rendered.deployment(component)["metadata"]["name"])

    def template(self, component: str) -> Manifest:
        template: Manifest = self.rendered.deployment(component)["spec"]["template"]
        return template

    @property
    def code(self) -> str:
        return self.name_of("user-deployments")

    @property
    def browser(self) -> Browser:
        token = (self.folder / "secrets" / "service_token").read_text()
        return Browser(f"http://{self.node.published(self.name_of('dagster-webserver'), WEBSERVER_PORT)}", token)

    def kubectl(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run kubectl as an administrator of the cluster."""
        return subprocess.run(
            ["kubectl", "--kubeconfig", self.kubeconfig, *arguments],  # noqa: S607
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=self.folder,
        )

    def add_tenant(self, tenant: str, demo: str) -> None:
        """Write a tenant's files; they are not applied yet."""
        write_tenant(self.folder / "tenants", self.folder / "secrets" / "tenants", tenant, demo, self.sandbox)

    def apply_tenants(self) -> str:
        """Apply the tenants' files with the script, and let them reach the pods."""
        done = subprocess.run(
            [HELM_FILES / "apply-tenants"],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECTL_ARGUMENTS": "--validate=false"},
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr
        self.node.refresh()
        return done.stdout

    def start(self, component: str) -> None:
        """Start the pod of a component, and wait until its startup and readiness probes succeed."""
        ports = [WEBSERVER_PORT] if component == "dagster-webserver" else []
        name, template = self.name_of(component), self.template(component)
        self.node.start(name, template, ports=ports)
        container = template["spec"]["containers"][-1]
        for kind in ("startupProbe", "readinessProbe"):
            command = container.get(kind, {}).get("exec", {}).get("command")
            if command:
                wait_for(partial(self.succeeds, name, command))

    def succeeds(self, name: str, command: list[str]) -> bool:
        """Whether a command succeeds in a pod that runs."""
        assert self.node.status(name).running, self.node.log(name)[-3000:]
        return self.node.execute(name, *command).returncode == 0

    def ready(self) -> None:
        """Wait until the webserver has loaded every code location."""
        wait_for(self.browser.locations, lambda found: bool(found) and not any(found.values()))

    def rows(self, statement: str, database: str = "warehouse") -> list[list[str]]:
        """Ask Postgres as its superuser."""
        command = 'PGPASSWORD=$(cat /run/secrets/superuser_password) psql -U postgres -d "$1" -At -F "|" -c "$2"'
        printed = docker("exec", f"{self.node.name}-postgres", "sh", "-c", command, "sh", database, statement)
        return [line.split("|") for line in printed.splitlines()]


@contextmanager
def cluster(tools: Tools, image: str, folder: Path, variant: str = "shards") -> Iterator[Cluster]:
    """Install the release with an image, with tenants in a variant of helm/tenants, and remove it at the end."""
    name = f"sp-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        docker("network", "create", name)
        stack.callback(docker, "network", "rm", name, check=False)
        gateway = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", name)
        write_secrets(folder / "secrets")
        for made in ("tenants", "secrets/tenants"):
            (folder / made).mkdir()
        sandbox = _start_others(stack, name, image, folder)

        changes = yaml.safe_load((HELM_FILES / "tenants" / f"{variant}.yaml").read_text())
        rendered = tools.render(_values(image, folder, changes))
        accounts = {account: secrets.token_urlsafe(32) for account in rendered.of_kind("ServiceAccount")}
        make_certificates(gateway, folder)
        certificate = folder / "authority.pem"
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "server.pem", folder / "key.pem")
        node = Node(name, name, gateway, folder / "node", rendered, tokens=accounts, certificate=certificate)
        administrator = secrets.token_urlsafe(32)
        api = stack.enter_context(
            KubernetesApi(
                node,
                address=gateway,
                tls=tls,
                tokens={token: account for account, token in accounts.items()} | {administrator: ADMINISTRATOR},
                rules={ADMINISTRATOR: EVERYTHING, **_granted(rendered)},
            )
        )
        node.api = api
        stack.callback(node.remove)
        found = Cluster(node, api, folder, sandbox, _kubeconfig(folder, api, certificate, administrator))
        for manifest in rendered.of_kind("ConfigMap").values():
            api.put(manifest)
        _make_secrets(found)
        yield found


def _make_secrets(found: Cluster) -> None:
    """What kubernetes.md has an operator apply, with its command."""
    apply = ("apply", "--server-side", "--validate=false", "--filename", "-")
    made = {
        "sync-pipeline-postgres": {"postgresql-password": "database_password"},
        "sync-pipeline-login": {
            "DAGSTER_AUTH_SECRET_KEY": "session_key",
            "DAGSTER_AUTH_SERVICE_TOKEN": "service_token",
        },
    }
    for name, files in made.items():
        options = [option for key, file in files.items() for option in ("--from-file", f"{key}=secrets/{file}")]
        created = found.kubectl("create", "secret", "generic", name, *options, "--dry-run=client", "--output", "yaml")
        found.kubectl(*apply, text=created.stdout)


def _values(image: str, folder: Path, changes: dict[str, Any]) -> Path:
    """The values with this image, the sandbox's APIs, and a queue and a monitor that look more often."""
    repository, _, tag = image.partition(":")
    text = VALUES.read_text().replace("https://dagster.example", f"http://127.0.0.1:{WEBSERVER_PORT}")
    text = text.replace("registry.example/sync-pipeline", repository).replace('tag: "1"', f'tag: "{tag}"')
    document = yaml.safe_load(text)
    [location] = document["dagster-user-deployments"]["deployments"]
    apis = {"META_GRAPH_URL": GRAPH_PREFIX, "PANCAKE_API_URL": PANCAKE_PREFIX}
    location["env"] += [
        {"name": key, "value": f"http://sandbox:{SANDBOX_PORT}{prefix}"} for key, prefix in apis.items()
    ]
    daemon = document["dagsterDaemon"]
    daemon["runMonitoring"]["pollIntervalSeconds"] = 3
    daemon["runCoordinator"]["config"]["customRunCoordinator"]["config"]["dequeue_interval_seconds"] = 1
    file = folder / "base.yaml"
    file.write_text(yaml.safe_dump(document))
    return with_changes(file, changes, folder)


def _granted(rendered: Rendered) -> dict[str, list[Manifest]]:
    """What service accounts may do, by the roles that are bound to them."""
    roles = rendered.of_kind("Role")
    return {
        subject["name"]: roles[binding["roleRef"]["name"]]["rules"]
        for binding in rendered.of_kind("RoleBinding").values()
        for subject in binding["subjects"]
    }


def _kubeconfig(folder: Path, api: KubernetesApi, certificate: Path, token: str) -> Path:
    cluster_entry = {"server": api.url, "certificate-authority": str(certificate)}
    context = {"cluster": "c", "user": "u", "namespace": NAMESPACE}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster_entry}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": context}],
        "current-context": "c",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


def _start_others(stack: ExitStack, name: str, image: str, folder: Path) -> dict[str, str]:
    """Start Postgres and the sandbox, and return the secrets that the sandbox accepts."""
    postgres = compose.document()["services"]["postgres"]
    script = compose.DEPLOY / "postgres" / "make-databases.sh"
    docker(
        *("run", "--detach", "--name", f"{name}-postgres", "--network", name),
        *("--network-alias", "postgres.database.svc"),
        *(option for key, value in postgres["environment"].items() for option in ("--env", f"{key}={value}")),
        *("--volume", f"{folder / 'secrets'}:/run/secrets:ro"),
        *("--volume", f"{script}:/docker-entrypoint-initdb.d/make-databases.sh:ro"),
        postgres["image"],
    )
    stack.callback(docker, "rm", "--force", "--volumes", f"{name}-postgres", check=False)
    docker(
        *("run", "--detach", "--name", f"{name}-sandbox", "--network", name, "--network-alias", "sandbox"),
        *("--entrypoint", "python", image, "-m", "sync_pipeline.sandbox", "--keep-running"),
        *("--host", "0.0.0.0", "--port", str(SANDBOX_PORT), "--ads", "12", "--orders", "20"),  # noqa: S104
    )
    stack.callback(docker, "rm", "--force", "--volumes", f"{name}-sandbox", check=False)
    wait_for(
        lambda: docker("exec", f"{name}-postgres", "pg_isready", "-h", "127.0.0.1", "-U", "postgres", check=False),
        lambda said: "accepting" in said,
    )
    log = wait_for(lambda: docker("logs", f"{name}-sandbox"), lambda log: "{" in log)
    accepted: dict[str, str] = loads(next(line for line in log.splitlines() if line.startswith("{")))
    return accepted
