"""The image as it is built: its user, its files, what it does not contain, its size, and what a change replaces."""

import json
import re
import stat
import tarfile
import tomllib
from pathlib import PurePosixPath

import pytest

from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.containers.building import build_arguments
from sync_pipeline_tests.deploy.containers.engine import Engine
from sync_pipeline_tests.deploy.containers.installation import PROJECT, Installation

pytestmark = pytest.mark.containers

MB = 1_000_000
# The unpacked size of python:3.11-slim-bookworm, for which the tests may have a stand-in of another size.
OFFICIAL_BASE_BYTES = 135 * MB
LARGEST_IMAGE_BYTES = 500 * MB
LARGEST_CHANGE_BYTES = 5 * MB

USER_ID = 10001
WRITABLE = ("var/lib/dagster", "var/lib/sync_pipeline")
# Folders that every program may write to, of the base image and of the engine.
TEMPORARY = ("tmp", "var/tmp", "run/lock", "dev")
UNNEEDED = (
    r"(^|/)\.lock$",
    r"(^|/)(pip|uv|uvx|pytest|mypy|ruff|hatchling)$",
    r"(^|/)(ensurepip|pip|setuptools|wheel|uv|hatchling|pytest|playwright)(-[^/]+)?(\.dist-info)?/",
    r"pixeltable|pginstall|sync_pipeline_tests|^[^/]+/(requirements\.txt|pyproject\.toml)$",
    r"^(opt|usr/local)/.*/tests/.",
    r"^(root|home|nonexistent)/.*cache",
    r"^opt/.*\.(gitignore|whl)$|CACHEDIR\.TAG$",
    r"^(build|project|src)(/|$)",
    r"^etc/(passwd|group|shadow|gshadow)-$",
)

EVERY_MODULE = """
import importlib, pkgutil, sync_pipeline
skipped = {"sync_pipeline.warehouse.embedded"}
for module in pkgutil.walk_packages(sync_pipeline.__path__, "sync_pipeline."):
    if module.name not in skipped and not module.name.endswith(("__main__", "migrations.env")):
        importlib.import_module(module.name)
"""
MISSING_REQUIREMENTS = """
import importlib.metadata as metadata
from packaging.requirements import Requirement
for distribution in metadata.distributions():
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = metadata.version(requirement.name)
            assert requirement.specifier.contains(version, prereleases=True), (distribution.name, line, version)
"""
# Modules that processes of the image import, whose bytecode is missing or is compared with the date of its source.
UNCOMPILED = (
    EVERY_MODULE
    + """
import importlib.util, pathlib, sys
import dagster._cli, dagster._daemon.cli, dagster._grpc.server, dagster_postgres, dagster_webserver.cli
for module in list(sys.modules.values()):
    source = str(getattr(module, "__file__", None))
    if source.endswith(".py") and source.startswith(("/opt", "/usr")):
        compiled = pathlib.Path(importlib.util.cache_from_source(source))
        if not compiled.exists() or compiled.read_bytes()[4:8] != b"\\1\\0\\0\\0":
            print(source)
"""
)


@pytest.fixture(scope="module")
def files(engine: Engine, image: str) -> list[tarfile.TarInfo]:
    return engine.files(image)


def python(engine: Engine, image: str, code: str) -> str:
    """What a program prints that runs in the image as its own user, and cannot write to the file system."""
    return engine.run_once(image, "python", "-c", code, options=["--read-only"]).stdout


def test_user_and_group_of_the_processes_have_names(engine: Engine, image: str) -> None:
    assert engine.inspect("--type", "image", image)["Config"]["User"] == f"{USER_ID}:{USER_ID}"
    told = engine.run_once(image, "sh", "-c", "id; getent passwd 10001; getent group 10001").stdout.splitlines()
    assert told == [
        "uid=10001(sync_pipeline) gid=10001(sync_pipeline) groups=10001(sync_pipeline)",
        "sync_pipeline:x:10001:10001::/nonexistent:/usr/sbin/nologin",
        "sync_pipeline:x:10001:",
    ]


def test_only_the_state_folders_can_be_written_to(files: list[tarfile.TarInfo]) -> None:
    def is_writable(file: tarfile.TarInfo) -> bool:
        mine = (file.uid == USER_ID and file.mode & stat.S_IWUSR) or (file.gid == USER_ID and file.mode & stat.S_IWGRP)
        return bool(mine or file.mode & stat.S_IWOTH)

    found = [file.name for file in files if is_writable(file) and not file.issym() and not file.ischr()]
    assert sorted(name for name in found if not name.startswith(TEMPORARY)) == sorted(WRITABLE)


def test_no_file_gives_its_owners_rights(files: list[tarfile.TarInfo]) -> None:
    assert [file.name for file in files if file.isfile() and file.mode & (stat.S_ISUID | stat.S_ISGID)] == []


@pytest.mark.parametrize("pattern", UNNEEDED)
def test_the_image_has_nothing_unneeded(files: list[tarfile.TarInfo], pattern: str) -> None:
    assert [file.name for file in files if re.search(pattern, file.name)] == []


def test_the_image_has_nothing_of_the_checkout_but_the_package(files: list[tarfile.TarInfo]) -> None:
    ours = [PurePosixPath(file.name) for file in files if file.name.startswith("opt/sync_pipeline/auth/")]
    assert [path.name for path in ours] == ["dagster-webserver"]
    names = {PurePosixPath(file.name).name for file in files}
    assert {"Dockerfile", "compose.yaml", "lumina.yaml", "superuser_password"} & names == set()


def test_imported_modules_are_compiled(engine: Engine, image: str) -> None:
    assert python(engine, image, UNCOMPILED).splitlines() == []


def test_every_module_can_be_imported(engine: Engine, image: str) -> None:
    python(engine, image, EVERY_MODULE)


def test_every_requirement_is_installed(engine: Engine, image: str) -> None:
    python(engine, image, MISSING_REQUIREMENTS)


def test_the_command_line_starts(engine: Engine, image: str) -> None:
    assert "Usage: sync-pipeline" in engine.run_once(image, options=["--read-only"]).stdout


def test_labels_name_the_version_and_the_base(engine: Engine, image: str) -> None:
    labels = engine.inspect("--type", "image", image)["Config"]["Labels"]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == project["name"]
    assert labels[f"{prefix}description"] == project["description"]
    assert labels[f"{prefix}version"] == project["version"]
    assert labels[f"{prefix}base.name"] == compose.base_image()


def test_arguments_of_the_build_leave_nothing_in_the_image(engine: Engine, image: str) -> None:
    described = engine.docker("inspect", image).stdout + engine.docker("history", "--no-trunc", image).stdout
    for name in ("INDEX_URL", "CA_CERTIFICATES", "SSL_CERT_FILE", "netrc"):
        assert name not in described
    for value in build_arguments().values():
        assert value not in described
    variables = engine.inspect("--type", "image", image)["Config"]["Env"]
    wanted = compose.image_variables()
    # The base's own aside.
    assert {name: value for name, _, value in (line.partition("=") for line in variables) if name in wanted} == wanted
    assert not [line for line in variables if line.startswith(("UV_", "PIP_", "NETRC"))]


def test_the_image_is_small(engine: Engine, image: str) -> None:
    own = engine.layers_above(image, compose.base_image())
    assert sum(layer.size for layer in own) + OFFICIAL_BASE_BYTES < LARGEST_IMAGE_BYTES, own


def test_a_release_replaces_only_small_layers(engine: Engine, built: Installation) -> None:
    project = built.folder.parent
    changes = {
        project / "sync_pipeline" / "__init__.py": lambda text: text + "\nCHANGED = 1\n",
        project / "pyproject.toml": lambda text: text.replace('version = "0.1.0"', 'version = "0.1.1"'),
        project / "README.md": lambda text: text + "\nA new line.\n",
        project / "deploy" / "entrypoint": lambda text: text + "\n# A new line.\n",
    }
    before = {path: path.read_text() for path in changes}
    changed = ""
    try:
        for path, change in changes.items():
            path.write_text(change(before[path]))
            assert path.read_text() != before[path]
        changed = built.build(f"{built.version}-changed")
        new = engine.layers(changed)
    finally:
        for path, text in before.items():
            path.write_text(text)
        if changed:
            engine.docker("image", "rm", changed)
    old = {layer.digest for layer in engine.layers(built.image)}
    replaced = [layer for layer in new if layer.digest not in old]
    print(json.dumps([(layer.instruction[:80], layer.size) for layer in replaced]))
    assert 0 < sum(layer.size for layer in replaced) < LARGEST_CHANGE_BYTES, replaced
