"""Graph API calls: authentication, paging, notices. `meta` and `insights` decide what to request."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import parse_qs, urlsplit

from requests import PreparedRequest
from requests.auth import AuthBase

from sync_pipeline.sources.answers import Answer, objects, one_line
from sync_pipeline.sources.errors import Place, ResponseFormatError, TokenError, TooMuchDataError
from sync_pipeline.sources.graph_errors import read_graph
from sync_pipeline.sources.http import TIMEOUTS_S, PacedSession, Request
from sync_pipeline.sources.limits import MAX_RESPONSE_S, MAX_URL_LENGTH
from sync_pipeline.sources.paging import PageProgress, PageSize, RowKey, WindowBudget
from sync_pipeline.sources.redaction import Redactor, Secret
from sync_pipeline.sources.waits import Pacing, Wait

SOURCE = "meta"
# A cursor is a token of base64 letters; anything much longer or beyond ASCII is no cursor.
MAX_CURSOR_LENGTH = 2000

Params = Mapping[str, str | int]
Fetch = Callable[[Place, str, Params], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Notice:
    """What is notable beside the data: Meta's API version, that it has expired, or details that cannot be read."""

    text: str
    warning: bool


class Graph:
    """One tenant's calls to the Graph API.

    The token goes into the Authorization header, so that URLs stay clean; the appsecret_proof, where an app secret is
    given, has no header and goes into the query.
    """

    def __init__(
        self,
        *,
        tenant: str,
        graph_url: str,
        api_version: str,
        token: str,
        app_secret: str | None = None,
        pacing: Pacing,
        on_wait: Callable[[Wait], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        timeouts_s: tuple[float, float] = TIMEOUTS_S,
        max_response_s: float = MAX_RESPONSE_S,
    ) -> None:
        self.tenant = tenant
        self._token = Secret(token.strip())
        if not token.strip() or not token.strip().isascii() or not token.strip().isprintable():
            # Told apart here, because the HTTP library's own message would quote the header.
            raise TokenError(self.place(), "the access token is empty or holds characters that no token has")
        secrets = [self._token]
        if app_secret:
            secrets += [Secret(app_secret.strip()), _proof(token.strip(), app_secret.strip())]
        self.redact = Redactor(secrets)
        self._base = f"{graph_url.rstrip('/')}/{api_version}"
        self._on_notice = on_notice or (lambda _: None)
        self._noticed: set[str] = set()
        self.session = PacedSession(
            auth=_BearerToken(self._token, secrets[-1] if app_secret else None),
            judge=self._judge,
            redact=self.redact,
            pacing=pacing,
            on_wait=on_wait,
            sleep=sleep,
            clock=clock,
            timeouts_s=timeouts_s,
            max_response_s=max_response_s,
        )

    def place(self, account_id: str | None = None, since: date | None = None, until: date | None = None) -> Place:
        """A place of this tenant in this source."""
        return Place(self.tenant, SOURCE, account_id=account_id, since=since, until=until)

    def get(self, place: Place, path: str, params: Params) -> dict[str, Any]:
        """The object at a path, such as `me` or `act_1/insights`. Raises `SourceError`."""
        return self.session.send(Request(place, f"{self._base}/{path}", params))

    def post(self, place: Place, path: str, form: Params) -> dict[str, Any]:
        """What posting a form to a path answers. Raises `SourceError`."""
        return self.session.send(Request(place, f"{self._base}/{path}", form=form))

    def debug_token(self) -> dict[str, Any]:
        """What Graph says of the token itself; it can only be asked with the token in the query."""
        return self.get(self.place(), "debug_token", {"input_token": self._token.reveal()})

    def pages(
        self,
        place: Place,
        path: str,
        params: Params,
        *,
        size: PageSize,
        key: RowKey,
        budget: WindowBudget,
        read: Callable[[Place, object, str], list[Any]] = objects,
        fetch: Fetch | None = None,
    ) -> Iterator[list[Any]]:
        """Yield all pages of an edge that have rows, until `paging.next` is absent.

        A page may be empty or short and still have a next one. Of `paging.next` only the cursor is used: the URL itself
        contains the token. A page that is refused as too much data is requested again, from the same cursor, with
        `size` halved: a cursor marks a position, whatever the size of the pages.

        `key` names a row, to see whether pages still bring new ones; `read` reads the list of a page (`objects`, or
        `entries` where an unreadable row must not cost the others); `fetch` requests a page (`get` by default). Raises
        `ResponseFormatError` if a cursor is repeated, `LimitExceededError` if the pages do not end, and
        `TooMuchDataError` if even the smallest page is refused. The reason is then not the size, so that `size` is
        again what it was at first: requests that follow must not be as small.
        """
        fetch = fetch or self.get
        first_size = size.rows
        after: str | None = None
        requested: set[bytes] = set()
        progress = PageProgress(place, key)
        while True:
            cursor = {"after": after} if after else {}
            try:
                answer = fetch(place, path, {**params, "limit": size.rows, **cursor})
            except TooMuchDataError:
                if not size.halve():
                    size.rows = first_size
                    raise
                continue
            found = read(place, answer.get("data"), "data")
            after = next_cursor(place, answer.get("paging"))
            # Let go before the next page arrives: two of the largest would take twice the memory.
            del answer
            budget.count(len(found))
            if after is not None:
                progress.follow(found)
            if found:
                yield found
            del found
            if after is None:
                return
            # A digest, because cursors may be long and there may be many.
            digest = hashlib.blake2b(after.encode(), digest_size=16).digest()
            if digest in requested:
                raise ResponseFormatError(place, "paging leads back to a page that was already read")
            requested.add(digest)

    def _judge(self, place: Place, answer: Answer) -> dict[str, Any]:
        self.notice("API version warning of Meta", answer.headers.get("X-Ad-Api-Version-Warning"), warning=True)
        self.notice("Meta answers with API version", answer.headers.get("facebook-api-version"), warning=False)
        return read_graph(place, answer, self.redact)

    def notice(self, subject: str, found: str | None, *, warning: bool) -> None:
        """Report a notice, one of each subject; none where nothing was found."""
        if found and subject not in self._noticed:
            self._noticed.add(subject)
            self._on_notice(Notice(f"{subject}: {one_line(self.redact(found))}", warning))


def next_cursor(place: Place, paging: object) -> str | None:
    """The cursor of the next page, None after the last one.

    `cursors.after` is there even on the last page, so it counts only where there is a `next` without a cursor.
    """
    if paging is None:
        return None
    if not isinstance(paging, dict):
        raise ResponseFormatError(place, "the answer's paging is not an object")
    following = paging.get("next")
    if following is None or following == "":
        return None
    cursors = paging.get("cursors")
    after = _after_of(following) or (cursors.get("after") if isinstance(cursors, dict) else None)
    if not isinstance(after, str) or not after.isascii() or not 0 < len(after) <= MAX_CURSOR_LENGTH:
        raise ResponseFormatError(place, "the answer has a next page but no cursor to it")
    return after


def _after_of(following: object) -> str | None:
    # Parsing would split a long query into millions of parts, and `urlsplit` caches what it was given.
    if not isinstance(following, str) or len(following) > MAX_URL_LENGTH:
        return None
    try:
        return parse_qs(urlsplit(following).query).get("after", [None])[-1]
    except ValueError:
        return None


def _proof(token: str, app_secret: str) -> Secret:
    return Secret(hmac.new(app_secret.encode(), token.encode(), hashlib.sha256).hexdigest())


class _BearerToken(AuthBase):
    def __init__(self, token: Secret, proof: Secret | None) -> None:
        self._token = token
        self._proof = proof

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
        if self._proof is not None:
            request.prepare_url(request.url, {"appsecret_proof": self._proof.reveal()})
        return request
