"""deploy/compose.yaml without a container engine: its services as processes that share nothing but the network.

Each process has the variables, secrets and mounted files of its container, and no others. Postgres asks for passwords.
Code locations may be on machines of their own. By hand, with the sandbox's tenants, until interrupted:

    python -m sync_pipeline_tests.deploy.topology [number of code locations]
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml

from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.browser import Browser, wait_for
from sync_pipeline_tests.deploy.compose import DEPLOY
from sync_pipeline_tests.deploy.installing import write_secrets, write_tenant
from sync_pipeline_tests.deploy.machines import HERE, Machine, machines
from sync_pipeline_tests.deploy.postgres import Postgres
from sync_pipeline_tests.folders import open_folder_for_server
from sync_pipeline_tests.waiting import PATIENCE_S

WAREHOUSE = "warehouse"
# Of a location its tenants, and of each the demo tenant that it is a copy of.
ONE_LOCATION = {"sync_pipeline": {"lumina": "lumina", "mekong": "mekong"}}
TWO_LOCATIONS = {"north": {"aurora": "lumina", "baltic": "mekong"}, "south": {"coral": "lumina", "delta": "mekong"}}
PATHS = (
    "/run/secrets",
    "/run/sync_pipeline",
    "/etc/sync_pipeline",
    "/var/lib/dagster",
    "/var/lib/sync_pipeline",
    "/opt/sync_pipeline/bin",
)
# What a code server listens on in compose.yaml. Those on machines of their own listen on a port.
SOCKET_VARIABLE = "DAGSTER_CODE_SERVER_SOCKET"
# Of services other than the webserver, which has 3000.
PORTS = {"code": 4000, "metrics": 9464}

Seen = TypeVar("Seen")


@dataclass
class Container:
    """A process in place of a container."""

    name: str
    machine: Machine
    entrypoint: list[str]
    command: list[str]
    healthcheck: list[str]
    environment: dict[str, str]
    root: Path
    process: "subprocess.Popen[str] | None" = None

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def start(self) -> None:
        with (self.root / "log").open("a") as log:
            self.process = self._popen([*self.entrypoint, *self.command], log)

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the container to its end as `docker compose run --rm` does, with another command if one is given."""
        process = self._popen([*self.entrypoint, *(arguments or self.command)], subprocess.PIPE, **environment)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def execute(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command beside the container's own as `docker compose exec` does: without the entrypoint."""
        process = self._popen(command, subprocess.PIPE)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def is_healthy(self) -> bool:
        """What an engine finds out, which asks inside the container, and not through its entrypoint."""
        return self._popen(self.healthcheck, subprocess.DEVNULL).wait(PATIENCE_S) == 0

    def end(self, number: int = signal.SIGKILL) -> None:
        """End the container with all that is in it; by default without a word to it."""
        if self.process is None:
            return
        if number != signal.SIGKILL:
            self.process.send_signal(number)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not end when told to", file=sys.stderr)
        # Whatever it started is in its process group, and goes with it.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        self.process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop every process of the container and let them continue afterwards, as `docker pause` does."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    def _popen(self, command: Sequence[str], output: "IO[str] | int", **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.machine.command(*command),
            env={**self.environment, **environment},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE if output == subprocess.PIPE else output,
            text=True,
            start_new_session=True,
        )


@dataclass
class Topology:
    """What compose.yaml starts, running; `code` are the containers of the code locations."""

    folder: Path
    locations: Mapping[str, Mapping[str, str]]
    here: Machine
    sandbox: SandboxServer
    postgres: Postgres
    containers: dict[str, Container] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def code(self) -> dict[str, Container]:
        return {name: self.containers[name] for name in self.locations}

    @property
    def browser(self) -> Browser:
        token = (self.folder / "secrets" / "service_token").read_text()
        return Browser(f"http://{self.here.address}:{self.ports['webserver']}", token)

    @property
    def workspace(self) -> Path:
        """The file in which webserver and daemon find the code servers."""
        return self.folder / "workspace" / "workspace.yaml"

    def tenants(self, location: str) -> Path:
        """The folder of a location's tenant files."""
        return self.folder / location / "tenants"

    def container(self, name: str, service: str, machine: Machine, location: str) -> Container:
        """A container of a service of compose.yaml, with the secrets and mounts that it names there."""
        root = self.folder / "containers" / name
        declared = compose.document()["services"][service]
        for path in PATHS:
            (root / path.lstrip("/")).mkdir(parents=True)
        (root / "var/lib/dagster/dagster.yaml").write_text(_dagster_yaml())
        for secret in declared.get("secrets", []):
            shutil.copy(self.folder / "secrets" / secret, root / "run/secrets")
        for mount in declared.get("volumes", []):
            source, target = mount.split(":")[:2]
            inside = root / target.lstrip("/")
            shutil.rmtree(inside, ignore_errors=True)
            inside.symlink_to(
                {
                    "./tenants": self.tenants(location),
                    "./secrets/tenants": self.folder / location / "secrets",
                    "./workspace": self.folder / "workspace",
                    "code-servers": self.folder / "sockets",
                    "last-good": self.folder / location / "last-good",
                }[source]
            )
        port = self.ports.setdefault(name, machine.port(PORTS.get(service, 3000)))
        listens_on_port = service == "code" and len(self.locations) > 1
        replaced = {
            "@postgres:5432": f"@{self.here.address}:{self.postgres.port}",
            "http://webserver:3000": f"http://{self.here.address}:{self.ports.get('webserver')}",
            "0.0.0.0": machine.address,  # noqa: S104
            "127.0.0.1:3000": f"{machine.address}:{port}",
            "127.0.0.1:9464": f"{machine.address}:{port}",
            "/opt/sync_pipeline/lib/python3.11/site-packages": str(DEPLOY.parent),
            "/opt/sync_pipeline/bin": str(Path(sys.executable).parent),
            **{path: f"{root}{path}" for path in PATHS[:-1]},
        }

        def here(value: str) -> str:
            found = re.compile("|".join(map(re.escape, replaced)))
            return found.sub(lambda match: replaced[match[0]], value)

        words = {"with-secrets": str(DEPLOY / "entrypoint"), **{str(one): str(port) for one in (3000, *PORTS.values())}}
        wanted = compose.service(service)
        environment = {key: here(value) for key, value in wanted.environment.items()} | {"HOME": "/nonexistent"}
        if service == "metrics":
            environment["SYNC_PIPELINE_LOCATION"] = location
        if service in ("code", "cli"):
            apis = self.sandbox.environment
            environment |= {name: apis[name] for name in ("META_GRAPH_URL", "PANCAKE_API_URL")}
            environment["SYNC_PIPELINE_LOCATION"] = location
        if listens_on_port:
            del environment[SOCKET_VARIABLE]
            environment |= {"DAGSTER_CODE_SERVER_HOST": machine.address, "DAGSTER_CODE_SERVER_PORT": str(port)}
        entrypoint, command, healthcheck = (
            [words.get(word, here(word)) for word in part]
            for part in (wanted.entrypoint, wanted.command, wanted.healthcheck)
        )
        self.containers[name] = Container(name, machine, entrypoint, command, healthcheck, environment, root)
        return self.containers[name]

    def start(self, *names: str) -> None:
        """Start these containers; code servers are waited for, as compose does."""
        for name in names:
            self.containers[name].start()
        for name in names:
            if name in self.locations:
                self._listening(self.containers[name])

    def restore(self) -> None:
        """Start the containers that an earlier test ended, remove its faults, and wait for all code locations."""
        self.sandbox.faults.clear()
        services = [*self.locations, "daemon", "webserver"]
        self.start(*(name for name in services if self.containers[name].process is None))
        self.ready()

    def ready(self) -> None:
        """Wait until the webserver has loaded every code location."""
        self.wait_for(
            self.browser.locations, lambda found: len(found) == len(self.locations) and not any(found.values())
        )

    def wait_for(self, look: Callable[[], Seen], good: Callable[[Seen], object] = bool) -> Seen:
        """Look until it is good; names the container that has ended, should one have."""
        try:
            return wait_for(look, good)
        except AssertionError:
            for container in self.containers.values():
                if container.process and container.process.poll() is not None:
                    raise AssertionError(f"{container.name} has ended: {container.log[-3000:]}") from None
            raise

    def command(self, *arguments: str, location: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run `sync-pipeline` as `docker compose run --rm cli` does."""
        name = f"cli-{location or next(iter(self.locations))}"
        if name not in self.containers:
            self.container(name, "cli", self.here, location or next(iter(self.locations)))
        return self.containers[name].run(*arguments)

    def tables(self, *tenants: str) -> dict[str, dict[str, tuple[int, str]]]:
        """Of each tenant how many rows both day tables have, and a checksum of all they hold but its name."""
        found: dict[str, dict[str, tuple[int, str]]] = {}
        for tenant in tenants:
            for table in ("meta_ad_insights", "pos_orders"):
                query = f"""
                    SELECT count(*), coalesce(md5(string_agg(line, E'\\n' ORDER BY line)), '')
                    FROM (
                        SELECT (to_jsonb(t) - 'tenant_id')::text AS line FROM {table} AS t WHERE tenant_id = :tenant
                    ) AS lines
                """
                [(count, checksum)] = self.postgres.rows(WAREHOUSE, query, tenant=tenant)
                found.setdefault(tenant, {})[table] = (int(count), str(checksum))
        return found

    def empty(self) -> None:
        """Take every tenant's rows away."""
        self.postgres.rows(WAREHOUSE, "DELETE FROM tenants RETURNING 1")

    def _listening(self, container: Container) -> None:
        path = container.environment.get(SOCKET_VARIABLE)

        def answers() -> bool:
            assert container.process is not None
            assert container.process.poll() is None, container.log[-3000:]
            with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as attempt:
                return attempt.connect_ex(path or (container.machine.address, self.ports[container.name])) == 0

        wait_for(answers)


@contextmanager
def running(
    locations: Mapping[str, Mapping[str, str]] = ONE_LOCATION,
    *,
    tell: Callable[[str], None] = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Topology]:
    """Start it all: Postgres, migration, code servers, daemon, webserver; several locations on a machine each."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder_for_server())
        here, others = stack.enter_context(machines(len(locations))) if len(locations) > 1 else (HERE, [HERE])
        sandbox = stack.enter_context(SandboxServer(host=here.address, ads=12, orders=20, now=now))
        _make_secrets(folder, locations, sandbox)
        postgres = _make_postgres(folder, here)
        stack.callback(postgres.stop, "immediate")
        topology = Topology(folder, locations, here, sandbox, postgres)
        stack.callback(_end_all, topology)
        tell(f"Postgres with passwords on {here.address}:{postgres.port}, APIs at {sandbox.origin}")

        migrated = topology.container("migrate", "migrate", here, "").run()
        assert migrated.returncode == 0, migrated.stderr
        tell(f"migrate: {migrated.stdout.splitlines()[0]}")
        # Commands in the containers of code servers know its address.
        topology.ports["webserver"] = here.port(3000)
        for location, machine in zip(locations, others, strict=True):
            topology.container(location, "code", machine, location)
        servers = []
        for name, container in topology.code.items():
            server = {"host": container.machine.address, "port": topology.ports[name], "location_name": name}
            if SOCKET_VARIABLE in container.environment:
                server = _entry_of_compose(folder / "sockets")
            servers.append({"grpc_server": server})
            tell(f"code server {name} ({', '.join(locations[name])}) on {container.machine}: {server}")
        topology.workspace.write_text(yaml.safe_dump({"load_from": servers}))
        for name in ("daemon", "webserver"):
            topology.container(name, name, here, "")
        topology.start(*locations)
        topology.start("daemon", "webserver")
        topology.ready()
        tell(f"daemon; webserver at {topology.browser.url}")
        yield topology


def _dagster_yaml() -> str:
    """The project's, with a queue that is looked at every second: nobody needs to wait for it here."""
    instance = yaml.safe_load((DEPLOY.parent / "dagster.yaml").read_text())
    instance["run_coordinator"].setdefault("config", {})["dequeue_interval_seconds"] = 1
    text: str = yaml.safe_dump(instance)
    return text


def _entry_of_compose(sockets: Path) -> dict[str, Any]:
    """The code server of deploy/workspace, with its socket in this folder."""
    [entry] = yaml.safe_load((DEPLOY / "workspace" / "workspace.yaml").read_text())["load_from"]
    server: dict[str, Any] = entry["grpc_server"]
    return {**server, "socket": str(sockets / Path(server["socket"]).name)}


def _make_secrets(folder: Path, locations: Mapping[str, Mapping[str, str]], sandbox: SandboxServer) -> None:
    """What README.md has an installation make: passwords, and the tenants' files with their secrets beside them."""
    write_secrets(folder / "secrets")
    for name in ("workspace", "sockets"):
        (folder / name).mkdir()
    for location, tenants in locations.items():
        for name in ("tenants", "secrets", "last-good"):
            (folder / location / name).mkdir(parents=True)
        for tenant, demo in tenants.items():
            write_tenant(
                folder / location / "tenants", folder / location / "secrets", tenant, demo, sandbox.environment
            )


def _make_postgres(folder: Path, here: Machine) -> Postgres:
    environment = {
        key: value.replace("/run/secrets", str(folder / "secrets"))
        for key, value in compose.service("postgres").environment.items()
    }
    addresses = (here.address,) if here == HERE else (here.address, "127.0.0.1")
    postgres = Postgres(folder / "postgres", addresses, HERE.port(5432), environment)
    postgres.make(DEPLOY / "postgres" / "make-databases.sh")
    return postgres


def _end_all(topology: Topology) -> None:
    for container in topology.containers.values():
        container.end()


def main(count: int = 1) -> None:
    """Run the topology in the foreground: a run of every tenant, then wait to be interrupted."""

    def tell(line: str) -> None:
        print(f"{datetime.now():%H:%M:%S} {line}", flush=True)  # noqa: DTZ005

    with running(ONE_LOCATION if count == 1 else TWO_LOCATIONS, tell=tell) as topology:
        until = datetime.now(UTC).date() - timedelta(days=2)
        since = until - timedelta(days=2)
        runs = {
            tenant: topology.browser.launch(location, f"{tenant}__daily_sync", f"{since}", f"{until}")
            for location, tenants in topology.locations.items()
            for tenant in tenants
        }
        for tenant, run_id in runs.items():
            tell(f"{tenant}: {topology.browser.wait(run_id)}, {topology.tables(tenant)[tenant]}")
        tell(topology.command("status").stdout)
        tell(f"the token for {topology.browser.url} is {topology.browser.token}")
        tell(f"logs are in {topology.folder}/containers; Ctrl-C ends it all")
        signal.pause()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
