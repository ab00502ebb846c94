"""The webserver behind its login, in a test's hands: users, sessions, audit log, and Dagster's storage."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.cli.installation import project_file
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database
from sync_pipeline_tests.cli.shell import query
from sync_pipeline_tests.cli.ui import REPOSITORY, START
from sync_pipeline_tests.pipeline import copied_demo_tenants

USERS = {"vic": "viewer", "lee": "launcher", "ada": "admin"}
NOBODY = "nobody"
SECRET_KEY = "signs-the-sessions-of-this-test-only"
SERVICE_TOKEN = "shows-that-a-program-of-this-test-asks"
SCHEDULE = {**REPOSITORY, "scheduleName": "lumina__daily_sync_schedule"}
SWITCH = """query ($selector: ScheduleSelector!) {
  scheduleOrError(scheduleSelector: $selector) { ... on Schedule { scheduleState { id status } } }
}"""


def password(user: str) -> str:
    return f"{user}: päss/word @ 1%40"


def form_token(page: requests.Response) -> str:
    [token] = re.findall(r'name="csrf_token" value="([^"]+)"', page.text)
    return token


def form_cookie(page: requests.Response) -> str:
    """The cookie of a page with a form; it is for TLS alone, so requests would not send it to these addresses."""
    return page.headers["set-cookie"].partition(";")[0]


@dataclass
class Guarded:
    """Asks as one of the users, or as nobody, and looks behind the scenes."""

    folder: Path
    storage: URL
    environment: Mapping[str, str]
    address: str = ""
    sessions: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return (self.folder / "webserver.log").read_text()

    @property
    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines() if '"logger": "sync_pipeline.audit"' in line]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        with (self.folder / "webserver.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "sync_pipeline.webserver", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                text=True,
            )

    def manage(self, *arguments: str) -> None:
        """One of the commands for users."""
        process = self.start(*arguments)
        assert process.wait(60) == 0, self.log

    def log_in(self, user: str, using: str | None = None) -> str | None:
        """Sign in by the login page; returns where it leads, and keeps the session if it leads home."""
        page = self.ask(NOBODY, "GET", "/auth/login")
        form = {"username": user, "password": using or password(user), "next": "/", "csrf_token": form_token(page)}
        answer = self.ask(NOBODY, "POST", "/auth/login", {"Cookie": form_cookie(page)}, data=form)
        if answer.headers.get("location") == "/":
            self.sessions[user] = answer.headers["set-cookie"]
        return answer.headers.get("location")

    def sign_out(self, user: str) -> str | None:
        """Sign out by the button; returns where it leads."""
        page = self.ask(user, "GET", "/auth/logout")
        cookies = {"Cookie": f"{self.cookie(user)}; {form_cookie(page)}"}
        answer = self.ask(NOBODY, "POST", "/auth/logout", cookies, data={"csrf_token": form_token(page)})
        return answer.headers.get("location")

    def cookie(self, user: str) -> str:
        return self.sessions[user].partition(";")[0]

    def ask(self, user: str, method: str, path: str, headers: Mapping[str, str] | None = None, **how: Any) -> Any:
        """Send a request in the session of a user, or of nobody, and return the response."""
        cookie = {} if user == NOBODY else {"Cookie": self.cookie(user)}
        return requests.request(
            method,
            f"{self.address}{path}",
            headers={**cookie, **(headers or {})},
            allow_redirects=False,
            timeout=60,
            **how,
        )

    def graphql(self, user: str, document: str, **variables: Any) -> Any:
        return self.ask(user, "POST", "/graphql", json={"query": document, "variables": variables})

    def launch(self, user: str) -> Any:
        """Ask for a run as the Launchpad does; no daemon takes it from the queue."""
        selector = {**REPOSITORY, "jobName": "lumina__meta_only"}
        return self.graphql(user, START, params={"selector": selector, "mode": "default"})

    def schedule(self) -> tuple[str, str]:
        """Id and status of a schedule that the demo's tenants switch on."""
        state = self.graphql("ada", SWITCH, selector=SCHEDULE).json()["data"]["scheduleOrError"]["scheduleState"]
        return state["id"], state["status"]

    def runs(self) -> list[tuple[object, ...]]:
        return query(self.storage, "SELECT run_id, status FROM runs ORDER BY id")

    def events(self) -> list[tuple[object, ...]]:
        return query(self.storage, "SELECT count(*) FROM event_logs")


@contextmanager
def guarded_webserver(server: URL, folder: Path) -> Iterator[Guarded]:
    """A webserver of the demo tenants with a user of each role; its storage has a password that needs encoding."""
    storage = server.set(database=f"guarded_{os.getpid()}_dagster")
    database.create_database(storage)
    (folder / "dagster").mkdir()
    shutil.copy(project_file("dagster.yaml"), folder / "dagster")
    with SandboxServer(ads=4, orders=5) as sandbox, socket.create_server(("127.0.0.1", 0)) as probe:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **sandbox.environment,
            "DAGSTER_HOME": str(folder / "dagster"),
            "DAGSTER_POSTGRES_URL": storage.set(password="p@ss/w%").render_as_string(hide_password=False),
            "SYNC_PIPELINE_DATABASE_URL": server.render_as_string(hide_password=False),
            "SYNC_PIPELINE_HOME": str(folder / "home"),
            "SYNC_PIPELINE_TENANTS": str(copied_demo_tenants(folder / "tenants")),
            "DAGSTER_AUTH_SECRET_KEY": SECRET_KEY,
            "DAGSTER_AUTH_SERVICE_TOKEN": SERVICE_TOKEN,
        }
        port = probe.getsockname()[1]
        probe.close()
        guarded = Guarded(folder, storage, environment, f"http://127.0.0.1:{port}")
        guarded.manage("add-user", "vic", "--viewer", "--password", password("vic"))
        process = guarded.start("-w", str(project_file("workspace.yaml")), "-p", str(port))
        try:
            for user in ("lee", "ada"):
                guarded.manage("add-user", user, f"--{USERS[user]}", "--password", password(user))
            _wait_until_served(guarded, process)
            for user in USERS:
                assert guarded.log_in(user) == "/", guarded.log
            yield guarded
        finally:
            process.terminate()
            process.wait(60)
    _drop(storage)


def _wait_until_served(guarded: Guarded, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, guarded.log
        try:
            requests.get(f"{guarded.address}/auth/health?type=ready", timeout=30)
        except requests.ConnectionError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError(guarded.log)


def _drop(storage: URL) -> None:
    admin = sa.create_engine(storage.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {storage.database} WITH (FORCE)"))
