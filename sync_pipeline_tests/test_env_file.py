"""The `.env` file as people save it."""

import os
from pathlib import Path

import pytest

from sync_pipeline.env_file import load_env_file
from sync_pipeline.files import FileReadError

VARIABLE = "SYNC_PIPELINE_TEST_VARIABLE"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that the test's end removes what the file sets.
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_variables_of_the_file_are_set(tmp_path: Path, encoding: str) -> None:
    (tmp_path / ".env").write_text(f"{VARIABLE}=caf\u00e9\r\n", encoding=encoding)
    load_env_file(tmp_path)
    assert os.environ[VARIABLE] == "caf\u00e9"


def test_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "from outside")
    (tmp_path / ".env").write_text(f"{VARIABLE}=from the file\n")
    load_env_file(tmp_path)
    assert os.environ[VARIABLE] == "from outside"


def test_missing_file_changes_nothing(tmp_path: Path) -> None:
    load_env_file(tmp_path)
    assert VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"{VARIABLE}=MARKER\u00e9\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        (f"{VARIABLE}=MARKER\n".encode("utf-16-le"), "holds NUL bytes, as UTF-16 text and binary files do; save it"),
        (f"A=1\n{VARIABLE}=MARKER\u00e9\n".encode("latin-1"), "is not UTF-8 text (line 2, byte 38); save it as UTF-8"),
        (f"A=1\n{VARIABLE} MARKER\n".encode(), "cannot be used: line 2 is not NAME=value"),
        (f"A=1\r\n\r\n  \r\n{VARIABLE} MARKER\r\n".encode(), "cannot be used: line 4 is not NAME=value"),
    ],
    ids=["UTF-16", "UTF-16 without a mark", "Latin-1", "a line without =", "after blank lines"],
)
def test_unreadable_file_is_one_error_without_its_content(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(FileReadError) as raised:
        load_env_file(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/.env {why}")
    assert "MARKER" not in str(raised.value)
    assert VARIABLE not in os.environ
