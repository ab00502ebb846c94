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
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def query(url: URL, statement: str) -> list[tuple[object, ...]]:
    engine = database.connect(all_seeing(url))
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(statement))]
    engine.dispose()
    return rows
