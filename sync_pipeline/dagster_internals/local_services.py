"""Private names of `dagster dev`.

`dagster dev` starts Dagster's own webserver, which cannot be replaced. These names are needed to start the same code
servers, shared by a webserver of our own and the daemon, and to log as its other processes do.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from dagster import DagsterInstance
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.log import configure_loggers

__all__ = ["DAEMON", "configure_loggers", "shared_code_servers"]

# The module that the command `dagster-daemon` runs.
DAEMON = "dagster._daemon"


@contextmanager
def shared_code_servers(instance: DagsterInstance, workspace: str, log_level: str) -> Iterator[Path]:
    """Run the code servers of a workspace; yields a workspace file that points to them."""
    with (
        ProxyServerManager(instance, WorkspaceFileTarget([workspace]), log_level) as servers,
        tempfile.TemporaryDirectory() as folder,
    ):
        file = Path(folder) / "workspace.yaml"
        file.write_text(yaml.safe_dump({"load_from": list(servers.get_code_server_specs())}))
        yield file
