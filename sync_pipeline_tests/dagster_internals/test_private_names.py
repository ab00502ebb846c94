"""Private names of Dagster are used in one package, and each is still where that package looks for it."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sync_pipeline"
INTERNALS = PACKAGE / "dagster_internals"
NAME = re.compile(r"\w+(\.\w+)+")


def is_private(name: str) -> bool:
    """Whether a dotted name belongs to Dagster and one of its parts begins with an underscore."""
    first, *rest = name.split(".")
    return first.startswith("dagster") and any(part.startswith("_") for part in rest)


def imported_names(file: Path) -> Iterator[tuple[str, str]]:
    """The module and the name of each import of a file; the name is empty where a module is imported whole."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            # Such as the name of a module in a configuration, or in the arguments of a process.
            yield node.value, ""


def private_names(folder: Path) -> set[tuple[str, str]]:
    return {
        (module, name)
        for file in folder.rglob("*.py")
        for module, name in imported_names(file)
        if is_private(f"{module}.{name}" if name else module)
    }


@pytest.mark.parametrize(("module", "name"), sorted(private_names(INTERNALS)))
def test_dagster_has_every_private_name_in_use(module: str, name: str) -> None:
    found = importlib.import_module(module)
    assert not name or hasattr(found, name), f"Dagster has moved {module}.{name}"


def test_no_other_package_uses_a_private_name() -> None:
    elsewhere = {
        (str(file.relative_to(PACKAGE)), module, name)
        for file in PACKAGE.rglob("*.py")
        if INTERNALS not in file.parents
        for module, name in imported_names(file)
        if is_private(f"{module}.{name}" if name else module)
    }
    assert elsewhere == set()


def test_private_names_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(
        "from dagster._core import events\nimport dagster._utils\nfrom dagster import Config, _check\n"
        'module = "dagster._daemon"\nfrom dagster_postgres import utils\nfrom other._core import names\n'
    )
    assert private_names(tmp_path) == {
        ("dagster._core", "events"),
        ("dagster._utils", ""),
        ("dagster", "_check"),
        ("dagster._daemon", ""),
    }
