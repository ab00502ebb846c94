"""A terminal in a test's hands."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database
from sync_pipeline_tests import warm
from sync_pipeline_tests.forks import fork, wait_for_exit
from sync_pipeline_tests.pipeline import all_seeing
from sync_pipeline_tests.waiting import PATIENCE_S


@dataclass
class Shell:
    """Runs `sync-pipeline` in a folder of its own."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def tenants(self) -> Path:
        return self.folder / "tenants"

    def start(self, *arguments: str, to: IO[str] | None = None, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "sync_pipeline.cli", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=to or subprocess.PIPE,
            stderr=to or subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in a process forked from one that has imported Dagster: importing takes seconds.

        Such a process does nothing at exit, so a command that starts the embedded server must be run alone.
        """
        out, err = self.folder / ".stdout", self.folder / ".stderr"
        process = fork(
            warm.run_command, arguments, str(self.folder), {**self.environment, **environment}, str(out), str(err)
        )
        code = wait_for_exit(process)
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def run_alone(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as a user does, in a Python process of its own."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def query(url: URL, statement: str) -> list[tuple[object, ...]]:
    engine = database.connect(all_seeing(url))
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(statement))]
    engine.dispose()
    return rows
