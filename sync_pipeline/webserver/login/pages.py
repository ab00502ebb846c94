"""HTML pages of the login; they load nothing, run no scripts, and cannot be framed or cached."""

import secrets
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse

from sync_pipeline.webserver.roles import AuthenticatedUser


class Pages:
    """Pages of a webserver with this path prefix."""

    def __init__(self, path_prefix: str) -> None:
        self._path_prefix = path_prefix

    def login(self, *, csrf_token: str, next_path: str, single_sign_on: bool, error: str, status: int) -> HTMLResponse:
        """The form for name and password."""
        values = {"csrf_token": csrf_token, "next": next_path, "single_sign_on": single_sign_on, "error": error}
        return self._page("login.html", "Sign in to Dagster", status, values)

    def logout(self, *, csrf_token: str, user: AuthenticatedUser) -> HTMLResponse:
        """The form for signing out."""
        return self._page("logout.html", "Sign out", 200, {"csrf_token": csrf_token, "user": user})

    def message(self, title: str, message: str, status: int) -> HTMLResponse:
        """A page that says why something was not done."""
        return self._page("message.html", title, status, {"message": message})

    def menu(self, user: AuthenticatedUser, nonce: str) -> str:  # noqa: ARG002 - it has no script
        """A link in the corner of Dagster's pages that leads to signing out."""
        style = (
            "position:fixed;left:12px;bottom:10px;z-index:20;max-width:200px;overflow:hidden;text-overflow:ellipsis;"
            "white-space:nowrap;font:12px system-ui,sans-serif;color:#6b7280"
        )
        who = escape(f"Sign out {user.name} ({user.role})")
        return (
            f'<a id="sign-out" href="{escape(self._path_prefix)}/auth/logout" style="{style}" title="{who}">{who}</a>'
        )

    def _page(self, template: str, title: str, status: int, values: dict[str, Any]) -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        text = (
            _templates()
            .get_template(template)
            .render(**values, title=title, nonce=nonce, path_prefix=self._path_prefix)
        )
        return HTMLResponse(text, status, _headers(nonce))


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader("sync_pipeline.webserver.login"), autoescape=True)


def _headers(nonce: str) -> dict[str, str]:
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        ),
        # Not `no-referrer`: with it browsers send `Origin: null` along with a form.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
