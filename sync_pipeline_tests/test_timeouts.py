"""A test that hangs fails, whatever it is that hangs."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HANGING = """
import time
import pytest

@pytest.mark.timeout(1)
def test_hangs():
    time.sleep(60)

@pytest.mark.timeout(1)
def test_swallows_the_timeout():
    try:
        time.sleep(60)
    except BaseException:
        pass

def test_passes():
    pass
"""


def test_a_hanging_test_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    project = Path(__file__).parents[1]
    plugin = ["-p", "sync_pipeline_tests.conftest", "-c", str(project / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *plugin, "-n", "0", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project)
    assert done.stdout.startswith("FF."), done.stdout
    assert "Timeout (>1.0s) from pytest-timeout" in done.stdout
    assert "the test took longer than 1 s" in done.stdout
    assert done.returncode == 1
