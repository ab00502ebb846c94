"""What run pods are given in place of what the Helm chart says."""

import json
import subprocess
import sys
from typing import Any

import pytest

from sync_pipeline.run_pods import InvalidRunPodsError, changed_context

CHART = {
    "k8s": {
        "image_pull_policy": "IfNotPresent",
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}},
        "run_k8s_config": {
            "pod_spec_config": {"automount_service_account_token": True, "init_containers": [{"name": "git-sync"}]}
        },
    }
}
CHANGES = """
resources: {requests: {memory: 256Mi}}
run_k8s_config:
  pod_spec_config: {automount_service_account_token: false}
"""


def changed(changes: str, context: dict[str, Any] = CHART) -> Any:
    variables = {"DAGSTER_CONTAINER_CONTEXT": json.dumps(context), "SYNC_PIPELINE_RUN_PODS": changes}
    return json.loads(changed_context(variables))


def test_resources_of_the_code_server_are_replaced_as_a_whole() -> None:
    assert changed(CHANGES)["k8s"]["resources"] == {"requests": {"memory": "256Mi"}}


def test_pod_settings_are_merged_with_those_of_the_chart() -> None:
    assert changed(CHANGES)["k8s"]["run_k8s_config"]["pod_spec_config"] == {
        "automount_service_account_token": False,
        "init_containers": [{"name": "git-sync"}],
    }


def test_without_changes_the_context_stays_as_it_is() -> None:
    assert changed("") == CHART


def test_a_chart_without_a_context_gets_the_changes_alone() -> None:
    context = json.loads(changed_context({"SYNC_PIPELINE_RUN_PODS": "namespace: runs"}))
    assert context == {"k8s": {"namespace": "runs"}}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ("[1, 2]", "SYNC_PIPELINE_RUN_PODS must be a mapping"),
        ("resources: {secret-marker", "SYNC_PIPELINE_RUN_PODS is not valid YAML (line 1)"),
    ],
)
def test_an_invalid_value_is_named_and_not_shown(changes: str, problem: str) -> None:
    with pytest.raises(InvalidRunPodsError) as raised:
        changed(changes)
    assert str(raised.value) == f"{problem}. Correct it in the values of the Helm chart"


def test_the_command_ends_with_one_line_for_invalid_values() -> None:
    variables = {"SYNC_PIPELINE_RUN_PODS": "- x", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "sync_pipeline.run_pods"], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: SYNC_PIPELINE_RUN_PODS must be a mapping. Correct it in the values of the Helm chart"
    ]
