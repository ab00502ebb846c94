"""The stage of .ci/run that starts containers, on machines where it cannot."""

import os
import subprocess
from pathlib import Path

import pytest

from sync_pipeline_tests.deploy.compose import DEPLOY

SCRIPT = DEPLOY.parent / ".ci" / "containers"


def run(tmp_path: Path, *arguments: str, **commands: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with some of the machine's commands replaced."""
    for name, body in commands.items():
        command = tmp_path / name.replace("_", "-")
        command.write_text(f"#!/bin/sh\n{body}\n")
        command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ({"id": "echo 1000"}, "root is needed to start a container engine"),
        ({"id": "echo 0", "dpkg": "exit 0", "apt_get": "exit 0"}, "apt has no Debian mirror on this machine"),
    ],
)
def test_where_no_engine_starts_the_stage_says_why(tmp_path: Path, commands: dict[str, str], reason: str) -> None:
    done = run(tmp_path, **commands)
    assert done.stdout.splitlines()[-1] == f"The tests that start containers are skipped: {reason}."
    assert done.returncode == 0
    # It leaves nothing behind.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name.replace("_", "-") for name in commands)


def test_a_start_that_is_skipped_fails(tmp_path: Path) -> None:
    done = run(tmp_path, "start", str(tmp_path / "engine"), id="echo 1000")
    assert done.returncode == 1
    assert "root is needed" in done.stdout


def test_an_unknown_command_prints_the_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "restart")
    assert done.returncode == 2
    assert ".ci/containers stop FOLDER" in done.stderr
