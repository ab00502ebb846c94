"""Bounded reads of files whose content and kind are not under our control."""

import codecs
import os
import stat
from pathlib import Path
from typing import Final

from sync_pipeline.errors import SyncPipelineError

# O_NONBLOCK: a pipe that replaces the file after the first check must not block the open.
_READ_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
)
UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MAX_CONFIGURATION_BYTES: Final = 1_000_000
"""The limit for files that configure an installation."""
_CHUNK_BYTES: Final = 1 << 20
_BYTES_PER_KB: Final = 1_000
_BYTES_PER_MB: Final = 1_000_000


class FileReadError(SyncPipelineError):
    """A file cannot be read; `why` completes a sentence that begins with its path."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{shown_path(path)} {why}")


class FileMissingError(FileReadError):
    """The file, or the target of a link, does not exist."""


class NotARegularFileError(FileReadError):
    """The path names a folder, pipe, socket or device."""


class NotTextError(FileReadError):
    """The file does not hold UTF-8 text."""


class FileTooLargeError(FileReadError):
    """The file holds more bytes than `limit`."""

    def __init__(self, path: Path, limit: int) -> None:
        self.limit = limit
        super().__init__(path, f"is larger than {_shown_size(limit)}, the limit for this kind of file")


def read_regular_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; symbolic links are followed.

    Raises FileReadError. Never blocks on a pipe or device, and never reads more than `limit` + 1 bytes, even while
    another process appends to the file.
    """
    try:
        # Opening a device can have side effects, so its kind is checked before.
        _require_regular(path, path.stat())
        descriptor = os.open(path, _READ_FLAGS)
        try:
            status = os.fstat(descriptor)
            _require_regular(path, status)
            if status.st_size > limit:
                raise FileTooLargeError(path, limit)
            content = _read(descriptor, limit + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise FileMissingError(path, f"cannot be read ({error.strerror})") from None
    except OSError as error:
        raise FileReadError(path, f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise FileReadError(path, "cannot be read (no file can have this name)") from None
    if len(content) > limit:
        raise FileTooLargeError(path, limit)
    return content


def read_text_file(path: Path, limit: int) -> str:
    """Return the text of a file as `read_regular_file` reads it; a byte order mark of UTF-8 is dropped.

    Raises FileReadError, and never quotes the content.
    """
    content = read_regular_file(path, limit)
    if problem := text_problem(content):
        raise NotTextError(path, problem)
    return content.decode("utf-8-sig")


def text_problem(content: bytes) -> str | None:
    """Return why a file's content is not UTF-8 text and what to do; None if it is UTF-8 text."""
    if content.startswith(UTF16_MARKS):
        return "is UTF-16 text; save it as UTF-8"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"is not UTF-8 text (line {line}, byte {error.start}); save it as UTF-8"
    if b"\0" in content:
        return "holds NUL bytes, as UTF-16 text and binary files do; save it as UTF-8 text"
    return None


def shown_path(path: Path) -> str:
    """Return the path as one line of valid Unicode text: control characters and undecodable bytes are escaped."""
    text = str(path)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise NotARegularFileError(path, "is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise NotARegularFileError(path, "is a pipe, socket or device, not a regular file")


def _read(descriptor: int, limit: int) -> bytes:
    chunks = []
    while limit and (chunk := os.read(descriptor, min(limit, _CHUNK_BYTES))):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _shown_size(limit: int) -> str:
    return f"{limit // _BYTES_PER_MB} MB" if limit >= _BYTES_PER_MB else f"{limit // _BYTES_PER_KB} kB"
