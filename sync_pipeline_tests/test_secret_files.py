"""Secrets of mounted files in the environment of a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_pipeline.secret_files import MAX_SECRET_BYTES, SECRET_VARIABLES, SecretFileError, load_secret_files

SECRET = "pa ss'w\"rd$HOME `x` %40"


@pytest.mark.parametrize("variable", SECRET_VARIABLES)
def test_a_secret_of_a_file_is_set_whatever_it_holds(variable: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    environ = {f"{variable}_FILE": str(tmp_path / "secret"), "OTHER": "1"}
    load_secret_files(environ)
    assert environ == {variable: SECRET, "OTHER": "1"}


def test_an_unset_or_empty_variable_changes_nothing() -> None:
    environ = {"PGPASSWORD": "given", "PGPASSWORD_FILE": "", "HOME_FILE": "/etc/hosts"}
    load_secret_files(environ)
    assert environ == {"PGPASSWORD": "given", "PGPASSWORD_FILE": "", "HOME_FILE": "/etc/hosts"}


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read"), (b"\xff\xfe", "UTF-8"), (b"x" * (MAX_SECRET_BYTES + 1), "larger")]
)
def test_an_unusable_file_is_an_error_without_its_content(content: bytes | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretFileError, match=f"PGPASSWORD_FILE is .*secret, which .*{why}") as raised:
        load_secret_files({"PGPASSWORD_FILE": str(file)})
    assert raised.value.file == file
    assert "xxx" not in str(raised.value)


@pytest.mark.parametrize("module", ["sync_pipeline.cli", "sync_pipeline.webserver.main"])
def test_commands_name_a_secret_file_that_is_missing(module: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PGPASSWORD_FILE": str(tmp_path / "none")}
    program = f"from {module} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "PGPASSWORD_FILE" in done.stderr
    assert done.stdout == ""
