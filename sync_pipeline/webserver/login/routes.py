"""Endpoints of the login, and who a request comes from."""

import hmac
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl

import anyio
import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sync_pipeline.webserver import audit
from sync_pipeline.webserver.login import LOGIN_PATH, Login, passwords, storage
from sync_pipeline.webserver.login.attempts import WINDOW, Attempts, Bucket, buckets
from sync_pipeline.webserver.login.cookies import SignedCookie
from sync_pipeline.webserver.login.errors import LoginUnavailableError, ProviderUnavailableError, SignInRefusedError
from sync_pipeline.webserver.login.next_url import safe_next
from sync_pipeline.webserver.login.oidc import Provider, another_browser
from sync_pipeline.webserver.login.pages import Pages
from sync_pipeline.webserver.login.settings import CALLBACK_PATH, LoginSettings
from sync_pipeline.webserver.login.users import SERVICE_USER, Identity, User, Users, normalize_name
from sync_pipeline.webserver.roles import AuthenticatedUser

SERVICE_TOKEN_HEADER = "Dagster-Cloud-Api-Token"  # noqa: S105
FORM_LENGTH = 16_384
CONCURRENT_PROVIDER_REQUESTS = 8
HOUR_S = 3600
SESSION_LIFETIME_S = 24 * HOUR_S
FORM_LIFETIME_S = 4 * HOUR_S
SINGLE_SIGN_ON_LIFETIME_S = 600
DEVICE_LIFETIME_S = 90 * 24 * HOUR_S

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
_logger = logging.getLogger(__name__)


def create_login(settings: LoginSettings, engine: sa.Engine, path_prefix: str = "") -> Login:
    """The login of a webserver whose UI is under this path prefix; its tables have to be there."""
    endpoints = _Endpoints(settings, engine, path_prefix)
    routes = [
        Route(LOGIN_PATH, endpoints.show_login),
        Route(LOGIN_PATH, endpoints.sign_in, methods=["POST"]),
        Route("/auth/logout", endpoints.show_logout),
        Route("/auth/logout", endpoints.sign_out, methods=["POST"]),
        Route("/auth/oidc/start", endpoints.start_single_sign_on),
        Route(CALLBACK_PATH, endpoints.finish_single_sign_on),
    ]
    return Login(
        authenticate=endpoints.authenticate,
        routes=[Route(each.path, endpoints.answering_errors(each.endpoint), methods=each.methods) for each in routes],
        probes=[Route("/auth/health", endpoints.health)],
        menu=endpoints.pages.menu,
    )


class _Endpoints:
    def __init__(self, settings: LoginSettings, engine: sa.Engine, path_prefix: str) -> None:
        self.pages = Pages(path_prefix)
        self._engine = engine
        self._path_prefix = path_prefix
        self._service_token = settings.service_token
        self._users = Users(engine)
        self._attempts = Attempts(engine)
        self._provider = Provider(settings.oidc) if settings.oidc else None
        # A provider that hangs must not take the threads that everybody else's requests need.
        self._provider_requests = anyio.CapacityLimiter(CONCURRENT_PROVIDER_REQUESTS)
        self._verifications = anyio.CapacityLimiter(passwords.CONCURRENT_VERIFICATIONS)

        def cookie(name: str, lifetime: int) -> SignedCookie:
            return SignedCookie.create(name, lifetime, settings.secret_key, path_prefix)

        self._session = cookie("session", SESSION_LIFETIME_S)
        self._form = cookie("form", FORM_LIFETIME_S)
        self._device = cookie("device", DEVICE_LIFETIME_S)
        self._single_sign_on = cookie("single_sign_on", SINGLE_SIGN_ON_LIFETIME_S)

    def authenticate(self, connection: HTTPConnection) -> AuthenticatedUser | None:
        """The user of a session's cookie or, for programs, of the service token."""
        presented = connection.headers.get(SERVICE_TOKEN_HEADER)
        if presented and self._service_token:
            # Starlette decodes headers so; the token itself may hold any characters.
            token = self._service_token.value.encode()
            if hmac.compare_digest(presented.encode("latin-1"), token):
                return AuthenticatedUser(SERVICE_USER, self._service_token.role)
        session = self._session.read(connection)
        user = self._users.find(str(session.get("name"))) if session else None
        if session and user and user.active and session.get("version") == user.session_version:
            return AuthenticatedUser(user.name, user.role)
        return None

    def answering_errors(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, with a page for what can go wrong in any of them."""

        async def answering(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (LoginUnavailableError, ProviderUnavailableError) as error:
                _logger.warning("%s", error)
                return self.pages.message("Not available", f"{_sentence(error)} Try again later.", 503)

        return answering

    async def show_login(self, request: Request) -> Response:
        """The login page."""
        return self._login_page(request, request.query_params.get("next", ""))

    async def sign_in(self, request: Request) -> Response:
        """Sign in by name and password."""
        form = await _read_form(request)
        next_path = form.get("next", "")
        if not self._is_own_form(request, form):
            return self._login_page(request, next_path, "This form has expired. Try again.", 403)
        address, name = _address(request), normalize_name(form.get("username", ""))
        counted = buckets(address, name, self._known_device(request, name))
        if not await run_in_threadpool(self._attempts.admit, counted):
            audit.record("sign_in", user=name, address=address, outcome="refused", reason="too many attempts")
            response = self._login_page(request, next_path, "Too many attempts. Wait a few minutes.", 429)
            response.headers["Retry-After"] = str(int(WINDOW.total_seconds()))
            return response
        user = await anyio.to_thread.run_sync(
            self._verify, name, form.get("password", ""), counted, limiter=self._verifications
        )
        if user is None:
            audit.record("sign_in", user=name, address=address, outcome="refused", reason="wrong name or password")
            return self._login_page(request, next_path, "Wrong user name or password.", 401)
        return self._signed_in(request, user, next_path, "password")

    async def show_logout(self, request: Request) -> Response:
        """The page with the button for signing out."""
        user = await run_in_threadpool(self.authenticate, request)
        if user is None:
            return RedirectResponse(f"{self._path_prefix}{LOGIN_PATH}", 303)
        nonce = self._form_nonce(request)
        response = self.pages.logout(csrf_token=self._form.sign(nonce), user=user)
        self._form.write(response, nonce)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End all sessions of the user; the browser's copy of the cookie is not worth anything then."""
        if not self._is_own_form(request, await _read_form(request)):
            return self.pages.message("Sign out", "This form has expired. Try again.", 403)
        user = await run_in_threadpool(self.authenticate, request)
        if user is not None:
            await run_in_threadpool(self._users.end_sessions, user.name)
            audit.record("sign_out", user=user.name, role=user.role, address=_address(request))
        response = RedirectResponse(f"{self._path_prefix}{LOGIN_PATH}", 303)
        self._session.delete(response)
        return response

    async def start_single_sign_on(self, request: Request) -> Response:
        """Send the browser to the identity provider."""
        if self._provider is None:
            return self.pages.message("Not found", "Single sign-on is not set up.", 404)
        started = await anyio.to_thread.run_sync(self._provider.start, limiter=self._provider_requests)
        response = RedirectResponse(started.url, 303, {"Cache-Control": "no-store"})
        kept = {"state": started.state, "nonce": started.nonce, "verifier": started.code_verifier}
        next_path = safe_next(request.query_params.get("next", ""), self._path_prefix)
        self._single_sign_on.write(response, {**kept, "next": next_path})
        return response

    async def finish_single_sign_on(self, request: Request) -> Response:
        """Sign in the user that the identity provider sends back."""
        if self._provider is None:
            return self.pages.message("Not found", "Single sign-on is not set up.", 404)
        response: Response
        identity: Identity | None = None
        kept = self._single_sign_on.read(request)
        try:
            if kept is None:
                raise another_browser()
            identity = await anyio.to_thread.run_sync(
                self._provider.finish,
                request.query_params,
                kept["state"],
                kept["nonce"],
                kept["verifier"],
                limiter=self._provider_requests,
            )
            user = await run_in_threadpool(self._users.sign_in, identity)
        except SignInRefusedError as error:
            name = identity.name if identity else None
            audit.record(
                "sign_in", user=name, address=_address(request), outcome="refused", method="oidc", reason=error.reason
            )
            response = self.pages.message("Not signed in", str(error), 403)
        else:
            response = self._signed_in(request, user, kept["next"], "oidc")
        self._single_sign_on.delete(response)
        return response

    async def health(self, request: Request) -> Response:
        """Whether the webserver is alive (`?type=live`), or can serve requests."""
        if request.query_params.get("type") == "live":
            return JSONResponse({"alive": True})
        ready = await run_in_threadpool(storage.is_available, self._engine)
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    def _verify(self, name: str, password: str, counted: tuple[Bucket, ...]) -> User | None:
        """The user of this name and password."""
        user = self._users.find(name)
        stored = user.password_hash if user and user.signs_in_by_password else None
        if not passwords.verify(password, stored, bcrypt_in_use=self._users.have_bcrypt_hashes()):
            return None
        assert user is not None
        new_hash = passwords.hash_password(password) if passwords.needs_rehash(user.password_hash) else None
        self._users.note_password_sign_in(user, new_hash)
        self._attempts.forgive(counted)
        return user

    def _signed_in(self, request: Request, user: User, next_path: str, method: str) -> Response:
        audit.record(
            "sign_in", user=user.name, role=user.role, address=_address(request), outcome="allowed", method=method
        )
        response = RedirectResponse(safe_next(next_path, self._path_prefix), 303, {"Cache-Control": "no-store"})
        self._session.write(response, {"name": user.name, "version": user.session_version})
        device = self._known_device(request, user.name) or secrets.token_urlsafe(16)
        self._device.write(response, {"name": user.name, "device": device})
        return response

    def _known_device(self, request: Request, name: str) -> str | None:
        """Id of the browser if this user has signed in with it."""
        device = self._device.read(request)
        return str(device["device"]) if device and device.get("name") == name else None

    def _login_page(self, request: Request, next_path: str, error: str = "", status: int = 200) -> Response:
        nonce = self._form_nonce(request)
        response = self.pages.login(
            csrf_token=self._form.sign(nonce),
            next_path=safe_next(next_path, self._path_prefix),
            single_sign_on=self._provider is not None,
            error=error,
            status=status,
        )
        self._form.write(response, nonce)
        return response

    def _form_nonce(self, request: Request) -> dict[str, Any]:
        """What a form and its browser's cookie have in common; one for all of a browser's tabs."""
        return self._form.read(request) or {"nonce": secrets.token_urlsafe(32)}

    def _is_own_form(self, request: Request, form: dict[str, str]) -> bool:
        """Whether the form was shown by this server, to this browser."""
        in_cookie, in_form = self._form.read(request), self._form.verify(form.get("csrf_token", ""))
        if in_cookie is None or in_form is None:
            return False
        return hmac.compare_digest(str(in_cookie.get("nonce")), str(in_form.get("nonce")))


async def _read_form(request: Request) -> dict[str, str]:
    """Fields of a form, none of one that is too long or of another type."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_LENGTH:
            return {}
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=10))
    except ValueError:
        return {}


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
