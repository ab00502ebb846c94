"""The engine, the image that is built once, and an installation of it that runs."""

import os
import secrets
from collections.abc import Iterator

import pytest

from sync_pipeline_tests.deploy.containers.engine import Engine, find_engine
from sync_pipeline_tests.deploy.containers.installation import Installation, installation

LASTING = ("postgres", "code", "daemon", "webserver")
# Set by .ci/containers, which has started an engine: without one the tests then fail instead of being skipped.
NEED_ENGINE = "SYNC_PIPELINE_TESTS_NEED_ENGINE"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The container engine; without one the test is skipped."""
    found = find_engine()
    if isinstance(found, Engine):
        return found
    if os.environ.get(NEED_ENGINE):
        pytest.fail(f"{NEED_ENGINE} is set, but {found}")
    pytest.skip(f"{found}; see docs/testing_containers.md")


@pytest.fixture(scope="session")
def built(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with its image, as `docker compose build` makes it; nothing is started.

    The image has a tag of its own and is deleted at the end.
    """
    version = f"test-{secrets.token_hex(4)}"
    with installation(engine, tmp_path_factory.mktemp("checkout"), version) as made:
        made.compose("build")
        yield made
    engine.docker("image", "rm", "--force", made.image)


@pytest.fixture(scope="session")
def image(built: Installation) -> str:
    """The tag of the image."""
    return built.image


@pytest.fixture(scope="session")
def running(built: Installation) -> Installation:
    """The installation with all of its services running and one tenant, `acme`, beside the sandbox."""
    built.start_sandbox()
    built.add_tenant("acme", "lumina")
    built.compose("up", "--detach")
    built.ready()
    return built


@pytest.fixture
def whole(running: Installation) -> Installation:
    """The running installation, repaired after an earlier test: all services are up and the sandbox holds nothing."""
    running.sandbox.release()
    if any(running.state(service)["Status"] != "running" for service in LASTING):
        # It runs the migration again, which takes its time.
        running.compose("up", "--detach")
    running.ready()
    return running
