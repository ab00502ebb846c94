"""Hosts that the webserver answers to, and origins that it accepts requests from.

A page on another site can send requests to any server that its visitor's browser can reach. Its browser names the
page's site as `Origin`. With DNS rebinding the page's own name resolves to this server, which only `Host` reveals.
"""

import ipaddress
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_pipeline import logs
from sync_pipeline.errors import SyncPipelineError

HOSTS_VARIABLE = "SYNC_PIPELINE_UI_HOSTS"
URL_VARIABLE = "SYNC_PIPELINE_UI_URL"

# The code with which a websocket is closed whose Host or Origin is not accepted.
NOT_ACCEPTED = 4403
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WILDCARDS = {"", "*", "0.0.0.0", "::"}  # noqa: S104


class InvalidHostListError(SyncPipelineError):
    """SYNC_PIPELINE_UI_HOSTS or SYNC_PIPELINE_UI_URL cannot be read."""

    def __init__(self, variable: str, entry: str, expected: str) -> None:
        super().__init__(f"{variable}: {entry!r} is not {expected}")
        self.variable = variable
        self.entry = entry


@dataclass(frozen=True, slots=True)
class Authority:
    """A host name or address in lower case, with its port unless that is the default one."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str, default_ports: Collection[int] = (80, 443)) -> "Authority | None":
        """Parse `host` or `host:port`; None if it is neither.

        The port counts as the default one if it is 80 or 443, because a proxy may have ended TLS.
        """
        match = _AUTHORITY.fullmatch(text)
        if match is None:
            return None
        host = match[1].lower().removesuffix(".")
        port = int(match[2]) if match[2] else None
        return cls(host, None if port is None or port in default_ports else port)

    @classmethod
    def of_origin(cls, origin: str) -> "Authority | None":
        """Parse an Origin header; None for `null` and for everything that is not http or https."""
        scheme, separator, rest = origin.partition("://")
        if not separator or scheme.lower() not in _DEFAULT_PORTS:
            return None
        return cls.parse(rest, [_DEFAULT_PORTS[scheme.lower()]])

    @property
    def is_loopback(self) -> bool:
        """Whether this is `localhost`, an address in 127.0.0.0/8, or `[::1]`."""
        if self.host in {"localhost", "[::1]"}:
            return True
        try:
            return ipaddress.IPv4Address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """Which hosts the webserver answers to: loopback ones, listed ones, or, if `any_host`, all."""

    listed: frozenset[Authority] = frozenset()
    loopback: bool = False
    any_host: bool = False

    def accepts_host(self, host: Authority) -> bool:
        """Whether the server answers to a Host header, on any port."""
        listed = any(host.host == each.host for each in self.listed)
        return self.any_host or listed or (self.loopback and host.is_loopback)

    def accepts_origin(self, origin: Authority, host: Authority) -> bool:
        """Whether a request to `host` may come from a page of `origin`.

        The listed origins are for proxies that send another Host than the browser did.
        """
        return origin == host or origin in self.listed

    def problem(self, headers: Headers) -> str | None:
        """Why a request with these headers is not accepted, or None."""
        hosts = headers.getlist("host")
        host = Authority.parse(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self.accepts_host(host):
            return f"this server does not answer to this Host; add it to {HOSTS_VARIABLE} if it should"
        origins = [Authority.of_origin(origin) for origin in headers.getlist("origin")]
        if not all(origin is not None and self.accepts_origin(origin, host) for origin in origins):
            return f"requests from this Origin are not accepted; add it to {HOSTS_VARIABLE} if they should be"
        return None


def local_policy(environ: Mapping[str, str], listen: str) -> HostPolicy:
    """Policy for a webserver without a login: loopback hosts, the address it listens on, and listed hosts.

    Raises `InvalidHostListError`.
    """
    named = () if listen in _WILDCARDS else (_listen_authority(listen),)
    return HostPolicy(_listed(environ) | frozenset(named), loopback=True)


def login_policy(environ: Mapping[str, str]) -> HostPolicy:
    """Policy for a webserver with a login: the host of its URL and listed hosts; any host if neither is set.

    Raises `InvalidHostListError`.
    """
    listed = _listed(environ)
    if url := environ.get(URL_VARIABLE):
        listed |= {_url_authority(url)}
    if not listed:
        logs.tell(
            f"the webserver answers to any Host; set {URL_VARIABLE} to its address, and list further host names in "
            f"{HOSTS_VARIABLE}",
            logging.WARNING,
        )
    return HostPolicy(listed, any_host=not listed)


def is_loopback_address(listen: str) -> bool:
    """Whether a server that listens on this address can be reached from this machine alone."""
    return listen not in _WILDCARDS and _listen_authority(listen).is_loopback


def _listen_authority(listen: str) -> Authority:
    return Authority(f"[{listen.lower()}]" if ":" in listen else listen.lower())


def _listed(environ: Mapping[str, str]) -> frozenset[Authority]:
    found = set()
    for entry in environ.get(HOSTS_VARIABLE, "").split(","):
        if not entry.strip():
            continue
        authority = Authority.parse(entry.strip())
        if authority is None:
            raise InvalidHostListError(HOSTS_VARIABLE, entry, "a host or host:port; separate several with commas")
        found.add(authority)
    return frozenset(found)


def _url_authority(url: str) -> Authority:
    try:
        authority = Authority.of_origin(url.partition("://")[0] + "://" + urlsplit(url).netloc)
    except ValueError:
        authority = None
    if authority is None:
        # The URL may hold a password.
        raise InvalidHostListError(URL_VARIABLE, "(hidden)", "an http or https URL such as https://dagster.example")
    return authority


class HostMiddleware:
    """ASGI middleware that refuses requests by their Host and Origin."""

    def __init__(self, app: ASGIApp, policy: HostPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or refuse it."""
        problem = self._policy.problem(Headers(scope=scope))
        if problem is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": NOT_ACCEPTED})
        else:
            await PlainTextResponse(f"{problem}\n", 403)(scope, receive, send)
