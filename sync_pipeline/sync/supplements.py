"""Data of an ad account that supplements its insights: ad statuses and the account's own totals.

Insights are stored also where these cannot be fetched. Only an error that would end the sync at its next request anyway
ends it here too. A rate limit does not: Meta counts calls for ads and calls for insights separately.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sources.errors import (
    ApiError,
    ApiVersionError,
    AppProofError,
    BadRequestError,
    ClockError,
    PermissionDeniedError,
    PolicyBlockedError,
    RateLimitedError,
    ReportFailedError,
    SourceError,
    TokenError,
    TooMuchDataError,
)
from sync_pipeline.sources.limits import MAX_ADS_PER_WINDOW
from sync_pipeline.sources.meta import IDS_PER_REQUEST, AdStatus, MetaClient
from sync_pipeline.warehouse.staging import Staging

# About the token, the app or this machine's clock: each concerns every request.
_ENDS_SYNC: Final = (TokenError, AppProofError, ApiVersionError, PolicyBlockedError, ClockError)
# The same request would be refused again during this run, or would take too long.
_LASTING: Final = (PermissionDeniedError, BadRequestError, TooMuchDataError, ReportFailedError)
# May be about single ads, so that a request for fewer of them may succeed.
_DIVISIBLE: Final = (BadRequestError, TooMuchDataError, ApiError)

# Requests in a row that may fail for reasons that pass, until a run stops trying: an outage must not slow it down.
MAX_FAILURES: Final = 3
# Refused requests for statuses of an account in a run. To find one ad among 50 takes six or seven of them.
MAX_REFUSED: Final = 40
# Ads that are refused alone before any others are answered: the refusal is not about single ads then.
MAX_REFUSED_ALONE: Final = 3


class Supplement(StrEnum):
    """A kind of supplementary data, and what its absence means."""

    STATUSES = "ad statuses could not be fetched, so that stored ones stay as they are and new ads have none"
    TOTALS = "the account's own total could not be fetched, so that spend_matches_account has nothing to compare with"


def ends_sync(error: SourceError) -> bool:
    """Whether an error of a supplementary request concerns all other requests as well."""
    return isinstance(error, _ENDS_SYNC)


class Supplements:
    """Which supplementary data of which account is not available in this run.

    `warn` is called with one sentence, the first time that a kind of data of an account could not be fetched.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._warned: set[tuple[str, Supplement]] = set()
        self._failures: Counter[tuple[str, Supplement]] = Counter()
        self._limits: dict[Supplement, RateLimitedError] = {}

    def is_requested(self, account_id: str, kind: Supplement) -> bool:
        """Whether to request the data: not after a lasting refusal, or after too many other failures in a row.

        After a rate limit that outlasted its wait, the data is not requested for any account: most limits are shared,
        and each account would wait as long.
        """
        if (limit := self._limits.get(kind)) is not None:
            self.warn(account_id, kind, limit)
            return False
        return self._failures[account_id, kind] < MAX_FAILURES

    def warn(self, account_id: str, kind: Supplement, error: SourceError) -> None:
        """Warn of an error, once per account and kind. Raises the error where it ends the sync."""
        if ends_sync(error):
            raise error
        if (account_id, kind) not in self._warned:
            self._warned.add((account_id, kind))
            self._warn(f"account {account_id}: {kind.value}: {error}")

    def note_failure(self, account_id: str, kind: Supplement, error: SourceError) -> None:
        """Count a failure that `warn` was called with."""
        if isinstance(error, RateLimitedError):
            self._limits[kind] = error
        self._failures[account_id, kind] += MAX_FAILURES if isinstance(error, _LASTING) else 1

    def note_success(self, account_id: str, kind: Supplement) -> None:
        """Forget earlier failures."""
        del self._failures[account_id, kind]


class AdStatuses:
    """Stages the statuses of staged ads, each requested once per run.

    An ad that Meta does not know gets no status; an ad whose status cannot be fetched or read is not staged, so that
    its stored status stays. Where Meta refuses a request that may be about single ads, the others are requested without
    them.
    """

    def __init__(self, client: MetaClient, staging: Staging, supplements: Supplements) -> None:
        self._client = client
        self._staging = staging
        self._supplements = supplements
        self._refused: Counter[str] = Counter()
        self._unavailable: defaultdict[str, set[str]] = defaultdict(set)

    def stage(self, account_id: str, window: DayRange) -> None:
        """Stage the statuses of an account's ads. Raises a `SourceError` only where it ends the sync."""
        if not self._supplements.is_requested(account_id, Supplement.STATUSES):
            return
        # One more than the client accepts, so that it refuses them.
        ads = self._left(account_id, at_most=MAX_ADS_PER_WINDOW + 1)
        if not ads:
            return
        unreadable = self._client.unreadable_statuses
        try:
            for page in self._client.ad_statuses(account_id, ads, window.since, window.until):
                self._staging.add_lookup((account_id, s.ad_id, s.status, s.effective_status) for s in page)
        except SourceError as error:
            self._supplements.warn(account_id, Supplement.STATUSES, error)
            if isinstance(error, _DIVISIBLE):
                self._stage_in_parts(account_id, window, self._parts(account_id, ads))
            else:
                self._supplements.note_failure(account_id, Supplement.STATUSES, error)
            return
        self._supplements.note_success(account_id, Supplement.STATUSES)
        self._note_unanswered(account_id, self._left(account_id), unreadable)

    def _parts(self, account_id: str, refused: list[str]) -> list[list[str]]:
        """Divide what is left of ads that were refused together."""
        if len(refused) <= IDS_PER_REQUEST:
            return self._halves(account_id, refused)
        left = self._left(account_id)
        return [left[start : start + IDS_PER_REQUEST] for start in range(0, len(left), IDS_PER_REQUEST)][::-1]

    def _stage_in_parts(self, account_id: str, window: DayRange, parts: list[list[str]]) -> None:
        """Request the parts one by one, the last first, and halve those that are refused."""
        self._refused[account_id] += 1
        has_answers, refused_alone = False, 0
        while parts:
            ads = parts.pop()
            try:
                self._stage_part(account_id, window, ads)
            except SourceError as error:
                self._supplements.warn(account_id, Supplement.STATUSES, error)
                self._refused[account_id] += 1
                refused_alone += len(ads) == 1
                is_general = not has_answers and refused_alone >= MAX_REFUSED_ALONE
                if is_general or not isinstance(error, _DIVISIBLE) or self._refused[account_id] > MAX_REFUSED:
                    self._supplements.note_failure(account_id, Supplement.STATUSES, error)
                    return
                parts += self._halves(account_id, ads)
            else:
                has_answers = True
        self._supplements.note_success(account_id, Supplement.STATUSES)

    def _stage_part(self, account_id: str, window: DayRange, ads: list[str]) -> None:
        unreadable, wanted = self._client.unreadable_statuses, set(ads)
        found: dict[str, AdStatus] = {}
        for page in self._client.ad_statuses(account_id, ads, window.since, window.until):
            found |= {status.ad_id: status for status in page if status.ad_id in wanted}
        self._staging.add_lookup((account_id, s.ad_id, s.status, s.effective_status) for s in found.values())
        self._note_unanswered(account_id, [ad_id for ad_id in ads if ad_id not in found], unreadable)

    def _halves(self, account_id: str, ads: list[str]) -> list[list[str]]:
        if len(ads) == 1:
            self._unavailable[account_id].update(ads)
            return []
        middle = len(ads) // 2
        return [ads[middle:], ads[:middle]]

    def _note_unanswered(self, account_id: str, ads: Sequence[str], unreadable_before: int) -> None:
        """Note ads that an answer lacks, so that they are not requested again with every window."""
        if self._client.unreadable_statuses > unreadable_before:
            # Any of them may be one of the entries that could not be read.
            self._unavailable[account_id].update(ads)
        else:
            self._staging.add_lookup((account_id, ad_id, None, None) for ad_id in ads)

    def _left(self, account_id: str, *, at_most: int | None = None) -> list[str]:
        ads = self._staging.keys_without_lookup(account_id, at_most=at_most)
        unavailable = self._unavailable.get(account_id)
        return [ad_id for ad_id in ads if ad_id not in unavailable] if unavailable else ads
