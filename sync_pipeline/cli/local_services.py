"""Supervisor of the UI, the daemon and the code servers of `sync-pipeline dev` and `demo`, in a process of its own.

It stands in for `dagster dev`, whose webserver accepts requests from every web page that its user visits. It ends on
SIGINT, and exits with code 1 if the webserver or the daemon ends before.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import click
import dagster as dg

from sync_pipeline.dagster_internals.local_services import DAEMON, configure_loggers, shared_code_servers

CHECK_EVERY_S = 0.5
# A daemon finishes what it is about to submit.
STOP_TIMEOUT_S = 60

_logger = logging.getLogger("dagster")


@click.command()
@click.option("--workspace", "-w", required=True)
@click.option("--host", "-h", required=True)
@click.option("--port", "-p", type=int, required=True)
@click.option("--log-format", type=click.Choice(["colored", "json"]), default="colored")
def main(workspace: str, host: str, port: int, log_format: str) -> None:
    """Run everything until SIGINT."""
    # As `dagster dev` does; Dagster's processes then behave as on a developer's machine.
    os.environ["DAGSTER_IS_DEV_CLI"] = "1"
    os.environ.setdefault("DAGSTER_verbose", "")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    configure_loggers(formatter=log_format, log_level="INFO")
    _logger.info("Launching Dagster services...")
    try:
        with dg.DagsterInstance.get() as instance, shared_code_servers(instance, workspace, "warning") as servers:
            common = ["-w", str(servers), "--log-format", log_format]
            listen = ["--host", host, "--port", str(port), "--dagster-log-level", "info"]
            commands = {
                "webserver": ["sync_pipeline.webserver.local", *listen, *common, "--code-server-log-level", "warning"],
                "daemon": [DAEMON, "run", "--log-level", "info", *common],
            }
            with _running(commands) as services:
                sys.exit(_wait(services))
    except KeyboardInterrupt:
        _logger.info("Dagster services shut down.")


def _wait(services: Mapping[str, "subprocess.Popen[bytes]"]) -> int:
    """Return 1 once a service has ended; it is not meant to."""
    while True:
        for name, process in services.items():
            if process.poll() is not None:
                _logger.error(f"the {name} ended unexpectedly, with exit code {process.returncode}")
                return 1
        time.sleep(CHECK_EVERY_S)


@contextmanager
def _running(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Start a process per command, and end them all."""
    services: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            services[name] = subprocess.Popen([sys.executable, "-m", *command])
        yield services
    finally:
        for process in services.values():
            process.send_signal(signal.SIGINT)
        for name, process in services.items():
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                _logger.warning(f"the {name} did not end within {STOP_TIMEOUT_S} s and is killed")
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
