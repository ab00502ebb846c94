"""Meta's Marketing API: ad accounts, insights by ad and day, and the status of ads."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final

from sync_pipeline.sources.answers import entries, identifier, optional_text, whole_number
from sync_pipeline.sources.errors import (
    BadRequestError,
    LimitExceededError,
    PermissionDeniedError,
    Place,
    ResponseFormatError,
)
from sync_pipeline.sources.graph import Graph, Notice
from sync_pipeline.sources.http import TIMEOUTS_S
from sync_pipeline.sources.insights import ANY_STATUS, InsightReader, account_days, ad_days
from sync_pipeline.sources.limits import MAX_ACCOUNTS, MAX_ADS_PER_WINDOW, MAX_RESPONSE_S
from sync_pipeline.sources.paging import PageSize, RowKey, WindowBudget, key_of
from sync_pipeline.sources.usage import ApiUsage
from sync_pipeline.sources.waits import Pacing, Wait

__all__ = ["AdAccount", "AdStatus", "MetaClient", "Notice", "TokenInfo", "User"]

DEFAULT_API_VERSION: Final = "v26.0"
IDS_PER_REQUEST: Final = 50
_ACCOUNT_FIELDS: Final = "account_id,name,currency,timezone_name,account_status"
_INSTANTS: Final = ("expires_at", "data_access_expires_at")
# Graph's codes for an edge that a kind of user does not have.
_NO_SUCH_EDGE: Final = {100, 2500}


@dataclass(frozen=True, slots=True)
class AdAccount:
    """An ad account; `account_id` without act_, `timezone_name` is the one that its insight days are counted in."""

    account_id: str
    name: str | None
    currency: str | None
    timezone_name: str | None
    account_status: int | None


@dataclass(frozen=True, slots=True)
class AdStatus:
    """An ad's own status, and the one it has through its campaign, ad set and review."""

    ad_id: str
    status: str | None
    effective_status: str | None


@dataclass(frozen=True, slots=True)
class User:
    """Whom the token stands for: a person or a system user."""

    user_id: str
    name: str | None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What Meta says of the token. `expires_at` and `data_access_expires_at` are None where they never come.

    `untold` names those of the two that Meta did not give, which says nothing about the end.
    """

    is_valid: bool
    expires_at: datetime | None
    data_access_expires_at: datetime | None
    scopes: tuple[str, ...]
    untold: frozenset[str] = frozenset()


class MetaClient:
    """One tenant's client of the Marketing API, one request at a time at the given pace.

    Every method raises `SourceError`, with the place and Meta's own code and message. `on_wait` is told of waits for
    rate limits, retries and reports before they begin; `on_notice` once of Meta's API version and once of its warning.
    A token that cannot be one (empty, not ASCII) is a `TokenError` at once.
    """

    def __init__(
        self,
        *,
        tenant: str,
        graph_url: str,
        token: str,
        api_version: str = DEFAULT_API_VERSION,
        app_secret: str | None = None,
        pacing: Pacing = Pacing(),  # noqa: B008
        page_size: int = 500,
        on_wait: Callable[[Wait], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        timeouts_s: tuple[float, float] = TIMEOUTS_S,
        max_response_s: float = MAX_RESPONSE_S,
    ) -> None:
        self._page_size = page_size
        self._graph = Graph(
            tenant=tenant,
            graph_url=graph_url,
            api_version=api_version,
            token=token,
            app_secret=app_secret,
            pacing=pacing,
            on_wait=on_wait,
            on_notice=on_notice,
            sleep=sleep,
            clock=clock,
            timeouts_s=timeouts_s,
            max_response_s=max_response_s,
        )
        self._insights = InsightReader(self._graph, page_size, ad_days)
        self._totals = InsightReader(self._graph, page_size, account_days)
        self._status_pages: dict[str, PageSize] = {}
        # Entries for ads whose status could not be read, and that `ad_statuses` has left out.
        self.unreadable_statuses = 0

    @property
    def requests_made(self) -> int:
        """HTTP requests sent so far, repeated ones included."""
        return self._graph.session.requests_made

    @property
    def usage(self) -> ApiUsage:
        """Requests, waits and errors since they were last taken."""
        return self._graph.session.usage

    def ad_accounts(self) -> list[AdAccount]:
        """Return the ad accounts that the token sees: a person's, or if there are none, a system user's."""
        try:
            listed = self._listed_accounts("me/adaccounts")
        except (BadRequestError, PermissionDeniedError) as error:
            if error.code not in _NO_SUCH_EDGE:
                raise
            return self._listed_accounts("me/assigned_ad_accounts")
        if listed:
            return listed
        try:
            return self._listed_accounts("me/assigned_ad_accounts")
        except (BadRequestError, PermissionDeniedError) as error:
            if error.code not in _NO_SUCH_EDGE:
                raise
            return []

    def ad_account(self, account_id: str) -> AdAccount:
        """One ad account by its id: an account may be readable though not listed."""
        account_id = _without_act(account_id)
        place = self._graph.place(account_id)
        return _ad_account(place, self._graph.get(place, f"act_{account_id}", {"fields": _ACCOUNT_FIELDS}))

    def insights(
        self, account_id: str, since: date, until: date, on_restart: Callable[[date, date], None] = lambda *_: None
    ) -> Iterator[list[Any]]:
        """Raw insight rows, one per ad and day with delivery, page by page and in no promised order.

        Both ends are inclusive and days of the ACCOUNT's timezone. Ads of all twelve effective statuses are requested.
        If Meta refuses a request as too much data, the window is halved, then the page, then each day is requested as a
        report. The client remembers which size an account needs.

        A window that is refused is requested from its start: `on_restart` is called before with its first and last
        day, whose rows are to be forgotten. Pages drift, so ROWS MAY COME TWICE even so.
        """
        return self._insights.read(_without_act(account_id), since, until, on_restart)

    def account_days(self, account_id: str, since: date, until: date) -> Iterator[list[Any]]:
        """Raw insights of the account as a whole, one row per day with delivery, page by page.

        Both ends are inclusive and days of the ACCOUNT's timezone. Nothing is filtered, so that a day holds what ads
        archived and deleted since have spent, too: it is Meta's own total, to hold the sum of the ads against.
        """
        return self._totals.read(_without_act(account_id), since, until)

    def ad_statuses(
        self, account_id: str, ad_ids: Sequence[str], since: date | None = None, until: date | None = None
    ) -> Iterator[list[AdStatus]]:
        """The statuses of these ads, in as few requests as can be; ads that Meta does not know are left out.

        By id Meta tells of 50 ads a request, the account's list has a whole page of them. So the list is read for as
        long as its pages hold more than 50 that are wanted, and the rest is asked for by id. `since` and `until` only
        say in errors which days' ads they are. Asking for each ad once is up to the caller.
        """
        account_id = _without_act(account_id)
        place = self._graph.place(account_id, since, until)
        missing = dict.fromkeys(ad_ids)
        budget = WindowBudget(place)
        if len(missing) > MAX_ADS_PER_WINDOW:
            what = f"there are more than {MAX_ADS_PER_WINDOW} ads"
            raise LimitExceededError(place, what, limit="MAX_ADS_PER_WINDOW", maximum=MAX_ADS_PER_WINDOW)
        if len(missing) > IDS_PER_REQUEST:
            for page in self._statuses(place, account_id, [ANY_STATUS], key_of("id"), budget):
                found = [status for status in page if status.ad_id in missing]
                for status in found:
                    missing.pop(status.ad_id, None)
                yield found
                if min(len(found), len(missing)) <= IDS_PER_REQUEST:
                    break
        left = list(missing)
        for start in range(0, len(left), IDS_PER_REQUEST):
            ids = left[start : start + IDS_PER_REQUEST]
            wanted = {"field": "ad.id", "operator": "IN", "value": ids}
            yield from self._statuses(place, account_id, [wanted, ANY_STATUS], _key_among(ids), budget)

    def _statuses(
        self, place: Place, account_id: str, filtering: Sequence[Mapping[str, Any]], key: RowKey, budget: WindowBudget
    ) -> Iterator[list[AdStatus]]:
        params = {"fields": "id,status,effective_status", "filtering": json.dumps(filtering)}
        size = self._status_pages.setdefault(account_id, PageSize(max(IDS_PER_REQUEST, self._page_size)))
        path = f"act_{account_id}/ads"
        pages = self._graph.pages(place, path, params, size=size, key=key, budget=budget, read=entries)
        # Unlike a loop's variable, `map` keeps no page while the next one is requested.
        return map(partial(self._status_page, place), pages)

    def _status_page(self, place: Place, page: Sequence[Any]) -> list[AdStatus]:
        """Read the statuses of a page without the unreadable ones, which must cost neither other ads nor the spend."""
        found = [status for raw in page if (status := _ad_status(place, raw)) is not None]
        if len(found) < len(page):
            self.unreadable_statuses += len(page) - len(found)
            self._graph.notice("ad statuses that cannot be read keep their stored value", str(place), warning=True)
        return found

    def me(self) -> User:
        """Whom the token stands for."""
        place = self._graph.place()
        raw = self._graph.get(place, "me", {"fields": "id,name"})
        return User(identifier(place, raw.get("id"), "id"), optional_text(place, raw.get("name"), "name"))

    def debug_token(self) -> TokenInfo:
        """Until when the token holds, and what it may do."""
        place = self._graph.place()
        data = self._graph.debug_token().get("data")
        if not isinstance(data, dict):
            raise ResponseFormatError(place, "the answer holds nothing about the token")
        scopes = data.get("scopes")
        return TokenInfo(
            is_valid=data.get("is_valid") is True,
            expires_at=_instant(place, data.get("expires_at")),
            data_access_expires_at=_instant(place, data.get("data_access_expires_at")),
            scopes=tuple(scope for scope in scopes if isinstance(scope, str)) if isinstance(scopes, list) else (),
            untold=frozenset(name for name in _INSTANTS if whole_number(data.get(name)) is None),
        )

    def _listed_accounts(self, edge: str) -> list[AdAccount]:
        place = self._graph.place()
        pages = self._graph.pages(
            place,
            edge,
            {"fields": _ACCOUNT_FIELDS},
            size=PageSize(self._page_size),
            key=key_of("id", "account_id"),
            budget=WindowBudget(place),
        )
        accounts: dict[str, AdAccount] = {}
        for page in pages:
            accounts |= {account.account_id: account for account in (_ad_account(place, raw) for raw in page)}
            if len(accounts) > MAX_ACCOUNTS:
                what = f"there are more than {MAX_ACCOUNTS} ad accounts"
                raise LimitExceededError(place, what, limit="MAX_ACCOUNTS", maximum=MAX_ACCOUNTS)
            del page
        return list(accounts.values())


def _key_among(ids: Sequence[str]) -> RowKey:
    """The key of the ads that were requested; others are no progress, whatever comes of them."""
    requested = frozenset(ids)

    def key(row: Any) -> object:
        found = row.get("id") if isinstance(row, dict) else None
        named = str(found) if type(found) is int else found
        return named if type(named) is str and named in requested else None

    return key


def _ad_account(place: Place, raw: dict[str, Any]) -> AdAccount:
    named = raw.get("account_id")
    return AdAccount(
        account_id=_without_act(identifier(place, raw.get("id") if named is None else named, "account_id")),
        name=optional_text(place, raw.get("name"), "name"),
        currency=optional_text(place, raw.get("currency"), "currency"),
        timezone_name=optional_text(place, raw.get("timezone_name"), "timezone_name"),
        account_status=whole_number(raw.get("account_status")),
    )


def _ad_status(place: Place, raw: Any) -> AdStatus | None:
    if not isinstance(raw, dict):
        return None
    try:
        return AdStatus(
            ad_id=identifier(place, raw.get("id"), "id"),
            status=optional_text(place, raw.get("status"), "status"),
            effective_status=optional_text(place, raw.get("effective_status"), "effective_status"),
        )
    except ResponseFormatError:
        return None


def _instant(place: Place, found: object) -> datetime | None:
    seconds = whole_number(found)
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        # The error is raised below, so that it carries no other.
        pass
    raise ResponseFormatError(place, "the answer's expiry is not a time")


def _without_act(account_id: str) -> str:
    return account_id.removeprefix("act_")
