"""Login of the webserver: password or single sign-on, sessions, limits on attempts, and the users' table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.routing import Route

from sync_pipeline.webserver.roles import AuthenticatedUser

LOGIN_PATH = "/auth/login"


@dataclass(frozen=True, slots=True)
class Login:
    """A way to sign in.

    `authenticate` returns the user of a connection, or None. It may block: the webserver calls it in a worker thread.
    It raises `LoginUnavailableError` while the database is away. `routes` are the pages that need no signed-in user,
    and `probes` those that also answer to every Host, because health checks address the server by its IP. Paths are
    without the webserver's path prefix. `menu` returns HTML that is added to Dagster's page for a user; its scripts
    must carry the given nonce.
    """

    authenticate: Callable[[HTTPConnection], AuthenticatedUser | None]
    routes: Sequence[Route] = ()
    probes: Sequence[Route] = ()
    menu: Callable[[AuthenticatedUser, str], str] | None = None
