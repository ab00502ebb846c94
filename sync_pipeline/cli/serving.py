"""The Dagster UI, daemon and code location as one child process."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from sync_pipeline import logs
from sync_pipeline.automation.pools import declare_pools
from sync_pipeline.cli import installation
from sync_pipeline.cli.reloading import reloading_on_change
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import load_tenants
from sync_pipeline.webserver.hosts import HOSTS_VARIABLE, is_loopback_address


def serve(host: str, port: int) -> int:
    """Run the UI, daemon and code location until they end or a signal ends them; returns 0 after a signal.

    They reload whenever a file in the folder of tenants changes.
    """
    tenants = Settings.from_environment().tenants
    # What listens on every address listens on this one, too.
    url = f"http://{'127.0.0.1' if host in ('', '0.0.0.0', '::') else host}:{port}"  # noqa: S104
    # Links in alerts lead to this UI, unless they are meant to lead elsewhere.
    os.environ.setdefault("SYNC_PIPELINE_UI_URL", url)
    with dg.DagsterInstance.get() as instance:
        declare_pools(instance, load_tenants(tenants).tenants)
    if not is_loopback_address(host):
        logs.tell(
            f"everybody who can reach {host} may do everything in this UI: it has no login. It answers to requests "
            f"for localhost, for the address it listens on, and for the hosts that {HOSTS_VARIABLE} lists",
            logging.WARNING,
        )
    workspace = str(installation.project_file("workspace.yaml"))
    command = [sys.executable, "-m", "sync_pipeline.cli.local_services", "-w", workspace, "-h", host, "-p", str(port)]
    if logs.as_json():
        command += ["--log-format", "json"]
        # Code servers take it from the environment alone.
        os.environ["DAGSTER_CLI_API_GRPC_LOG_FORMAT"] = os.environ["DAGSTER_CLI_CODE_SERVER_START_LOG_FORMAT"] = "json"
        # Every process sets up its own log with it.
        startup = str(Path(logs.__file__).parent / "startup")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [startup, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(command, start_new_session=True, cwd=os.environ["DAGSTER_HOME"])
    with _ending(process) as told, reloading_on_change(tenants, url):
        code = process.wait()
    return 0 if told else code


@contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM on as SIGINT, on which the supervisor ends its children."""
    told: list[int] = []

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        told.append(number)
        process.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
