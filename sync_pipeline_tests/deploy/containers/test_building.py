"""Builds behind a mirror with a certificate and a password of its own; what was needed for them stays outside."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.containers.engine import Engine, EngineError, run
from sync_pipeline_tests.deploy.containers.installation import copy_checkout
from sync_pipeline_tests.deploy.containers.mirror import PASSWORD, Mirror, mirror
from sync_pipeline_tests.deploy.containers.test_image import LARGEST_IMAGE_BYTES, OFFICIAL_BASE_BYTES

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def index(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror that builds reach on the address that the engine has in its default network."""
    [network] = engine.inspect("--type", "network", "bridge")["IPAM"]["Config"]
    with mirror(network["Gateway"], tmp_path_factory.mktemp("mirror")) as served:
        yield served


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("context"))


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    """A tag for an image that is deleted after the test."""
    name = f"sync-pipeline-build:{secrets.token_hex(4)}"
    yield name
    engine.docker("image", "rm", "--force", name, check=False)


def build(checkout: Path, tag: str, *options: str, file: str = "deploy/Dockerfile", buildkit: bool = True) -> str:
    """Build as README.md says, and return what the build printed."""
    done = run(
        "docker", "build", "-f", file, "-t", tag, *options, ".", folder=checkout, DOCKER_BUILDKIT=str(int(buildkit))
    )
    return done.stdout + done.stderr


def test_an_image_for_kubernetes_is_built_behind_the_mirror(
    engine: Engine, index: Mirror, checkout: Path, tag: str
) -> None:
    index.answered.clear()
    build(
        checkout,
        tag,
        "--build-arg",
        "EXTRAS=auth kubernetes",
        "--build-arg",
        f"INDEX_URL={index.url}",
        "--build-arg",
        "REVISION=0123abc",
        "--secret",
        f"id=ca,src={index.authority}",
        "--secret",
        f"id=netrc,src={index.netrc}",
    )
    assert any("/dagster-k8s" in path for path in index.answered)
    engine.run_once(tag, "python", "-c", "import dagster_k8s, sync_pipeline.webserver", options=["--read-only"])
    assert_small(engine, tag)
    labels = engine.inspect("--type", "image", tag)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == "0123abc"
    assert_nothing_left(engine, tag, index)


def test_a_build_without_the_certificate_fails(index: Mirror, checkout: Path, tag: str) -> None:
    with pytest.raises(EngineError, match=r"(?i)certificate"):
        build(
            checkout,
            tag,
            "--target",
            "tools",
            "--no-cache",
            "--build-arg",
            f"INDEX_URL={index.url}",
            "--secret",
            f"id=netrc,src={index.netrc}",
        )


def test_a_build_without_buildkit_takes_an_argument(index: Mirror, checkout: Path, tag: str) -> None:
    without = checkout / "Dockerfile.without-buildkit"
    without.write_text(re.sub(r"--mount=\S+ *", "", (checkout / "deploy" / "Dockerfile").read_text()))
    address = index.url.replace("https://", f"https://builder:{PASSWORD}@")
    arguments = ("--target", "tools", "--no-cache", "--build-arg", f"INDEX_URL={address}")
    authority = index.authority.read_text()
    with pytest.raises(EngineError, match=r"(?i)certificate"):
        build(checkout, tag, *arguments, file=str(without), buildkit=False)
    build(checkout, tag, *arguments, "--build-arg", f"CA_CERTIFICATES={authority}", file=str(without), buildkit=False)


def assert_small(engine: Engine, image: str) -> None:
    own = engine.layers_above(image, compose.base_image())
    assert sum(layer.size for layer in own) + OFFICIAL_BASE_BYTES < LARGEST_IMAGE_BYTES, own


def assert_nothing_left(engine: Engine, image: str, index: Mirror) -> None:
    """Look for the mirror's address, password and certificate in the files and the description of an image."""
    described = engine.docker("inspect", image).stdout + engine.docker("history", "--no-trunc", image).stdout
    address = index.url.removeprefix("https://").removesuffix("/simple/")
    marker = index.authority.read_text().splitlines()[1]
    for secret in (address, PASSWORD, marker):
        assert secret not in described
        found = engine.docker(
            "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "grep", image,
            "-rlF", "--exclude-dir=proc", "--exclude-dir=sys", "-e", secret, "/", check=False,
        )  # fmt: skip
        assert found.stdout == ""
        assert found.returncode == 1
