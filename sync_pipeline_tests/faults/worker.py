"""A run worker that is forked from a process which has loaded everything already, so that many can be killed soon."""

import gc
from collections.abc import Mapping

import dagster as dg

# What a run's process loads only once it opens the instance and begins.
import dagster._core.execution.execute_in_process
import dagster._core.instance.factory
import dagster._core.storage.noop_compute_log_manager
import dagster._core.storage.root

import sync_pipeline.storage  # noqa: F401
from sync_pipeline.cli.foreground import SILENT_CONSOLE
from sync_pipeline.definitions import defs

JOB = "lumina__daily_sync"

job = defs.resolve_job_def(JOB)
gc.freeze()


def work(instance: str, tags: Mapping[str, str]) -> None:
    """Run the job with these tags; `instance` is the folder of its dagster.yaml."""
    with dg.DagsterInstance.from_config(instance) as opened:
        job.execute_in_process(instance=opened, tags=tags, run_config=SILENT_CONSOLE)
