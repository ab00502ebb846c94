"""What runs pytest in a process forked from one that has imported the large libraries, but nothing of the project."""

import os
import resource
import shutil
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

# A mutant may append to a list for ever.
MEMORY_BYTES = 8 * 2**30
PACKAGES = ("sync_pipeline", "sync_pipeline_tests", "benchmarks")
SELF_SUFFICIENT = ("rows", "sources")
NEED_A_SANDBOX = ("sources/test_on_sandbox.py",)


def run_tests(tree: str, tests: Sequence[str], seed: int, test_s: float, log: str) -> None:
    """Run test files of a copy of the project until the first failure; exits with the code of pytest."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with Path(log).open("wb") as out:
        for descriptor in (1, 2):
            os.dup2(out.fileno(), descriptor)
    os.chdir(tree)
    # The installed project is the original: processes that tests start must find the copy, too.
    os.environ["PYTHONPATH"] = tree
    sys.path.insert(0, tree)
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    # Failing examples of another mutant would be tried first.
    shutil.rmtree(".hypothesis", ignore_errors=True)
    options = ["-x", "-q", "-n0", "--no-header", "--tb=line", "-Wignore", "-pno:cacheprovider", "-oaddopts="]
    options += [f"--hypothesis-seed={seed}", f"-otimeout={test_s}"]
    code = 0
    for folder, group in groupby(tests, key=_folder_of_fixtures):
        options_of_group = [f"--confcutdir=sync_pipeline_tests/{folder}"] if folder else []
        files = [f"sync_pipeline_tests/{test}" for test in group]
        if code := int(pytest.main([*options, *options_of_group, *files])):
            break
    sys.stdout.flush()
    os._exit(code)


def _folder_of_fixtures(test: str) -> str | None:
    """Return the folder whose fixtures are all that a test file needs, None where it needs those of all tests.

    The fixtures of all tests import the whole project, which takes longer than most tests.
    """
    folder = test.partition("/")[0]
    return folder if folder in SELF_SUFFICIENT and test not in NEED_A_SANDBOX else None
