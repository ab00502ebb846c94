"""The login as a site of its own, and browsers that visit it."""

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from sync_pipeline.webserver.login import storage
from sync_pipeline.webserver.login.routes import create_login
from sync_pipeline.webserver.login.settings import LoginSettings
from sync_pipeline.webserver.login.users import Users
from sync_pipeline.webserver.roles import Role

ADDRESS = "https://ui.example"
SECRET_KEY = "marker-of-the-session-key-0123456789"
SERVICE_TOKEN = "marker-of-the-service-token-01234567"
PASSWORD = "marker of ana's password"


def environment(url: URL, **changes: str) -> dict[str, str]:
    return {
        "DAGSTER_POSTGRES_URL": url.render_as_string(hide_password=False),
        "DAGSTER_AUTH_SECRET_KEY": SECRET_KEY,
        "DAGSTER_AUTH_SERVICE_TOKEN": SERVICE_TOKEN,
        "SYNC_PIPELINE_UI_URL": ADDRESS,
        **changes,
    }


class Browser(TestClient):
    """A browser at an address; it keeps cookies, and sends those that are for TLS alone."""

    def __init__(self, app: Starlette, address: str = "192.0.2.1", path_prefix: str = "") -> None:
        super().__init__(app, base_url=ADDRESS, client=(address, 50_000), follow_redirects=False)
        self.path_prefix = path_prefix

    def form_token(self, path: str) -> str:
        [token] = re.findall(r'name="csrf_token" value="([^"]+)"', self.get(path).text)
        return token

    def sign_in(self, name: str, password: str = PASSWORD, next_path: str = "/", **fields: str) -> Any:
        path = f"{self.path_prefix}/auth/login"
        form = {"username": name, "password": password, "next": next_path, "csrf_token": self.form_token(path)}
        return self.post(path, data={**form, **fields})

    def sign_out(self) -> Any:
        path = f"{self.path_prefix}/auth/logout"
        return self.post(path, data={"csrf_token": self.form_token(path)})

    def who(self, **headers: str) -> tuple[str, str] | None:
        """Name and role under which the site knows this browser."""
        answer = self.get("/who", headers=headers)
        return tuple(answer.json()) if answer.status_code == 200 else None


@dataclass(frozen=True, slots=True)
class Site:
    """A webserver's login over one database."""

    app: Starlette
    engine: sa.Engine
    users: Users
    path_prefix: str

    def browser(self, address: str = "192.0.2.1") -> Browser:
        return Browser(self.app, address, self.path_prefix)

    def add(self, name: str, role: Role = Role.VIEWER, password: str = PASSWORD) -> None:
        self.users.add(name, password, role, full_name="", email="")


def site(variables: dict[str, str], path_prefix: str = "") -> Site:
    settings = LoginSettings.from_environment(variables)
    engine = storage.connect(settings.database_url)
    storage.upgrade(engine)
    login = create_login(settings, engine, path_prefix)

    def who(request: Request) -> Response:
        user = login.authenticate(request)
        return JSONResponse([user.name, user.role]) if user else Response(status_code=401)

    routes = [
        Route(f"{path_prefix}{each.path}", each.endpoint, methods=each.methods)
        for each in (*login.routes, *login.probes)
    ]
    return Site(Starlette(routes=[*routes, Route("/who", who)]), engine, Users(engine), path_prefix)
