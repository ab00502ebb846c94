"""What was asked of the sandbox, without tokens and keys: for tests that count requests and the demo's summary."""

import re
import threading
from dataclasses import dataclass
from datetime import datetime

from sync_pipeline.sandbox.exchange import Call

_SECRET_NAMES = frozenset({"access_token", "api_key", "input_token", "appsecret_proof", "app_secret"})
_TOKEN_IN_TEXT = re.compile(r"((?:access_token|api_key|input_token|appsecret_proof)(?:=|%3D))[^&\s\"]+", re.IGNORECASE)
# First match wins.
_KINDS = tuple(
    (kind, method, re.compile(pattern))
    for kind, method, pattern in (
        ("report_start", "POST", r"^/graph(/v[\d.]+)?/act_[^/]+/insights$"),
        ("insights", "", r"^/graph(/v[\d.]+)?/act_[^/]+/insights$"),
        ("report_rows", "", r"^/graph(/v[\d.]+)?/\d+/insights$"),
        ("report_poll", "", r"^/graph(/v[\d.]+)?/7\d{15}$"),
        ("ads", "", r"^/graph(/v[\d.]+)?/act_[^/]+/ads$"),
        *(
            (edge, "", rf"^/graph(/v[\d.]+)?/(act_)?\d+/{edge}$")
            for edge in ("campaigns", "adsets", "adcreatives", "leads")
        ),
        ("account", "", r"^/graph(/v[\d.]+)?/act_[^/]+$"),
        ("accounts", "", r"^/graph(/v[\d.]+)?/me/(adaccounts|assigned_ad_accounts)$"),
        ("me", "", r"^/graph(/v[\d.]+)?/me$"),
        ("debug_token", "", r"^/graph(/v[\d.]+)?/debug_token$"),
        ("batch", "POST", r"^/graph(/v[\d.]+)?/?$"),
        ("node", "", r"^/graph(/v[\d.]+)?/\d+$"),
        ("orders", "", r"^/pancake/api/v1/shops/\d+/orders$"),
        ("order", "", r"^/pancake/api/v1/shops/\d+/orders/[^/]+$"),
        ("products", "", r"^/pancake/api/v1/shops/\d+/products(/variations)?$"),
        ("shops", "", r"^/pancake/api/v1/shops$"),
    )
)


@dataclass(frozen=True)
class LoggedRequest:
    """One request: `query` is query and form, decoded, without secrets; `at` when it came, `seconds` how long it took.

    Status 0 stands for a connection that was reset.
    """

    kind: str
    method: str
    path: str
    query: str
    status: int
    at: datetime
    seconds: float


class RequestLog:
    """All requests since the start or the last `clear`, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[LoggedRequest] = []

    def add(self, call: Call, status: int, at: datetime, seconds: float) -> None:
        """Notes a request that was answered; status 0 stands for a connection that was reset."""
        entry = LoggedRequest(kind_of(call), call.method, call.path, redacted_query(call), status, at, seconds)
        with self._lock:
            self._entries.append(entry)

    def all(self, kind: str | None = None, path: str = "") -> list[LoggedRequest]:
        """The requests of one kind (see `kind_of`) whose path matches the regular expression."""
        with self._lock:
            entries = list(self._entries)
        return [e for e in entries if (kind is None or e.kind == kind) and re.search(path, e.path)]

    def count(self, kind: str | None = None, path: str = "") -> int:
        """How many there were."""
        return len(self.all(kind, path))

    def counts(self) -> dict[str, int]:
        """How many there were, by kind."""
        found: dict[str, int] = {}
        for entry in self.all():
            found[entry.kind] = found.get(entry.kind, 0) + 1
        return found

    def clear(self) -> None:
        """Forgets all of them."""
        with self._lock:
            self._entries.clear()


def kind_of(call: Call) -> str:
    """What a request asks for: insights, account_insights, ads, batch, orders, ... or `other`."""
    asked = call.path.rstrip("/")
    matches = (kind for kind, method, path in _KINDS if method in {"", call.method} and path.search(asked))
    kind = next(matches, "other")
    return "account_insights" if kind == "insights" and call.first("level") == "account" else kind


def redacted_query(call: Call) -> str:
    """The parameters, decoded, with the values of tokens and keys replaced."""

    def shown(name: str, value: str) -> str:
        return "[redacted]" if name in _SECRET_NAMES else _TOKEN_IN_TEXT.sub(r"\1[redacted]", value)

    return "&".join(f"{name}={shown(name, value)}" for name, value in call.pairs)
