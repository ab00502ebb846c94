"""Reads of files whose kind and size are not known beforehand."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync_pipeline.files import (
    FileMissingError,
    FileReadError,
    FileTooLargeError,
    NotARegularFileError,
    read_regular_file,
    shown_path,
)


@pytest.fixture
def path() -> Iterator[Path]:
    # Below /tmp itself: the path of a socket must be short, and readable for other users.
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "file"


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_is_refused_without_being_opened(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SPECIAL[kind](path)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("was opened"))
    with pytest.raises(NotARegularFileError, match=r"file is a pipe, socket or device, not a regular file$"):
        read_regular_file(path, 100)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_replaced_after_the_first_check_is_refused(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("x")
    regular = path.stat()
    path.unlink()
    SPECIAL[kind](path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", lambda _: regular)
        with pytest.raises(NotARegularFileError):
            read_regular_file(path, 100)


def test_a_folder_is_refused(path: Path) -> None:
    with pytest.raises(NotARegularFileError, match="is a folder, not a file"):
        read_regular_file(path.parent, 100)


def test_links_to_a_regular_file_are_followed(path: Path) -> None:
    # A mounted config map is a link to a file below a linked folder.
    (path.parent / "version").mkdir()
    (path.parent / "version" / "file").write_bytes(b"content")
    (path.parent / "data").symlink_to("version")
    path.symlink_to("data/file")
    assert read_regular_file(path, 7) == b"content"


@pytest.mark.parametrize("target", ["nowhere", ""])
def test_a_missing_file_is_told_apart(path: Path, target: str) -> None:
    if target:
        path.symlink_to(target)
    with pytest.raises(FileMissingError, match=r"cannot be read \(No such file or directory\)"):
        read_regular_file(path, 100)


def test_a_loop_of_links_is_an_error(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(FileReadError, match=r"cannot be read \(Too many levels of symbolic links\)"):
        read_regular_file(path, 100)


def test_a_file_without_permission_is_an_error(path: Path) -> None:
    path.write_text("x")
    path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        with pytest.raises(FileReadError, match=r"cannot be read \(Permission denied\)"):
            read_regular_file(path, 100)
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize(("limit", "shown"), [(65_000, "65 kB"), (1_000_000, "1 MB"), (50_000_000, "50 MB")])
def test_a_file_over_the_limit_is_refused_unread(
    path: Path, limit: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with path.open("wb") as file:
        file.truncate(limit + 1)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("was read"))
    with pytest.raises(FileTooLargeError, match=f"is larger than {shown}, the limit for this kind of file"):
        read_regular_file(path, limit)


def test_a_file_of_exactly_the_limit_is_read(path: Path) -> None:
    path.write_bytes(b"x" * 3_000_000)
    assert len(read_regular_file(path, 3_000_000)) == 3_000_000


def test_a_file_that_grows_while_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"x")
    read = os.read
    taken = 0

    def read_and_grow(descriptor: int, count: int) -> bytes:
        nonlocal taken
        with path.open("ab") as file:
            file.write(b"x" * 1_000)
        content = read(descriptor, min(count, 500))
        taken += len(content)
        return content

    monkeypatch.setattr(os, "read", read_and_grow)
    with pytest.raises(FileTooLargeError):
        read_regular_file(path, 10_000)
    assert taken == 10_001


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_an_impossible_name_is_an_error(path: Path, name: str) -> None:
    with pytest.raises(FileReadError, match="cannot be read"):
        read_regular_file(path / name, 100)


def test_no_descriptor_stays_open(path: Path) -> None:
    path.write_bytes(b"x" * 200)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for limit in (100, 200):
        try:
            read_regular_file(path, limit)
        except FileTooLargeError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name-1.yaml", "plain name-1.yaml"),
        ("Đường.yaml".encode(), "Đường.yaml"),
        (b"caf\xe9.yaml", r"caf\udce9.yaml"),
        (b"two\nlines\x1b[2J", r"two\nlines\x1b[2J"),
    ],
)
def test_a_path_is_shown_as_one_printable_line(name: bytes, shown: str) -> None:
    found = shown_path(Path(os.fsdecode(name)))
    assert found == shown
    assert found.encode().decode().isprintable()
