"""deploy/helm/apply-tenants, with kubectl and a stand-in for the Kubernetes API."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sync_pipeline_tests.deploy.chart import HELM_FILES, NAMESPACE
from sync_pipeline_tests.deploy.kubernetes_api import LIMIT_BYTES, KubernetesApi, Recorder

MANY = 1_000
SHARDS = 8
FOLDERS = {"ConfigMap": "tenants", "Secret": "secrets/tenants"}
# A tenant file with three workflows has about this many bytes.
TENANT_BYTES = 1_500


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl in PATH; .ci/helm fetches it")
    with KubernetesApi(Recorder()) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for made in FOLDERS.values():
        (tmp_path / made).mkdir(parents=True)
    return tmp_path


def add(folder: Path, tenant: str, size: int = TENANT_BYTES) -> None:
    (folder / "tenants" / f"{tenant}.yaml").write_text(f"tenant: {tenant}\n".ljust(size, "#"))
    (folder / "secrets/tenants" / f"{tenant}_meta").write_text(f"secret of {tenant}")


def apply(api: KubernetesApi, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    config = folder / "kubeconfig"
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}
    clusters = [{"name": "c", "cluster": {"server": api.url}}]
    config.write_text(yaml.safe_dump({"clusters": clusters, "contexts": [context], "current-context": "c"}))
    return subprocess.run(
        [HELM_FILES / "apply-tenants", *arguments],
        # The stand-in has no schemas for kubectl, and checks every object itself.
        env={**os.environ, "KUBECONFIG": str(config), "KUBECTL_ARGUMENTS": "--validate=false"},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


def applied(api: KubernetesApi, kind: str) -> dict[str, dict[str, bytes]]:
    """The files in each object of a kind."""
    return {name: api.data(kind, name) for name in api.of_kind(kind)}


def test_a_thousand_tenants_are_divided_below_the_limit(api: KubernetesApi, folder: Path) -> None:
    for number in range(MANY):
        add(folder, f"tenant_{number:04d}")
    done = apply(api, folder)
    assert done.returncode == 0, done.stderr
    for kind, source in FOLDERS.items():
        found = applied(api, kind)
        assert set(found) == {f"sync-pipeline-tenants-{number}" for number in range(SHARDS)}
        together = {name: data for files in found.values() for name, data in files.items()}
        assert together == {file.name: file.read_bytes() for file in (folder / source).iterdir()}
    sizes = [sum(map(len, files.values())) for files in applied(api, "ConfigMap").values()]
    # They do not fit into one.
    assert sum(sizes) > LIMIT_BYTES > max(sizes)


def test_a_repeated_call_removes_deleted_files_and_moves_none(api: KubernetesApi, folder: Path) -> None:
    for tenant in ("acme", "berlin", "coral", "delta"):
        add(folder, tenant)
    assert apply(api, folder, "2").returncode == 0
    before = applied(api, "ConfigMap")
    (folder / "tenants" / "berlin.yaml").unlink()
    add(folder, "aurora")
    assert apply(api, folder, "2").returncode == 0
    after = applied(api, "ConfigMap")
    assert {name for files in after.values() for name in files} == {
        "acme.yaml",
        "aurora.yaml",
        "coral.yaml",
        "delta.yaml",
    }
    for name, files in before.items():
        assert files.keys() - {"berlin.yaml"} <= after[name].keys()


@pytest.mark.parametrize("large", ["tenants/costs.csv", "secrets/tenants/large"])
def test_nothing_is_applied_if_one_part_would_be_too_large(api: KubernetesApi, folder: Path, large: str) -> None:
    add(folder, "acme")
    (folder / large).write_bytes(b"x" * (LIMIT_BYTES + 1))
    done = apply(api, folder)
    assert done.returncode == 1
    assert "Nothing was applied" in done.stderr
    assert api.objects == {}


def test_a_number_that_is_none_is_refused(api: KubernetesApi, folder: Path) -> None:
    done = apply(api, folder, "none")
    assert done.returncode == 2
    assert done.stderr == "error: the number of config maps must be a positive number, not 'none'\n"
