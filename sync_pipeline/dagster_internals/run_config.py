"""Dagster's own reading of run config that is passed as text.

It is needed to decide on exactly what Dagster would run: another YAML parser may read the same text differently.
"""

from dagster_shared.yaml_utils import load_run_config_yaml

__all__ = ["load_run_config_yaml"]
