"""Pancake's POS API: shops, their products, and the orders of a window of time."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

from requests import PreparedRequest
from requests.auth import AuthBase

from sync_pipeline.sources.answers import (
    Answer,
    api_code,
    entries,
    error_page,
    expect_object,
    identifier,
    objects,
    one_line,
    optional_count,
    optional_text,
)
from sync_pipeline.sources.errors import (
    ApiError,
    BadRequestError,
    LimitExceededError,
    PermissionDeniedError,
    Place,
    RateLimitedError,
    ResponseFormatError,
    SourceError,
    TokenError,
    TransientError,
)
from sync_pipeline.sources.http import TIMEOUTS_S, PacedSession, Request
from sync_pipeline.sources.limits import MAX_LISTED_ENTRIES, MAX_PAGES_WITHOUT_NEW_ROWS, MAX_RESPONSE_S
from sync_pipeline.sources.paging import WindowBudget, check_progress
from sync_pipeline.sources.redaction import Redactor, Secret
from sync_pipeline.sources.usage import ApiUsage
from sync_pipeline.sources.waits import Pacing, Wait, retry_after

SOURCE: Final = "pos"
BAD_KEY_CODE: Final = 105
RATE_LIMIT_CODE: Final = 106
# These count under any HTTP status, and whatever `success` says.
_BY_CODE: Final[dict[int | str | None, type[SourceError]]] = {
    BAD_KEY_CODE: TokenError,
    RATE_LIMIT_CODE: RateLimitedError,
}
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

Params = Mapping[str, str | int | Sequence[int]]


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that the key sees."""

    shop_id: str
    name: str | None


class PancakeClient:
    """One key's client of the POS API, one request at a time at the given pace.

    Every method raises `SourceError`. The key is in the query of every request, because Pancake takes it nowhere else;
    it is taken out of every message. A key that cannot be one (empty, not printable) is a `TokenError` at once.
    `key_source` says where the key comes from; errors that are not about a shop name it.
    """

    def __init__(
        self,
        *,
        tenant: str,
        api_url: str,
        api_key: str,
        key_source: str | None = None,
        pacing: Pacing = Pacing(),  # noqa: B008
        page_size: int = 200,
        on_wait: Callable[[Wait], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        timeouts_s: tuple[float, float] = TIMEOUTS_S,
        max_response_s: float = MAX_RESPONSE_S,
    ) -> None:
        self._tenant = tenant
        self._key_source = key_source
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
            max_response_s=max_response_s,
        )

    @property
    def requests_made(self) -> int:
        """HTTP requests sent so far, repeated ones included."""
        return self._session.requests_made

    @property
    def usage(self) -> ApiUsage:
        """Requests, waits and errors since they were last taken."""
        return self._session.usage

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
        place = Place(self._tenant, SOURCE, shop_id=shop_id, since=since, until=until)
        return OrderListing(place, self._reader(place, "orders", _window("inserted_at", start, end)), self._page_size)

    def updated_orders(
        self, shop_id: str, start: datetime, end: datetime, *, statuses: Sequence[int] = ()
    ) -> "OrderListing":
        """The shop's orders last updated from `start` to `end`, both inclusive and aware, oldest update first.

        With `statuses` only those now in one of them, and only so the deleted ones (7). `end` must have passed. Errors
        name the window's days as `start` and `end` themselves count them. An order updated again while paging leaves
        the window (it is in a later one), and the count then shows that another may have been missed: iterate again
        if the listing is not complete. Updates have become visible more than five minutes late, so windows must
        overlap.
        """
        place = Place(self._tenant, SOURCE, shop_id=shop_id, since=start.date(), until=end.date())
        # An order that leaves the list moves those behind it up, past the reader if it was on a page already read.
        # No sort by time excludes that, but recently updated orders are the most likely to be updated again: at the
        # end of the list they leave pages not read yet, where no other is lost. An update that becomes visible late is
        # recent as well, and so comes after the reader instead of before it. The API ignores values that its published
        # description does not list.
        params = {**_window("updated_at", start, end), "option_sort": "last_updated_order_asc"}
        if statuses:
            params["filter_status[]"] = statuses
        return OrderListing(place, self._reader(place, "orders", params), self._page_size)

    def products(self, shop_id: str) -> "ProductListing":
        """The shop's products with their variations. Nothing is sent before the listing is iterated."""
        place = Place(self._tenant, SOURCE, shop_id=shop_id)
        return ProductListing(place, self._reader(place, "products", {}), self._page_size)

    def _reader(self, place: Place, what: str, params: Params) -> Callable[[int], dict[str, Any]]:
        url = f"{self._api_url}/shops/{quote(place.shop_id or '', safe='')}/{what}"

        def read(page_number: int) -> dict[str, Any]:
            # Always said: the documented default of 30 was 10 when it was tried.
            paging = {"page_number": page_number, "page_size": self._page_size}
            return self._session.send(Request(place, url, {**params, **paging}))

        return read

    def _place(self) -> Place:
        return Place(self._tenant, SOURCE, key=self._key_source)

    def _judge(self, place: Place, answer: Answer) -> dict[str, Any]:
        found = answer.json_object()
        if not answer.ok or (found is not None and _is_refusal(found, self._redact)):
            error = _refusal(place, answer, found or {}, self._redact)
            if isinstance(error, TokenError):
                error.place = replace(place, key=self._key_source)
            raise error
        return expect_object(place, answer, self._redact)


class Listing:
    """What a shop has of one kind as an iterable of pages, each entry once though a page may repeat some.

    An entry added while paging pushes another to the next page. After an iteration: `total_entries` is what the last
    page counted (None where it did not), `distinct` how many entries came, and `complete` whether every page was read,
    all pages counted alike, and at least as many entries came as were counted: without a count nothing is proven.
    Iterating again asks again.

    An entry without a usable id, or that is not an object, is an unreadable row: it is passed on as it came and counts
    as an entry each time. A page of such entries alone is a response of another format.
    """

    kind: ClassVar[str]

    def __init__(self, place: Place, read: Callable[[int], dict[str, Any]], page_size: int) -> None:
        self.total_entries: int | None = None
        self.distinct = 0
        self.complete = False
        self._unidentified = 0
        self._place = place
        self._read = read
        self._page_size = page_size

    def __iter__(self) -> Iterator[list[Any]]:
        self.total_entries, self.distinct, self.complete, self._unidentified = None, 0, False, 0
        seen: set[str] = set()
        counts: set[int | None] = set()
        budget = WindowBudget(self._place)
        page_number, without_new = 0, 0
        while True:
            page_number += 1
            envelope = self._read(page_number)
            listed = entries(self._place, self._listed(envelope), f"{self.kind}s")
            last_page = self._count(envelope)
            ended = (not listed) if last_page is None else (page_number >= last_page)
            budget.count(len(listed))
            known = len(seen)
            fresh = self._unseen(listed, seen)
            # Let go before the next page arrives: two of the largest would take twice the memory.
            del envelope, listed
            counts.add(self.total_entries)
            self.distinct = len(seen) + self._unidentified
            without_new = 0 if len(seen) > known else without_new + 1
            if fresh:
                yield fresh
            del fresh
            if ended:
                # A count that moved while paging tells of entries that moved, too: one deleted from a page already
                # read pulls another up past the reader, and the sum would still be right.
                settled = len(counts) == 1
                self.complete = settled and self.total_entries is not None and self.distinct >= self.total_entries
                return
            if last_page is not None:
                check_progress(self._place, without_new)
            elif without_new >= MAX_PAGES_WITHOUT_NEW_ROWS:
                # Without counters the last page may come again for every higher number: that is an end, but no proof.
                return

    def _listed(self, envelope: dict[str, Any]) -> object:
        data = envelope.get("data")
        return envelope.get(f"{self.kind}s") if data is None else data

    def _unseen(self, listed: list[Any], seen: set[str]) -> list[Any]:
        fresh = []
        unidentified = 0
        for entry in listed:
            try:
                entry_id = self._id_of(entry)
            except ResponseFormatError:
                unidentified += 1
                if unidentified == len(listed):
                    raise
                fresh.append(entry)
                continue
            if entry_id not in seen:
                seen.add(entry_id)
                fresh.append(entry)
        self._unidentified += unidentified
        if len(seen) > MAX_LISTED_ENTRIES:
            what = f"there are more than {MAX_LISTED_ENTRIES} {self.kind}s"
            raise LimitExceededError(self._place, what, limit="MAX_LISTED_ENTRIES", maximum=MAX_LISTED_ENTRIES)
        return fresh

    def _id_of(self, entry: Any) -> str:
        return identifier(self._place, entry.get("id") if isinstance(entry, dict) else None, f"{self.kind} id")

    def _count(self, envelope: dict[str, Any]) -> int | None:
        """The number of the last page, None where only an empty page will tell."""
        self.total_entries = optional_count(self._place, envelope.get("total_entries"), "total_entries")
        last_page = optional_count(self._place, envelope.get("total_pages"), "total_pages")
        if last_page is None and self.total_entries is not None:
            # The server may give smaller pages than it was asked for, and then says so.
            page_size = optional_count(self._place, envelope.get("page_size"), "page_size") or self._page_size
            last_page = -(-self.total_entries // page_size)
        return last_page


class OrderListing(Listing):
    """The orders of a window."""

    kind = "order"


class ProductListing(Listing):
    """The products of a shop."""

    kind = "product"


class _KeyInQuery(AuthBase):
    def __init__(self, key: Secret) -> None:
        self._key = key

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.prepare_url(request.url, {"api_key": self._key.reveal()})
        return request


def _shop(place: Place, raw: dict[str, Any]) -> Shop:
    return Shop(identifier(place, raw.get("id"), "shop id"), optional_text(place, raw.get("name"), "shop name"))


def _window(moment: str, start: datetime, end: datetime) -> dict[str, str | int | Sequence[int]]:
    if start.tzinfo is None or end.tzinfo is None:
        msg = "start and end must have a timezone"
        raise ValueError(msg)
    return {
        "updateStatus": moment,
        "startDateTime": int(start.timestamp()),
        "endDateTime": int(end.timestamp()),
    }


def _is_refusal(found: dict[str, Any], clean: Callable[[str], str]) -> bool:
    return found.get("success") in (False, "false") or api_code(found.get("error_code"), clean) in _BY_CODE


def _refusal(place: Place, answer: Answer, found: dict[str, Any], clean: Callable[[str], str]) -> SourceError:
    said = found.get("message") or found.get("error")
    message = one_line(clean(said)) if isinstance(said, str) else error_page(answer, clean)
    code = api_code(found.get("error_code"), clean)
    by_status = TransientError if answer.status >= 500 else _BY_STATUS.get(answer.status, ApiError)
    kind = _BY_CODE.get(code, by_status)
    return kind(
        place,
        _SAID[kind],
        http_status=answer.status,
        code=code,
        api_message=message or None,
        retry_after_s=retry_after(answer.headers, datetime.now(UTC)),
        outline=None if message else answer.outline(clean),
    )
