"""A database for the users of each test, and a site over it."""

import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database
from sync_pipeline.webserver.login import passwords
from sync_pipeline_tests import templates
from sync_pipeline_tests.webserver.login.site import Site, environment, site

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def users_database(server: URL) -> Iterator[URL]:
    url = server.set(database=f"login_{os.getpid()}_{next(_numbers)}")
    database.create_database(url)
    yield url
    templates.drop(url)


@pytest.fixture
def users_url(users_database: URL) -> Iterator[URL]:
    """The URL of a database without tables."""
    yield users_database
    with sa.create_engine(users_database, poolclass=sa.NullPool).begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS users, login_attempts"))


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Argon2 with the least work: a test that signs in many times would mostly compute hashes."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    passwords._unknown_argon2.cache_clear()
    yield
    passwords._unknown_argon2.cache_clear()


@pytest.fixture
def ui(users_url: URL, cheap_hashes: None) -> Iterator[Site]:
    running = site(environment(users_url))
    yield running
    running.engine.dispose()


@pytest.fixture
def audit_lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """Audit lines so far, parsed."""
    logger = logging.getLogger("sync_pipeline.audit")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    return lambda: [json.loads(r.getMessage()) for r in caplog.records if r.name == "sync_pipeline.audit"]
