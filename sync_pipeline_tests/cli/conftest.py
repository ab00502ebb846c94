"""A terminal whose environment points at the sandbox and a fresh warehouse."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.engine import URL

from sync_pipeline.cli import installation
from sync_pipeline.definitions import build_definitions
from sync_pipeline.resources import open_warehouse
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.settings import Settings
from sync_pipeline.warehouse import database
from sync_pipeline_tests import templates
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.cli.ui import Ui, wait_until_served
from sync_pipeline_tests.pipeline import copied_demo_tenants, schedule_months_ahead
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import PATIENCE_S


@pytest.fixture
def shell(sandbox: SandboxServer, warehouse_url: URL, dagster_database: URL, tmp_path: Path) -> Iterator[Shell]:
    with opened_shell(sandbox, warehouse_url, dagster_database, tmp_path) as shell:
        yield shell


@contextmanager
def opened_shell(sandbox: SandboxServer, warehouse_url: URL, dagster_database: URL, folder: Path) -> Iterator[Shell]:
    """Open a terminal in a folder with the demo tenants, on storage of its own for Dagster."""
    copied_demo_tenants(folder / "tenants")
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    storage = database.beside(warehouse_url, "_dagster")
    templates.copy_for_dagster(dagster_database, storage)
    yield Shell(
        folder,
        {
            **inherited,
            **sandbox.environment,
            "SYNC_PIPELINE_DATABASE_URL": warehouse_url.render_as_string(hide_password=False),
        },
    )
    templates.drop(storage)


@pytest.fixture
def installed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """The same terminal in this process, where starting Python anew for every command would take too long."""
    for variable in ("DAGSTER_HOME", "DAGSTER_POSTGRES_URL", "SYNC_PIPELINE_HOME", "SYNC_PIPELINE_TENANTS"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    for variable, value in shell.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(shell.folder)
    settings = installation.prepare(Settings.from_environment())
    with dg.DagsterInstance.get() as instance, open_warehouse() as warehouse:
        yield Installed(instance, warehouse, build_definitions(settings))


@pytest.fixture
def served(shell: Shell) -> Iterator[tuple[Ui, "subprocess.Popen[str]"]]:
    with serving(shell) as served:
        yield served


@contextmanager
def serving(shell: Shell) -> Iterator[tuple[Ui, "subprocess.Popen[str]"]]:
    """Run `dev` until the context ends, with schedules that do not fire meanwhile."""
    for file in shell.tenants.glob("*.yaml"):
        file.write_text(schedule_months_ahead(file.read_text()))
    port, log = reserve_port(), shell.folder / "dev.log"
    with log.open("w") as output:
        process = shell.start("dev", "--port", str(port), to=output)
    ui = Ui(f"http://127.0.0.1:{port}/graphql")
    try:
        wait_until_served(ui, process, log)
        yield ui, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
