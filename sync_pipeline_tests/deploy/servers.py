"""Servers of several versions of Postgres, each set up by the script of deploy/postgres."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync_pipeline_tests.conftest import open_folder_for_server
from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.compose import DEPLOY
from sync_pipeline_tests.deploy.machines import HERE
from sync_pipeline_tests.deploy.postgres import BINARIES, OLDEST, Postgres

SUPERUSER_PASSWORD = "superuser's @/%: marker"
OWNER_PASSWORD = "owner's @/%: marker"
needs_oldest = pytest.mark.skipif(not OLDEST.is_dir(), reason=f"PostgreSQL 15 is not installed in {OLDEST}")


@contextmanager
def running(binaries: Path = BINARIES) -> Iterator[Postgres]:
    """Start a server with the databases and the owner that an installation has."""
    with open_folder_for_server() as folder:
        for name, password in (("superuser_password", SUPERUSER_PASSWORD), ("database_password", OWNER_PASSWORD)):
            (folder / name).write_text(password)
        environment = {
            name: value.replace("/run/secrets", str(folder))
            for name, value in compose.service("postgres").environment.items()
        }
        postgres = Postgres(folder / "postgres", (HERE.address,), HERE.port(5432), environment, binaries=binaries)
        postgres.make(DEPLOY / "postgres" / "make-databases.sh")
        try:
            yield postgres
        finally:
            postgres.stop("immediate")
