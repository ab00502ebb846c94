"""The real parts that tests are made of: an embedded Postgres with a fresh database each, and the sandbox over HTTP."""

import itertools
import logging
import os
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database, embedded, migrate
from sync_pipeline_tests import templates
from sync_pipeline_tests.fixtures.v0_1_0 import restore as v0_1_0
from sync_pipeline_tests.folders import open_folder_for_server
from sync_pipeline_tests.pipeline import Pipeline, administrator, all_seeing, copied_demo_tenants
from sync_pipeline_tests.sandboxes import demanding

_numbers = itertools.count(1)

# An example that takes long on a busy machine is no failure; pytest ends a test that hangs.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("project")


_began = pytest.StashKey[float]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that a developer runs after every change: see CONTRIBUTING.md."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "server" not in fixtures and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.quick)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """Note when a test and its fixtures begin, before pytest-timeout starts its timer."""
    item.stash[_began] = time.monotonic()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that has exceeded its timeout, also if the code under test has caught the exception that says so.

    Dagster catches whatever ends a step, so a run that hangs would otherwise just be a run that fails.
    """
    yield
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker else item.config.getini("timeout") or 0)
    if limit and time.monotonic() - item.stash[_began] > limit:
        pytest.fail(f"the test took longer than {limit:g} s")


@pytest.fixture(autouse=True)
def _log_of_the_http_library() -> None:
    """Let urllib3 log, whose lines tests search for secrets: importing the client of Kubernetes silences it."""
    logging.getLogger("urllib3").setLevel(logging.NOTSET)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for an embedded server of the test's own."""
    with open_folder_for_server() as folder:
        yield folder


@pytest.fixture(scope="session")
def server() -> Iterator[URL]:
    """The URL of an embedded server's migrated database, which others are copied from."""
    with open_folder_for_server() as folder:
        url = database.parse_url(embedded.start(folder / "pg"))
        _keep_nothing_safe(url)
        database.create_database(url)
        engine = database.connect(url)
        migrate.migrate(engine)
        engine.dispose()
        yield url
        embedded.stop(folder / "pg")


def _keep_nothing_safe(url: URL) -> None:
    """Let the server skip every wait for the disk: its data is gone after the tests in any case."""
    with administrator(url).connect() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sa.text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


@pytest.fixture
def warehouse_url(server: URL) -> Iterator[URL]:
    """The URL of a fresh warehouse with its tables."""
    url = server.set(database=f"warehouse_{os.getpid()}_{next(_numbers)}")
    templates.copy(server, url)
    yield url
    templates.drop(url)


@pytest.fixture(scope="session")
def dagster_database(server: URL) -> Iterator[URL]:
    """The URL of a database with Dagster's tables, which others are copied from."""
    with templates.dagster_database(server) as url:
        yield url


@pytest.fixture
def engine(warehouse_url: URL) -> Iterator[sa.Engine]:
    """An engine on a fresh warehouse that sees the rows of every tenant."""
    engine = database.connect(all_seeing(warehouse_url))
    yield engine
    engine.dispose()


@pytest.fixture
def database_v0_1_0(server: URL) -> Iterator[v0_1_0.Databases]:
    """Both databases of an installation of version 0.1.0, not yet migrated."""
    with v0_1_0.restored(server) as databases:
        yield databases


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """The sandbox over HTTP, small, on the afternoon of 20 October 2026 in Manila."""
    now = datetime(2026, 10, 20, 7, 0, tzinfo=UTC)
    with SandboxServer(ads=12, orders=20, now=lambda: now, behaviour=demanding()) as server:
        yield server


@pytest.fixture
def pipeline(
    sandbox: SandboxServer,
    warehouse_url: URL,
    engine: sa.Engine,
    dagster_database: URL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pipeline]:
    """The demo tenants' definitions on the sandbox and a fresh warehouse, with a Dagster instance of their own."""
    for variable, value in sandbox.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SYNC_PIPELINE_DATABASE_URL", warehouse_url.render_as_string(hide_password=False))
    monkeypatch.setenv("SYNC_PIPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SYNC_PIPELINE_TENANTS", str(copied_demo_tenants(tmp_path / "tenants")))
    with templates.dagster_instance(dagster_database, tmp_path) as instance:
        yield Pipeline(sandbox, engine, instance, tmp_path / "tenants")
