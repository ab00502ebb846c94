"""Pods as containers of an engine: what a kubelet does with the manifests of a release.

A pod is its last container here. The others have foreign images, which are not there: they are the chart's init
containers, which only wait. The engine has the limits, the users, the read-only file systems and the names of Services;
there is no scheduler, and NetworkPolicies have no effect.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_pipeline_tests.deploy.chart import NAMESPACE, Manifest, Rendered, containers, environment
from sync_pipeline_tests.deploy.containers.engine import run
from sync_pipeline_tests.deploy.kubernetes_api import KubernetesApi, PodStatus

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DEFAULT_GRACE_S = 30
BYTES = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}


def docker(*arguments: str, environ: Mapping[str, str] | None = None, check: bool = True) -> str:
    """Run a command of the engine's client, and return what it says. Fails with its error."""
    done = run("docker", *arguments, check=check, **(environ or {}))
    return done.stdout.strip() if done.returncode == 0 else done.stdout + done.stderr


def in_bytes(quantity: str) -> int:
    """A quantity of Kubernetes, such as 256Mi."""
    return int(quantity[:-2]) * BYTES[quantity[-2:]]


@dataclass
class Node:
    """The engine as the only node of a cluster, with the release's manifests."""

    name: str
    network: str
    gateway: str
    folder: Path
    rendered: Rendered
    # What PersistentVolumeClaims are, by name.
    claims: Mapping[str, Path] = field(default_factory=dict)
    # Tokens of service accounts by account, and the certificate of the API.
    tokens: Mapping[str, str] = field(default_factory=dict)
    certificate: Path | None = None
    api: KubernetesApi | None = None
    _pods: dict[str, Manifest] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str, template: Manifest, *, ports: Sequence[int] = ()) -> None:
        """Start a pod; its ports are published on this machine, on any free ones."""
        spec, container = template["spec"], containers(template)[-1]
        with self._lock:
            self._pods[name] = template
        variables = self._variables(container)
        command = [*(container.get("command") or []), *(container.get("args") or [])]
        options = [
            *("--detach", "--name", self.container(name), "--network", self.network),
            *(option for alias in self._aliases(template) for option in ("--network-alias", alias)),
            *(option for port in ports for option in ("--publish", f"127.0.0.1::{port}")),
            *(option for variable in variables for option in ("--env", variable)),
            *self._security(spec["securityContext"], container["securityContext"]),
            *self._limits(container.get("resources") or {}),
            *self._mounts(name, template, container),
        ]
        if container.get("command"):
            options += ["--entrypoint", command.pop(0)]
        docker("run", *options, container["image"], *command, environ=variables)

    def stop(self, name: str) -> None:
        """Tell a pod to end, and kill it when its grace period is over; does not wait for it."""
        grace = self._pods[name]["spec"].get("terminationGracePeriodSeconds") or DEFAULT_GRACE_S
        ending = threading.Thread(
            target=docker, args=("stop", "--time", str(grace), self.container(name)), kwargs={"check": False}
        )
        ending.start()

    def kill(self, name: str) -> None:
        docker("kill", self.container(name))

    def status(self, name: str) -> PodStatus:
        found = docker("inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", self.container(name))
        running, code = found.split()
        return PodStatus(running == "true", None if running == "true" else int(code))

    def log(self, name: str) -> str:
        with_errors = subprocess.run(
            ["docker", "logs", self.container(name)],  # noqa: S607
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return with_errors.stdout

    def execute(self, name: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in a pod, as `kubectl exec` and probes do: not through the image's entrypoint."""
        return subprocess.run(
            ["docker", "exec", self.container(name), *command],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )

    def published(self, name: str, port: int) -> str:
        """The address on this machine of a port of a pod."""
        return docker("port", self.container(name), str(port)).splitlines()[0]

    def refresh(self) -> None:
        """Bring changed ConfigMaps and Secrets into the pods that run, as a kubelet does every minute."""
        for name, template in self._pods.items():
            for volume in template["spec"].get("volumes") or []:
                self._fill(name, volume)

    def remove(self) -> None:
        """Remove the containers of all pods."""
        for name in self._pods:
            docker("rm", "--force", "--volumes", self.container(name), check=False)

    def container(self, pod: str) -> str:
        return f"{self.name}-{pod}"

    def inspected(self, pod: str, what: str) -> str:
        """What the engine knows of a pod's container."""
        return docker("inspect", "--format", what, self.container(pod))

    def _variables(self, container: Manifest) -> dict[str, str]:
        assert self.api
        found: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            is_map = "configMapRef" in source
            kind, reference = ("ConfigMap", source["configMapRef"]) if is_map else ("Secret", source["secretRef"])
            if reference.get("optional") and (kind, reference["name"]) not in self.api.objects:
                continue
            found |= {key: value.decode() for key, value in self._data(kind, reference["name"]).items()}
        for name, variable in environment(container).items():
            source = variable.get("valueFrom") or {}
            if "secretKeyRef" in source:
                reference = source["secretKeyRef"]
                found[name] = self._data("Secret", reference["name"])[reference["key"]].decode()
            else:
                assert not source, f"{name}: the stand-in does not know {source}"
                found[name] = variable.get("value") or ""
        return {
            **found,
            "KUBERNETES_SERVICE_HOST": self.gateway,
            "KUBERNETES_SERVICE_PORT": str(self.api.port),
        }

    def _data(self, kind: str, name: str) -> dict[str, bytes]:
        assert self.api
        return self.api.data(kind, name)

    def _aliases(self, template: Manifest) -> list[str]:
        labels = (template.get("metadata") or {}).get("labels") or {}
        return [
            name
            for name, service in self.rendered.of_kind("Service").items()
            if service["spec"]["selector"].items() <= labels.items()
        ]

    def _security(self, pod: Manifest, container: Manifest) -> list[str]:
        options = ["--user", f"{pod['runAsUser']}:{pod['runAsGroup']}", "--group-add", str(pod["fsGroup"])]
        if container.get("readOnlyRootFilesystem"):
            options += ["--read-only"]
        if container.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt", "no-new-privileges"]
        return [*options, *(option for name in container["capabilities"]["drop"] for option in ("--cap-drop", name))]

    def _limits(self, resources: Manifest) -> list[str]:
        memory = (resources.get("limits") or {}).get("memory")
        return ["--memory", str(in_bytes(memory)), "--memory-swap", str(in_bytes(memory))] if memory else []

    def _mounts(self, pod: str, template: Manifest, container: Manifest) -> list[str]:
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes") or []}
        options: list[str] = []
        for mount in container.get("volumeMounts") or []:
            volume, target = volumes[mount["name"]], mount["mountPath"].rstrip("/")
            if "emptyDir" in volume:
                size = in_bytes(volume["emptyDir"].get("sizeLimit") or "1Gi")
                options += ["--tmpfs", f"{target}:rw,exec,mode=1777,size={size}"]
                continue
            if "persistentVolumeClaim" in volume:
                source = self.claims[volume["persistentVolumeClaim"]["claimName"]]
            else:
                source = self._fill(pod, volume)
            source = source / mount.get("subPath", "")
            if "subPath" in mount:
                # A single file does not follow later changes.
                source = source.resolve()
            options += ["--volume", f"{source}:{target}:{'ro' if mount.get('readOnly', True) else 'rw'}"]
        account = template["spec"].get("serviceAccountName")
        if account and template["spec"].get("automountServiceAccountToken", True):
            options += ["--volume", f"{self._account(pod, account)}:{SERVICE_ACCOUNT}:ro"]
        return options

    def _account(self, pod: str, account: str) -> Path:
        assert self.certificate
        folder = self.folder / pod / "service-account"
        folder.mkdir(parents=True)
        (folder / "token").write_text(self.tokens[account])
        (folder / "namespace").write_text(NAMESPACE)
        shutil.copy(self.certificate, folder / "ca.crt")
        return folder

    def _fill(self, pod: str, volume: Manifest) -> Path:
        """Write a volume's files as a kubelet does: a link to a folder is replaced, so all of them change at once."""
        folder = self.folder / pod / "volumes" / volume["name"]
        kinds: list[tuple[str, Any]] = [
            *([("ConfigMap", volume["configMap"]["name"])] if "configMap" in volume else []),
            *([("Secret", volume["secret"]["secretName"])] if "secret" in volume else []),
        ]
        for source in (volume.get("projected") or {}).get("sources", []):
            kinds += [("ConfigMap" if key == "configMap" else "Secret", value["name"]) for key, value in source.items()]
        if not kinds:
            return folder
        files = {name: data for kind, of in kinds for name, data in self._data(kind, of).items()}
        declared = (volume.get(key) or {} for key in ("configMap", "secret", "projected"))
        mode = next((source["defaultMode"] for source in declared if "defaultMode" in source), 0o644)
        group = self._pods[pod]["spec"]["securityContext"]["fsGroup"]
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("..[0-9]*")))
        written = folder / f"..{number}"
        written.mkdir()
        for name, data in files.items():
            (written / name).write_bytes(data)
            os.chown(written / name, 0, group)
            (written / name).chmod(mode)
        (folder / "..new").symlink_to(written.name)
        (folder / "..new").replace(folder / "..data")
        for name in {entry.name for entry in folder.iterdir() if not entry.name.startswith("..")} - set(files):
            (folder / name).unlink()
        for name in files:
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        return folder
