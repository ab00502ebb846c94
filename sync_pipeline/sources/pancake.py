"""Pancake's POS API: shops, and the orders of a window of time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from urllib.parse import quote

from requests import PreparedRequest
from requests.auth import AuthBase

from sync_pipeline.sources.answers import (
    Answer,
    excerpt,
    expect_object,
    identifier,
    objects,
    one_line,
    optional_count,
    optional_text,
    whole_number,
)
from sync_pipeline.sources.errors import (
    ApiError,
    BadRequestError,
    PermissionDeniedError,
    Place,
    RateLimitedError,
    SourceError,
    TokenError,
    TransientError,
)
from sync_pipeline.sources.http import TIMEOUTS_S, PacedSession, Request
from sync_pipeline.sources.redaction import Redactor, Secret
from sync_pipeline.sources.waits import Pacing, Wait, retry_after

SOURCE: Final = "pos"
BAD_KEY_CODE: Final = 105
# Pages in a row without a single new order, after which more of them are not worth asking for.
MAX_BARREN_PAGES: Final = 10
_BY_STATUS: Final[dict[int, type[SourceError]]] = {
    401: TokenError,
    403: PermissionDeniedError,
    404: BadRequestError,
    429: RateLimitedError,
}
_SAID: Final = {
    TokenError: "the api_key is not accepted",
    PermissionDeniedError: "Pancake gives no permission",
    BadRequestError: "Pancake does not know what was asked for",
    RateLimitedError: "rate limited",
    TransientError: "Pancake failed on its side",
    ApiError: "Pancake refused the request",
}


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that the key sees."""

    shop_id: str
    name: str | None


class PancakeClient:
    """One key's client of the POS API, one request at a time at the given pace.

    Every method raises `SourceError`. The key is in the query of every request, because Pancake takes it nowhere else;
    it is taken out of every message. A key that cannot be one (empty, not printable) is a `TokenError` at once.
    """

    def __init__(
        self,
        *,
        tenant: str,
        api_url: str,
        api_key: str,
        pacing: Pacing = Pacing(),  # noqa: B008
        page_size: int = 200,
        on_wait: Callable[[Wait], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        timeouts_s: tuple[float, float] = TIMEOUTS_S,
    ) -> None:
        self._tenant = tenant
        self._api_url = api_url.rstrip("/")
        self._page_size = page_size
        key = Secret(api_key.strip())
        if not api_key.strip() or not api_key.strip().isprintable():
            raise TokenError(self._place(), "the api_key is empty or holds characters that no key has")
        self._redact = Redactor([key])
        self._session = PacedSession(
            auth=_KeyInQuery(key),
            judge=self._judge,
            redact=self._redact,
            pacing=pacing,
            on_wait=on_wait,
            sleep=sleep,
            clock=clock,
            timeouts_s=timeouts_s,
        )

    @property
    def requests_made(self) -> int:
        """HTTP requests sent so far, repeated ones included."""
        return self._session.requests_made

    def shops(self) -> list[Shop]:
        """The shops that the key sees."""
        place = self._place()
        raw = self._session.send(Request(place, f"{self._api_url}/shops"))
        return [_shop(place, entry) for entry in objects(place, raw.get("shops"), "shops")]

    def orders(self, shop_id: str, since: date, until: date, start: datetime, end: datetime) -> "OrderListing":
        """The shop's orders inserted from `start` to `end`, both inclusive and aware, newest first.

        `since` and `until` are the same window as days, for errors. Nothing is sent before the listing is iterated.
        Deleted orders (status 7) are not in it.
        """
        if start.tzinfo is None or end.tzinfo is None:
            msg = "start and end must have a timezone"
            raise ValueError(msg)
        place = Place(self._tenant, SOURCE, shop_id=shop_id, since=since, until=until)
        window: dict[str, str | int] = {
            "updateStatus": "inserted_at",
            "startDateTime": int(start.timestamp()),
            "endDateTime": int(end.timestamp()),
        }

        def read(page_number: int) -> dict[str, Any]:
            # Always said: the documented default of 30 was 10 when it was tried.
            paging = {"page_number": page_number, "page_size": self._page_size}
            url = f"{self._api_url}/shops/{quote(shop_id, safe='')}/orders"
            return self._session.send(Request(place, url, {**window, **paging}))

        return OrderListing(place, read, self._page_size)

    def _place(self) -> Place:
        return Place(self._tenant, SOURCE)

    def _judge(self, place: Place, answer: Answer) -> dict[str, Any]:
        found = answer.json_object()
        if not answer.ok or (found is not None and _is_refusal(found)):
            raise _refusal(place, answer, found or {}, self._redact)
        return expect_object(place, answer, self._redact)


class OrderListing:
    """A window's orders as an iterable of pages, each order once though a page may repeat some.

    An order inserted while paging pushes another to the next page. After an iteration: `total_entries` is what the last
    page counted (None where it did not), `distinct` how many orders came, and `complete` whether every page was read,
    all pages counted alike, and at least as many orders came as were counted: without a count nothing is proven.
    Iterating again asks again.
    """

    def __init__(self, place: Place, read: Callable[[int], dict[str, Any]], page_size: int) -> None:
        self.total_entries: int | None = None
        self.distinct = 0
        self.complete = False
        self._place = place
        self._read = read
        self._page_size = page_size

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        self.total_entries, self.distinct, self.complete = None, 0, False
        seen: set[str] = set()
        counts: set[int | None] = set()
        page_number, barren = 0, 0
        while True:
            page_number += 1
            envelope = self._read(page_number)
            orders = objects(self._place, _listed(envelope), "orders")
            fresh = self._unseen(orders, seen)
            last_page = self._count(envelope)
            counts.add(self.total_entries)
            self.distinct = len(seen)
            if fresh:
                yield fresh
            barren = 0 if fresh else barren + 1
            if (not orders) if last_page is None else (page_number >= last_page):
                # A count that moved while paging tells of orders that moved, too: one deleted from a page already
                # read pulls another up past the reader, and the sum would still be right.
                settled = len(counts) == 1
                self.complete = settled and self.total_entries is not None and self.distinct >= self.total_entries
                return
            if barren >= MAX_BARREN_PAGES:
                return

    def _unseen(self, orders: list[dict[str, Any]], seen: set[str]) -> list[dict[str, Any]]:
        fresh = []
        for order in orders:
            order_id = identifier(self._place, order.get("id"), "order id")
            if order_id not in seen:
                seen.add(order_id)
                fresh.append(order)
        return fresh

    def _count(self, envelope: dict[str, Any]) -> int | None:
        """The number of the last page, None where only an empty page will tell."""
        self.total_entries = optional_count(self._place, envelope.get("total_entries"), "total_entries")
        last_page = optional_count(self._place, envelope.get("total_pages"), "total_pages")
        if last_page is None and self.total_entries is not None:
            # The server may give smaller pages than it was asked for, and then says so.
            page_size = optional_count(self._place, envelope.get("page_size"), "page_size") or self._page_size
            last_page = -(-self.total_entries // page_size)
        return last_page


class _KeyInQuery(AuthBase):
    def __init__(self, key: Secret) -> None:
        self._key = key

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.prepare_url(request.url, {"api_key": self._key.reveal()})
        return request


def _shop(place: Place, raw: dict[str, Any]) -> Shop:
    return Shop(identifier(place, raw.get("id"), "shop id"), optional_text(place, raw.get("name"), "shop name"))


def _listed(envelope: dict[str, Any]) -> object:
    data = envelope.get("data")
    return envelope.get("orders") if data is None else data


def _is_refusal(found: dict[str, Any]) -> bool:
    return found.get("success") in (False, "false")


def _refusal(place: Place, answer: Answer, found: dict[str, Any], clean: Callable[[str], str]) -> SourceError:
    said = found.get("message") or found.get("error")
    message = one_line(clean(said)) if isinstance(said, str) else excerpt(answer.body, clean)
    code = found.get("error_code")
    number = whole_number(code)
    kind: type[SourceError] = TransientError if answer.status >= 500 else _BY_STATUS.get(answer.status, ApiError)
    if number == BAD_KEY_CODE:
        kind = TokenError
    return kind(
        place,
        _SAID[kind],
        http_status=answer.status,
        code=one_line(clean(code), 60) if number is None and isinstance(code, str) else number,
        api_message=message or None,
        retry_after_s=retry_after(answer.headers, datetime.now(UTC)),
    )
