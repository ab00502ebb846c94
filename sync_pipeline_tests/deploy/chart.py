"""Dagster's Helm chart, rendered with deploy/helm/values.yaml.

SYNC_PIPELINE_TEST_CHART names the folder of the chart; `helm` is searched for in PATH, and `.ci/helm` fetches it.
Without either, the tests that need them are skipped.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry, Resource

from sync_pipeline_tests.deploy.compose import DEPLOY

HELM_FILES = DEPLOY / "helm"
VALUES = HELM_FILES / "values.yaml"
# The oldest and the newest version of Kubernetes that manifests are validated for; 1.29 has containers that go on
# beside the others, as tenants/git.yaml uses them.
KUBERNETES_VERSIONS = ("1.29", "1.35")
NAMESPACE = "production"
# With a name that the files do not mention.
RELEASE = "acme"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Tools:
    """The command helm, and a copy of the chart that needs no network."""

    helm: str
    chart: Path

    def render(self, *values: Path, release: str = RELEASE) -> "Rendered":
        """Render the chart as `helm install` would. Fails with what helm says."""
        files = [argument for file in values for argument in ("--values", str(file))]
        done = self.run("template", release, str(self.chart), "--namespace", NAMESPACE, *files)
        assert done.returncode == 0, done.stderr
        return Rendered(tuple(document for document in yaml.safe_load_all(done.stdout) if document))

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([self.helm, *arguments], capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Rendered:
    """The manifests of a release."""

    manifests: tuple[Manifest, ...]

    def of_kind(self, kind: str) -> dict[str, Manifest]:
        """Manifests of a kind by name."""
        return {manifest["metadata"]["name"]: manifest for manifest in self.manifests if manifest["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Templates of all pods that the release starts, by the name of what starts them."""
        for kind in ("Deployment", "Job"):
            for name, manifest in self.of_kind(kind).items():
                yield name, manifest["spec"]["template"]
        for name, manifest in self.of_kind("CronJob").items():
            yield f"{name} (CronJob)", manifest["spec"]["jobTemplate"]["spec"]["template"]

    def deployment(self, component: str) -> Manifest:
        """The only Deployment of a component."""
        [found] = [
            manifest
            for manifest in self.of_kind("Deployment").values()
            if manifest["metadata"]["labels"]["component"] == component
        ]
        return found

    @property
    def instance(self) -> str:
        """The dagster.yaml that the chart writes."""
        [found] = [data["dagster.yaml"] for data in self._data() if "dagster.yaml" in data]
        return str(found)

    @property
    def workspace(self) -> list[dict[str, Any]]:
        """Code servers in the workspace.yaml that webserver and daemon read."""
        [found] = [data["workspace.yaml"] for data in self._data() if "workspace.yaml" in data]
        return [entry["grpc_server"] for entry in yaml.safe_load(found)["load_from"]]

    def _data(self) -> Iterator[Mapping[str, str]]:
        return (manifest.get("data") or {} for manifest in self.of_kind("ConfigMap").values())


def validate(manifest: Manifest) -> None:
    """Fail where Kubernetes would not accept a manifest, or would ignore a part of it."""
    name = f"{manifest['kind']} {manifest['metadata'].get('name')}"
    for version in KUBERNETES_VERSIONS:
        validator = _validator(version, manifest["kind"], manifest["apiVersion"])
        for error in validator.iter_errors(_without_nulls(manifest)):
            where = ".".join(map(str, error.absolute_path))
            raise AssertionError(f"{name}, Kubernetes {version}: {where}: {error.message}")


@cache
def _validator(version: str, kind: str, api_version: str) -> Validator:
    """The validator of a kind, without unknown keys; the package would read all schemas again for each manifest."""
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((_schemas(version, "-strict") / f"{kind.lower()}-{group}.json").read_text())
    return Draft202012Validator(schema, registry=_registry(version))


@cache
def _registry(version: str) -> Registry[Any]:
    definitions = Resource.from_contents(json.loads((_schemas(version, "-strict") / "_definitions.json").read_text()))
    return definitions @ Registry()


def _schemas(version: str, kind: str = "") -> Path:
    folder = Path(str(resources.files(kubernetes_validate))) / "kubernetes-json-schema"
    [found] = folder.glob(f"v{version}.*-local{kind}")
    return found


def _without_nulls(value: Any) -> Any:
    """What Kubernetes makes of a manifest: a key without a value is no key."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def with_changes(values: Path, entry: Mapping[str, Any], folder: Path) -> Path:
    """A copy of the values file in whose first code location volumes, mounts and containers are replaced by name."""
    document = yaml.safe_load(values.read_text())
    location = document["dagster-user-deployments"]["deployments"][0]
    for key, items in entry.items():
        by_name = {item["name"]: item for item in location.get(key, [])}
        location[key] = list({**by_name, **{item["name"]: item for item in items}}.values())
    return written(document, folder)


def written(document: Any, folder: Path) -> Path:
    """A values file with this content."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def tools_or_skip(folder: Path) -> Tools:
    """Prepare the chart in a folder; skip the test where there is no chart or no helm."""
    chart = os.environ.get("SYNC_PIPELINE_TEST_CHART")
    if not chart:
        pytest.skip("SYNC_PIPELINE_TEST_CHART does not name a folder with Dagster's Helm chart")
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("there is no helm in PATH; .ci/helm fetches it")
    copied = folder / "chart"
    shutil.copytree(chart, copied)
    for schema in copied.rglob("values.schema.json"):
        schema.write_text(_with_local_definitions(schema.read_text()))
    return Tools(helm, copied)


def _with_local_definitions(schema: str) -> str:
    """The schema of the chart's values, with references to a file on this machine in place of the web."""
    definitions = (_schemas(KUBERNETES_VERSIONS[-1]) / "_definitions.json").as_uri()
    return re.sub(r'"https?://[^"]+/_definitions\.json#/(?:definitions|\$defs)/', f'"{definitions}#/$defs/', schema)


def containers(template: Manifest) -> Sequence[Manifest]:
    """All containers of a pod, those that start before the others first."""
    return [*(template["spec"].get("initContainers") or []), *template["spec"]["containers"]]


def environment(container: Manifest) -> dict[str, Manifest]:
    """Variables that a container declares by itself, by name."""
    return {variable["name"]: variable for variable in container.get("env") or []}
