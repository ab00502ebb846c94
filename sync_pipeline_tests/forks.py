"""Processes that are forked from one which has imported Dagster: importing takes seconds."""

import multiprocessing
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess

from sync_pipeline_tests import warm
from sync_pipeline_tests.waiting import PATIENCE_S


def fork(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Start a function of `warm` in a process of its own."""
    process = _server().Process(target=target, args=arguments)
    process.start()
    return process


def wait_for_exit(process: ForkServerProcess) -> int:
    """Return the exit code of a process once it has ended. Raises TimeoutExpired."""
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(process.name, PATIENCE_S)
    return process.exitcode


def fork_run(instance: str, tags: Mapping[str, str], environment: Mapping[str, str]) -> ForkServerProcess:
    """Start a run of the demo tenant's daily workflow, as `warm.run_job` describes."""
    return fork(warm.run_job, instance, dict(tags), dict(environment))


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([warm.__name__])
    return context
