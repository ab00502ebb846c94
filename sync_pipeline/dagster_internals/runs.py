"""A run that is executed in this process, and the errors of a code server that does not answer.

`dg.execute_job` creates its run itself and runs it to the end, so that its id is not known before, its events are not
seen, and it belongs to no code location (Dagster issue #17707). Captured output would take the progress off the
terminal; `DagsterInstance.get` cannot switch the capture off.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterInstance
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.errors import DagsterUserCodeProcessError, DagsterUserCodeUnreachableError
from dagster._core.execution.api import execute_run_iterator
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

__all__ = [
    "DagsterUserCodeProcessError",
    "DagsterUserCodeUnreachableError",
    "ReconstructableRepository",
    "execute_run_iterator",
    "open_instance_without_capture",
]


@contextmanager
def open_instance_without_capture(home: str) -> Iterator[DagsterInstance]:
    """Open the instance of a DAGSTER_HOME that leaves standard output and standard error to the terminal."""
    quiet = {"module": NoOpComputeLogManager.__module__, "class": NoOpComputeLogManager.__name__}
    with DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides={"compute_logs": quiet})) as instance:
        yield instance
