"""Change what Dagster's Helm chart gives run pods: print the container context of a code server with our changes.

    DAGSTER_CONTAINER_CONTEXT=$(python -m sync_pipeline.run_pods)

The chart writes the code server's own resources into DAGSTER_CONTAINER_CONTEXT, from which Dagster makes run pods, and
gives every run pod a token for the Kubernetes API. Neither can be set in the chart's values. SYNC_PIPELINE_RUN_PODS has
YAML with the keys that are allowed under `k8s` in a container context, for example `resources` and `run_k8s_config`.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from sync_pipeline import logs
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.terminal import say

CONTEXT_VARIABLE = "DAGSTER_CONTAINER_CONTEXT"
CHANGES_VARIABLE = "SYNC_PIPELINE_RUN_PODS"
# Replaced as a whole: a limit that only the code server has must not remain.
REPLACED = frozenset({"resources"})


class InvalidRunPodsError(SyncPipelineError):
    """A variable does not hold what it should; its value is not shown."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}. Correct it in the values of the Helm chart")
        self.variable = variable


def main() -> int:
    """Print the changed context, and return the exit code."""
    try:
        say(changed_context(os.environ))
    except InvalidRunPodsError as error:
        logs.configure()
        logs.tell(str(error))
        return 1
    return 0


def changed_context(environment: Mapping[str, str]) -> str:
    """Return the container context with the changes for run pods. Raises `InvalidRunPodsError`."""
    context = _mapping(CONTEXT_VARIABLE, environment.get(CONTEXT_VARIABLE) or "{}")
    changes = _mapping(CHANGES_VARIABLE, environment.get(CHANGES_VARIABLE) or "{}")
    kubernetes = context.get("k8s", {})
    if not isinstance(kubernetes, dict):
        raise InvalidRunPodsError(CONTEXT_VARIABLE, "must have a mapping under k8s")
    return json.dumps({**context, "k8s": _merged(kubernetes, changes)})


def _mapping(variable: str, text: str) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise InvalidRunPodsError(variable, f"is not valid YAML{where}") from None
    if not isinstance(parsed, dict):
        raise InvalidRunPodsError(variable, "must be a mapping")
    return parsed


def _merged(onto: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged, everything else is replaced."""
    merged = dict(onto)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and key not in REPLACED:
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


if __name__ == "__main__":
    sys.exit(main())
