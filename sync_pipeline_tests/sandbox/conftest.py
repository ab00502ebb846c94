from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sync_pipeline.sandbox.server import SandboxServer

# A Friday noon in Manila.
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def shared_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(now=lambda: NOW) as server:
        yield server


@pytest.fixture
def sandbox(shared_sandbox: SandboxServer) -> SandboxServer:
    """The sandbox as it starts: what an earlier test did to it is undone. Its clock stands still at `NOW`."""
    shared_sandbox.reset()
    return shared_sandbox
