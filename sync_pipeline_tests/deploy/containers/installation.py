"""An installation of deploy/compose.yaml in a checkout of its own, with the sandbox in a container beside it."""

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from sync_pipeline.sandbox.control import PREFIX as CONTROL_PREFIX
from sync_pipeline.sandbox.graph import PREFIX as GRAPH_PREFIX
from sync_pipeline.sandbox.pancake import PREFIX as PANCAKE_PREFIX
from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.browser import Browser, wait_for
from sync_pipeline_tests.deploy.containers.building import build_arguments, certificates
from sync_pipeline_tests.deploy.containers.engine import COMMAND_TIMEOUT_S, Engine, run
from sync_pipeline_tests.deploy.installing import write_secrets, write_tenant

PROJECT = compose.DEPLOY.parent
SANDBOX_PORT = 8000


class _Replacement(list[Any]):
    """A sequence that replaces the one of compose.yaml instead of being added to it."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Replacement, lambda dumper, sequence: dumper.represent_sequence("!override", sequence, flow_style=True)
)


@dataclass
class Installation:
    """What README.md has an operator make; `folder` is the folder deploy of the checkout.

    Commands are run as README.md says, in that folder. The override file adds only what the machine of the tests needs:
    free host ports, an index for the build, the sandbox, and shorter intervals of health checks.
    """

    engine: Engine
    folder: Path
    project: str
    version: str

    @property
    def image(self) -> str:
        return f"sync-pipeline:{self.version}"

    def build(self, version: str, *arguments: str) -> str:
        """Build the checkout as it is now, under another version than the one that runs, and return the image."""
        run(
            "docker",
            "compose",
            "build",
            *arguments,
            folder=self.folder,
            **{**self.variables, "SYNC_PIPELINE_VERSION": version},
        )
        return f"sync-pipeline:{version}"

    def compose(
        self, *arguments: str, check: bool = True, text: str = "", timeout_s: float = COMMAND_TIMEOUT_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose` in the folder of the installation."""
        return run(
            "docker",
            "compose",
            *arguments,
            check=check,
            text=text,
            timeout_s=timeout_s,
            folder=self.folder,
            **self.variables,
        )

    def compose_process(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `docker compose` and do not wait for it."""
        return subprocess.Popen(
            ["docker", "compose", *arguments],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**os.environ, **self.variables},
        )

    def script_process(self, name: str, *arguments: str, output: Path) -> "subprocess.Popen[str]":
        """Start a script of the folder deploy, which prints to a file, and do not wait for it."""
        with output.open("w") as printed:
            return subprocess.Popen(
                [self.folder / name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder.parent,
                env={**os.environ, **self.variables},
            )

    def execute(self, service: str, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command in the container of a service, not through its entrypoint."""
        return self.compose("exec", "-T", service, *command, check=check)

    def container(self, service: str) -> str:
        """The id of the container of a service, also if it has ended."""
        [found] = self.compose("ps", "--all", "--quiet", service).stdout.split()
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        return self.engine.inspect("--type", "container", self.container(service))

    def state(self, service: str) -> dict[str, Any]:
        """The state of a service's container: Status, ExitCode, OOMKilled, Health."""
        state: dict[str, Any] = self.inspect(service)["State"]
        return state

    def logs(self, service: str) -> str:
        """What the processes of a service's container have printed, standard output first."""
        printed = self.engine.docker("logs", self.container(service))
        return printed.stdout + printed.stderr

    def address(self, service: str, port: int) -> str:
        """Where this machine reaches a port that a service publishes."""
        return self.compose("port", service, str(port)).stdout.strip()

    @property
    def browser(self) -> Browser:
        token = (self.folder / "secrets" / "service_token").read_text()
        return Browser(f"http://{self.address('webserver', 3000)}", token)

    def ready(self) -> None:
        """Wait until the webserver has loaded every code location."""
        wait_for(self.browser.locations, lambda found: found and not any(found.values()))

    def rows(self, statement: str, database: str = "warehouse") -> list[list[str]]:
        """Ask Postgres as its superuser; values of a row are text."""
        separator = "\x1f"
        password = "PGPASSWORD=$(cat /run/secrets/superuser_password)"
        command = f'{password} psql -U "$POSTGRES_USER" -d {database} -At -F "$1" -c "$2"'
        printed = self.execute("postgres", "sh", "-c", command, "sh", separator, statement).stdout
        return [line.split(separator) for line in printed.splitlines()]

    def add_tenant(self, tenant: str, demo: str) -> None:
        """Write a tenant's file and its secrets, which the sandbox accepts."""
        write_tenant(
            self.folder / "tenants", self.folder / "secrets" / "tenants", tenant, demo, self.sandbox.environment
        )

    @property
    def sandbox(self) -> "Sandbox":
        """The sandbox as it is now: started again, its container has another port."""
        lines = [line for line in self.logs("sandbox").splitlines() if line.startswith("{")]
        return Sandbox(f"http://{self.address('sandbox', SANDBOX_PORT)}", json.loads(lines[-1]))

    def start_sandbox(self) -> None:
        self.compose("up", "--detach", "--no-deps", "sandbox")
        wait_for(lambda: self.logs("sandbox"), lambda log: "{" in log)
        wait_for(self.sandbox.overview)

    def down(self) -> None:
        """Delete containers, networks and volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "0")

    @property
    def variables(self) -> dict[str, str]:
        # Compose reads them in place of .env, which is left to the test.
        return {"COMPOSE_PROJECT_NAME": self.project, "SYNC_PIPELINE_VERSION": self.version}


@dataclass(frozen=True)
class Sandbox:
    """The sandbox in its container, through its control endpoints; `environment` has the tenants' secrets."""

    url: str
    environment: Mapping[str, str]

    def overview(self) -> dict[str, Any]:
        return self._ask("GET", "")

    def hold(self, day: str) -> None:
        """Hold every request for insights of a day, until `release`."""
        self._ask("POST", "/faults", {"effect": "held", "path": "insights$", "query": day, "times": None})

    def held(self) -> int:
        """How many requests were held."""
        return sum(fault["hits"] for fault in self._ask("GET", "/faults")["faults"])

    def release(self) -> None:
        """Answer the requests that are held, and hold no more."""
        self._ask("DELETE", "/faults")

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = requests.request(method, f"{self.url}{CONTROL_PREFIX}{path}", json=body, timeout=60)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told


def copy_checkout(folder: Path) -> Path:
    """Copy the files that git has or would take, and return the new project folder."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder=PROJECT).stdout
    for name in filter(None, listed.split("\0")):
        source, target = PROJECT / name, folder / name
        if source.exists():  # and not deleted since
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


@contextmanager
def installation(engine: Engine, folder: Path, version: str) -> Iterator[Installation]:
    """Make an installation in a new folder, and delete its containers at the end. Nothing is started."""
    deploy = copy_checkout(folder) / "deploy"
    write_secrets(deploy / "secrets")
    (deploy / "secrets" / "tenants").mkdir()
    (deploy / "tenants").mkdir()
    found = Installation(engine, deploy, f"sp-{secrets.token_hex(4)}", version)
    (deploy / "compose.override.yaml").write_text(override(deploy, version))
    try:
        yield found
    finally:
        found.down()


def override(deploy: Path, version: str) -> str:
    """Return the text of the override file."""
    document = yaml.safe_load((deploy / "compose.yaml").read_text())
    services: dict[str, Any] = {name: {} for name in document["services"]}
    trusted = certificates()
    for name, declared in document["services"].items():
        if "build" in declared:
            build: dict[str, Any] = {"args": build_arguments()}
            if trusted:
                build["secrets"] = ["ca"]
            services[name]["build"] = build
        if "healthcheck" in declared:
            services[name]["healthcheck"] = {"interval": "10s", "timeout": "60s", "retries": 60}
        if "ports" in declared:
            # The container's own port, on a host port that the engine chooses.
            containers = [re.sub(r"^.*:", "", str(port)) for port in declared["ports"]]
            services[name]["ports"] = _Replacement(f"127.0.0.1::{port}" for port in containers)
    apis = f"http://sandbox:{SANDBOX_PORT}"
    for name in ("code", "cli"):
        services[name]["environment"] = {
            "META_GRAPH_URL": f"{apis}{GRAPH_PREFIX}",
            "PANCAKE_API_URL": f"{apis}{PANCAKE_PREFIX}",
        }
    internal = {name for name, network in document["networks"].items() if (network or {}).get("internal")}
    services["sandbox"] = {
        "image": f"sync-pipeline:{version}",
        "entrypoint": ["python", "-m", "sync_pipeline.sandbox", "--keep-running"],
        "command": ["--host", "0.0.0.0", "--port", str(SANDBOX_PORT), "--ads", "12", "--orders", "20"],  # noqa: S104
        "networks": [name for name in document["services"]["code"]["networks"] if name not in internal],
        "ports": [f"127.0.0.1::{SANDBOX_PORT}"],
    }
    added: dict[str, Any] = {"services": {name: given for name, given in services.items() if given}}
    if trusted:
        added["secrets"] = {"ca": {"file": str(trusted)}}
    return yaml.dump(added, Dumper=_Dumper, sort_keys=False)
