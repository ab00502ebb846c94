"""Databases that are created once and copied for each test: creating their tables takes longer than most tests."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
import yaml
from sqlalchemy.engine import URL

from sync_pipeline.storage import PooledPostgresStorage
from sync_pipeline.warehouse import database
from sync_pipeline_tests.pipeline import administrator

_numbers = itertools.count(1)


@contextmanager
def dagster_database(server: URL) -> Iterator[URL]:
    """Create a database that has the tables of Dagster's storage, and drop it at the end."""
    url = _numbered(server)
    database.create_database(url)
    storage = PooledPostgresStorage(
        url.render_as_string(hide_password=False), should_autocreate_tables=True, inst_data=None
    )
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        part.dispose()
    yield url
    drop(url)


@contextmanager
def dagster_instance(template: URL, folder: Path) -> Iterator[dg.DagsterInstance]:
    """Open a Dagster instance with the project's storage on a copy of a database, and drop the copy at the end."""
    url = _numbered(template)
    copy_for_dagster(template, url)
    storage = {
        "module": PooledPostgresStorage.__module__,
        "class": PooledPostgresStorage.__name__,
        "config": {"postgres_url": url.render_as_string(hide_password=False)},
    }
    # By default, Dagster starts two processes for each step, which copy what it prints into a file.
    uncaptured = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    # Processes that a test starts open the same instance by its folder.
    settings = {"storage": {"custom": storage}, "compute_logs": uncaptured}
    (folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance
    drop(url)


def copy(template: URL, url: URL) -> None:
    """Create a database as a copy of another one, file by file: the default also writes every block to the log."""
    owner = f'OWNER "{template.username}" STRATEGY FILE_COPY'
    _execute(url, f'CREATE DATABASE "{url.database}" TEMPLATE "{template.database}" {owner}')


def copy_for_dagster(template: URL, url: URL) -> None:
    """Create a database of Dagster's as a copy of another one, out of reach of a tenant's reader."""
    copy(template, url)
    # A copy has the default rights of a new database.
    _execute(url, f'REVOKE ALL ON DATABASE "{url.database}" FROM PUBLIC')


def drop(url: URL) -> None:
    """Drop a database if it exists."""
    _execute(url, f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)')


def _numbered(server: URL) -> URL:
    return server.set(database=f"dagster_{os.getpid()}_{next(_numbers)}")


def _execute(url: URL, statement: str) -> None:
    with administrator(url).connect() as connection:
        connection.execute(sa.text(statement))
