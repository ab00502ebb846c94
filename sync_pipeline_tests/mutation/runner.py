"""Runs tests against mutants, each in a copy of the project that has nothing else changed."""

import multiprocessing
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import cache_from_source
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Final

from sync_pipeline_tests.mutation import child
from sync_pipeline_tests.mutation.operators import Mutant

ROOT: Final = Path(__file__).parents[2]
# Libraries that take long to import.
PRELOADED: Final = ("pytest", "hypothesis", "dagster", "dagster_postgres", "pandas", "alembic", "requests", "pydantic")
# For fixtures to end their servers after a test was interrupted.
ENDING_S: Final = 60.0
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) sync_pipeline_tests/(\S+)", re.MULTILINE)


class Outcome(StrEnum):
    """What became of a mutant. One is undecided whose tests, none of which failed, took too long all together."""

    KILLED = "killed"
    SURVIVED = "survived"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a test, and all tests of a mutant, may take, in seconds. A test that takes longer has failed."""

    test_s: float
    mutant_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one mutant; `killer` is the first test that failed, where pytest named one."""

    mutant: Mutant
    outcome: Outcome
    seconds: float
    killer: str | None


class TestsFailError(Exception):
    """The tests do not pass without any change, or could not be run, so that they prove nothing about mutants."""

    __test__ = False


class Copy:
    """A copy of the project, in which one file at a time is changed."""

    def __init__(self, folder: Path, context: ForkServerContext) -> None:
        self._folder = folder
        self._context = context
        self._log = folder.with_suffix(".log")
        # Tests of the embedded server run as another user, who must be able to read the copy.
        folder.mkdir(mode=0o755)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        for compiled in (path for package in child.PACKAGES for path in ROOT.glob(f"{package}/**/__pycache__")):
            target = folder / compiled.relative_to(ROOT)
            if target.parent.is_dir():
                shutil.copytree(compiled, target)

    def test(self, mutant: Mutant, tests: Sequence[str], *, seed: int, limits: Limits) -> Result:
        """Run the tests against a mutant."""
        with self._changed(mutant):
            code, seconds = self._run(tests, seed, limits)
        killer = self._failed_test()
        if code == 0:
            return Result(mutant, Outcome.SURVIVED, seconds, None)
        outcome = Outcome.KILLED if code is not None or killer else Outcome.UNDECIDED
        return Result(mutant, outcome, seconds, killer)

    def test_unchanged(self, tests: Sequence[str], *, seed: int, limits: Limits) -> None:
        """Run the tests without a change. Raises `TestsFailError`."""
        code, _ = self._run(tests, seed, limits)
        if code != 0:
            what = f"exit code {code}" if code is not None else f"no end within {limits.mutant_s:g} s"
            raise TestsFailError(f"{what}:\n{self._log.read_text(errors='replace')[-3000:]}")

    @contextmanager
    def _changed(self, mutant: Mutant) -> Iterator[None]:
        file = self._folder / "sync_pipeline" / mutant.path
        original = file.read_bytes()
        # Compiled code is told apart by size and second only.
        compiled = Path(cache_from_source(str(file)))
        compiled.unlink(missing_ok=True)
        file.write_bytes(mutant.applied(original))
        try:
            yield
        finally:
            file.write_bytes(original)
            compiled.unlink(missing_ok=True)

    def _run(self, tests: Sequence[str], seed: int, limits: Limits) -> tuple[int | None, float]:
        """Run the tests; return the exit code, None where they did not end in time, and the seconds."""
        began = time.monotonic()
        process = self._context.Process(
            target=child.run_tests, args=(str(self._folder), list(tests), seed, limits.test_s, str(self._log))
        )
        process.start()
        process.join(limits.mutant_s)
        code = process.exitcode
        if code is None:
            _end(process)
        return code, time.monotonic() - began

    def _failed_test(self) -> str | None:
        match = _FAILED.search(self._log.read_text(errors="replace"))
        return match[1] if match else None


def _end(process: ForkServerProcess) -> None:
    """End a test run; its fixtures get time to stop their servers."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGINT)
        process.join(ENDING_S)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()


def run(
    mutants: Iterable[tuple[Mutant, Sequence[str]]], *, workers: int, seed: int, limits: Limits, baseline: bool
) -> Iterator[Result]:
    """Yield the result of each mutant as it comes; each with the test files to run.

    With `baseline` every test file is run without a change before. Raises `TestsFailError` where that fails.
    """
    wanted = list(mutants)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(workers):
            copies.put(Copy(Path(folder) / f"copy-{number}", context))

        def test(mutant: Mutant, tests: Sequence[str]) -> Result:
            copy = copies.get()
            try:
                return copy.test(mutant, tests, seed=seed, limits=limits)
            finally:
                copies.put(copy)

        def test_unchanged(test_file: str) -> None:
            copy = copies.get()
            try:
                copy.test_unchanged([test_file], seed=seed, limits=limits)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(workers) as pool:
            try:
                if baseline:
                    files = dict.fromkeys(test_file for _, tests in wanted for test_file in tests)
                    for _ in pool.map(test_unchanged, files):
                        pass
                for done in as_completed([pool.submit(test, mutant, tests) for mutant, tests in wanted]):
                    yield done.result()
            finally:
                # After an interrupt or a failure, what has begun ends, and nothing more begins.
                pool.shutdown(cancel_futures=True)
