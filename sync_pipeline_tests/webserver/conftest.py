"""The guarded webserver on a small code location."""

from collections.abc import Iterator

import pytest
from dagster._core.workspace.context import WorkspaceProcessContext

from sync_pipeline_tests.webserver.running import Running, running_webserver, workspace


@pytest.fixture(scope="session")
def location(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkspaceProcessContext]:
    with workspace(tmp_path_factory.mktemp("instance")) as context:
        yield context


@pytest.fixture
def running(location: WorkspaceProcessContext) -> Iterator[Running]:
    """A webserver with a login, on a root path."""
    with running_webserver(location, location.instance) as running:
        yield running
