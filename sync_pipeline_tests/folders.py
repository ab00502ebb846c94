"""Folders for the servers that tests start."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108
# A container engine gives 64 MB by default. The largest test stores a million rows.
NEEDED_IN_MEMORY = 4 << 30


@contextmanager
def open_folder_for_server() -> Iterator[Path]:
    """Make a folder for an embedded server, whose own user must reach it; it is deleted at the end.

    It is in memory where there is room: on a disk, creating and dropping databases takes longer than most tests. It is
    not in pytest's folder, which every pytest session that starts closes to other users.
    """
    parent = _memory_with_room()
    with tempfile.TemporaryDirectory(prefix="sp-", dir=parent, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _memory_with_room() -> Path | None:
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= NEEDED_IN_MEMORY:
        return MEMORY
    return None
