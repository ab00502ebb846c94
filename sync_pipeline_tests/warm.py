"""What a process forked by a test does. Importing this module loads what it needs, which takes seconds."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence

import dagster as dg

# What a run loads only once it opens the instance and begins.
import dagster._core.execution.execute_in_process
import dagster._core.instance.factory
import dagster._core.storage.root
import dagster_postgres  # noqa: F401
import pandas  # noqa: F401

import sync_pipeline.assets.checks
import sync_pipeline.automation.jobs
import sync_pipeline.cli.installation
import sync_pipeline.warehouse.migrate  # noqa: F401
from sync_pipeline import cli, storage
from sync_pipeline.cli.foreground import SILENT_CONSOLE

gc.freeze()


def run_command(arguments: Sequence[str], folder: str, environment: Mapping[str, str], out: str, err: str) -> None:
    """Run a command as a process of its own would, with its output in two files; exits with its code."""
    os.chdir(folder)
    _enter(environment, out, err)
    sys.argv = ["sync-pipeline", *arguments]
    cli.main()


def run_job(instance: str, tags: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Run the demo tenant's daily workflow with these tags; `instance` is the folder of its dagster.yaml."""
    _enter(environment, os.devnull, os.devnull)
    # Not before: the module reads the environment and the tenants when it is imported.
    from sync_pipeline.definitions import defs

    with dg.DagsterInstance.from_config(instance) as opened:
        defs.resolve_job_def("lumina__daily_sync").execute_in_process(
            instance=opened, tags=tags, run_config=SILENT_CONSOLE
        )


def _enter(environment: Mapping[str, str], out: str, err: str) -> None:
    kept = {storage.BATCH_SIZE_VARIABLE: os.environ[storage.BATCH_SIZE_VARIABLE]}  # set by an import
    os.environ.clear()
    os.environ.update({**kept, **environment})
    for file, descriptor in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
