"""Signed cookies, which only this server reads and writes, and only over TLS."""

import hashlib
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class SignedCookie:
    """A cookie with a JSON value and a fixed lifetime in seconds."""

    name: str
    path: str
    lifetime: int
    serializer: URLSafeTimedSerializer

    @classmethod
    def create(cls, name: str, lifetime: int, secret_key: str, path_prefix: str) -> "SignedCookie":
        """A cookie that browsers accept from this host only, so that no other host of the domain can set it."""
        serializer = URLSafeTimedSerializer(
            secret_key,
            salt=f"sync_pipeline.webserver.{name}",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )
        if path_prefix:
            # Another webserver may be on the same host, and `__Host-` cookies are for all of it.
            return cls(f"__Secure-sync_pipeline_{name}", path_prefix, lifetime, serializer)
        return cls(f"__Host-sync_pipeline_{name}", "/", lifetime, serializer)

    def read(self, connection: HTTPConnection) -> dict[str, Any] | None:
        """The value that a client sends, if it is ours and not expired."""
        return self.verify(_cookies(connection).get(self.name, ""))

    def sign(self, value: dict[str, Any]) -> str:
        """The value, signed with the time."""
        signed: str = self.serializer.dumps(value)
        return signed

    def verify(self, signed: str) -> dict[str, Any] | None:
        """The value of a signed text, if it is ours and not expired."""
        try:
            value = self.serializer.loads(signed, max_age=self.lifetime)
        except BadData:
            return None
        return value if isinstance(value, dict) else None

    def write(self, response: Response, value: dict[str, Any]) -> None:
        """Have the client store the value."""
        response.set_cookie(
            self.name,
            self.sign(value),
            max_age=self.lifetime,
            path=self.path,
            secure=True,
            httponly=True,
            samesite="lax",
        )

    def delete(self, response: Response) -> None:
        """Have the client delete the cookie."""
        response.delete_cookie(self.name, path=self.path, secure=True, httponly=True, samesite="lax")


def _cookies(connection: HTTPConnection) -> dict[str, str]:
    """Cookies by the very names that the browser knows them by.

    Starlette strips names of all that Python takes for a blank, such as a no-break space. To a browser that is part of
    the name, so it lets any host of the domain set a cookie whose name has it in front of `__Host-`.
    """
    pairs = (pair.partition("=") for header in connection.headers.getlist("cookie") for pair in header.split(";"))
    return {name.strip(" \t"): value.strip(" \t") for name, _, value in pairs}
