"""HTTP connections that stop reading a response once it exceeds a limit, in its headers as well as in its body.

A socket's timeout bounds the wait for the next bytes only, and `http.client` reads headers until they end. So the
limits are enforced where the bytes arrive: in the reader under the response.
"""

import io
import socket
from collections.abc import Callable
from functools import partial
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from sync_pipeline.sources.limits import (
    MAX_BODY_BYTES,
    MAX_ERROR_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_RESPONSE_S,
    MAX_WIRE_BYTES,
    MIB,
)

ACCEPT_ENCODING = "gzip, deflate"
# Encodings that urllib3 decompresses piece by piece. A chain of them could expand a thousandfold at every link, and the
# libraries for others may not bound their output; none of these is requested.
_ENCODINGS = {"", "identity", "gzip", "x-gzip", "deflate"}
_PIECE_BYTES = 64 * 1024


class ResponseRefusedError(Exception):
    """The response exceeds a limit; `limit` is its name, `maximum` its value.

    Neither an OSError nor an HTTPException, which urllib3 would wrap.
    """

    def __init__(self, what: str, limit: str, maximum: float) -> None:
        super().__init__(what)
        self.what = what
        self.limit = limit
        self.maximum = maximum


class ResponseTooSlowError(ResponseRefusedError):
    """The response did not end in time."""


class UnknownEncodingError(Exception):
    """The response has a Content-Encoding that was not requested."""


class ResponseBudget:
    """The time and the bytes that are left to the response being read."""

    def __init__(self, clock: Callable[[], float], max_s: float = MAX_RESPONSE_S) -> None:
        self._clock = clock
        self._max_s = max_s
        self.start()

    def start(self) -> None:
        """Begin with a new request."""
        self._deadline = self._clock() + self._max_s
        self._received = 0
        self._in_headers = True

    def end_headers(self) -> None:
        """Count what comes next as body."""
        self._in_headers = False

    def remaining_s(self) -> float:
        """The seconds left. Raises `ResponseTooSlowError` where there are none."""
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise self.too_slow()
        return remaining

    def too_slow(self) -> ResponseTooSlowError:
        """The error of a response that did not end in time."""
        what = f"the response did not end within {self._max_s:g} s in total"
        return ResponseTooSlowError(what, "MAX_RESPONSE_S", self._max_s)

    def receive(self, count: int) -> None:
        """Count bytes received. Raises `ResponseRefusedError` where they are too many."""
        self._received += count
        if self._in_headers and self._received > MAX_HEADER_BYTES:
            what = f"the response's headers exceed {MAX_HEADER_BYTES // 1024} KiB"
            raise ResponseRefusedError(what, "MAX_HEADER_BYTES", MAX_HEADER_BYTES)
        if self._received > MAX_WIRE_BYTES:
            what = f"the response exceeds {MAX_WIRE_BYTES // MIB} MiB as sent"
            raise ResponseRefusedError(what, "MAX_WIRE_BYTES", MAX_WIRE_BYTES)


class _BudgetedReader(io.RawIOBase):
    """Reads from a socket while the budget lasts."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, budget: ResponseBudget) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining_s = self._budget.remaining_s()
        shortened = (timeout := self._sock.gettimeout()) is None or timeout > remaining_s
        if shortened:
            self._sock.settimeout(remaining_s)
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            if not shortened:
                raise
            count = None
        if count is None:
            raise self._budget.too_slow()
        self._budget.receive(count)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BudgetedResponse(HTTPResponse):
    def __init__(self, budget: ResponseBudget, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._budget = budget
        self.fp = io.BufferedReader(_BudgetedReader(self.fp.detach(), sock, budget))

    def begin(self) -> None:
        super().begin()
        self._budget.end_headers()
        # Cookies of thousands of responses would add up, and neither API has any.
        del self.headers["Set-Cookie"]


class _BudgetedConnection(HTTPConnection):
    def __init__(self, budget: ResponseBudget, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = partial(_BudgetedResponse, budget)  # type: ignore[assignment]


class _BudgetedTLSConnection(HTTPSConnection):
    def __init__(self, budget: ResponseBudget, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = partial(_BudgetedResponse, budget)  # type: ignore[assignment]


class BudgetAdapter(HTTPAdapter):
    """Keeps the responses of a session within `budget`, one at a time."""

    def __init__(self, budget: ResponseBudget) -> None:
        super().__init__()
        self._connections = {
            "http": partial(_BudgetedConnection, budget),
            "https": partial(_BudgetedTLSConnection, budget),
        }

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        """The pool for a request, also where a proxy is in between."""
        pool: HTTPConnectionPool = super().get_connection_with_tls_context(*args, **kwargs)  # type: ignore[assignment]
        pool.ConnectionCls = self._connections[str(pool.scheme)]  # type: ignore[assignment]
        return pool


def read_body(response: requests.Response, budget: ResponseBudget) -> bytes:
    """The decompressed body of a streamed response.

    Raises `ResponseRefusedError`, `UnknownEncodingError` and whatever `requests` raises.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnknownEncodingError(encoding)
    limit, maximum = (
        ("MAX_BODY_BYTES", MAX_BODY_BYTES) if response.ok else ("MAX_ERROR_BODY_BYTES", MAX_ERROR_BODY_BYTES)
    )
    # Writes without keeping the pieces: millions of them may have a byte each. Its value is the buffer, not a copy.
    body = io.BytesIO()
    for piece in response.iter_content(_PIECE_BYTES):
        body.write(piece)
        if body.tell() > maximum:
            raise ResponseRefusedError(f"the response's body exceeds {maximum // MIB} MiB", limit, maximum)
        budget.remaining_s()
    return body.getvalue()
