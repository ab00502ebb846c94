"""What a command imports, loaded once: commands of tests are forked from a process that has imported this."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence

import dagster_postgres  # noqa: F401
import pandas  # noqa: F401

import sync_pipeline.assets.checks
import sync_pipeline.automation.jobs
import sync_pipeline.cli.foreground
import sync_pipeline.cli.installation
import sync_pipeline.warehouse.migrate  # noqa: F401
from sync_pipeline import cli, storage

gc.freeze()


def run(arguments: Sequence[str], folder: str, environment: Mapping[str, str], out: str, err: str) -> None:
    """Run a command as a process of its own would, with its output in two files; exits with its code."""
    os.chdir(folder)
    kept = {storage.BATCH_SIZE_VARIABLE: os.environ[storage.BATCH_SIZE_VARIABLE]}  # set by an import
    os.environ.clear()
    os.environ.update({**kept, **environment})
    for file, descriptor in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["sync-pipeline", *arguments]
    cli.main()
