"""Benches: one on a fresh sandbox and warehouse per test, and the means for modules that share theirs."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database
from sync_pipeline_tests import templates
from sync_pipeline_tests.pipeline import all_seeing
from sync_pipeline_tests.sync.bench import Bench, demo_tenant

_numbers = itertools.count(1)


@pytest.fixture
def bench(sandbox: SandboxServer, engine: sa.Engine, tmp_path: Path) -> Bench:
    """Lumina on a sandbox and a warehouse of this test's own."""
    return Bench(sandbox, engine, demo_tenant(tmp_path))


@pytest.fixture(scope="module")
def shared_engine(server: URL) -> Iterator[sa.Engine]:
    """An engine on a warehouse that a module's tests share."""
    url = server.set(database=f"shared_{os.getpid()}_{next(_numbers)}")
    templates.copy(server, url)
    engine = database.connect(all_seeing(url))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def tenant_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for edited copies of the demo tenants' files."""
    return tmp_path_factory.mktemp("tenants")
