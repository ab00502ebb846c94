"""Windows, commits and failures, the same for every source.

A window of days is the unit of fetching, because requests are what the APIs ration; a day is the unit of commit. What a
user sees is as if days had been fetched one by one: a window that fails is asked for again day by day, so that the days
before the bad one are stored and the failure names the very day. Only a rate limit that outlasted its wait ends it at
once.

With `on_error: continue` an account or shop that refuses permanently is asked once: the rows of the others are stored,
its own stay as they were, and the day is committed as incomplete.

A row that cannot be read costs only itself: it is left out, its day is committed, and the warehouse lists it. Only so
many of them that the format must have changed, or the tenant's `on_bad_row: fail`, end the day.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Self

from sync_pipeline.date_ranges import DayRange, last_end
from sync_pipeline.rows.errors import RowError, UnrequestedRowError
from sync_pipeline.sources.errors import Place, RateLimitedError, SourceError
from sync_pipeline.sync.errors import (
    DayFailedError,
    PlacedError,
    RowRejectedError,
    SyncError,
    SyncFailedError,
    TooManyRejectedError,
    ends_source,
    on_day,
)
from sync_pipeline.sync.refusals import Refusal, distinct, refuses, refuses_every_day
from sync_pipeline.sync.rejections import Rejections, too_many
from sync_pipeline.tenants import BadRows
from sync_pipeline.warehouse.rejected import RejectedRow, sentence
from sync_pipeline.warehouse.staging import DayEntry, DayResult, Staging

ONE_DAY = timedelta(days=1)


class _UndatedRowError(Exception):
    """The day of an unreadable row in a window of several days is not known."""


class Feed(ABC):
    """One source of one tenant, synced day by day. Opened (`with`) and told its days before the first is synced.

    `scopes` are the accounts or shops to fetch; `days_per_request` bounds a window. `today` is never fetched with other
    days, because rows that still arrive would change the counts of the others. `timezones` are those of the tenant and
    of each account fetched: a day is complete only if it is fetched after it is over in all of them.

    With `go_on` the other scopes are fetched after one has failed, to know of all that is wrong, and days are stored
    without the scopes that refuse permanently: those of `refusals`, which an earlier step of the run has met, and those
    that `on_refused` is called with.

    `on_bad_row` says whether an unreadable row is left out or ends its day. `on_rejected` is called with one sentence
    for each committed day that has left some out.
    """

    source: ClassVar[str]

    def __init__(
        self,
        staging: Staging,
        scopes: Collection[str],
        run_id: str,
        *,
        days_per_request: int,
        go_on: bool,
        today: date,
        timezones: Collection[str | None],
        on_bad_row: BadRows = "reject",
        on_rejected: Callable[[str], None] = lambda _: None,
        refusals: Collection[Refusal] = (),
        on_refused: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self._staging = staging
        self._scopes = tuple(scopes)
        self._run_id = run_id
        self._days_per_request = days_per_request
        self._go_on = go_on
        self._today = today
        self._timezones = tuple(timezones)
        self._on_bad_row = on_bad_row
        self._on_rejected = on_rejected
        self._rejections = Rejections()
        self._ends: Mapping[date, date] = {}
        self._single_until: date | None = None
        self._staged: DayRange | None = None
        self._fetched_at: datetime | None = None
        self._complete: set[str] = set()
        self._refused = {scope: refusal.error for refusal in refusals for scope in refusal.scopes}
        self._on_refused = on_refused
        self._stored_without: defaultdict[str, list[date]] = defaultdict(list)
        self._excluded: dict[date, set[tuple[str, str]]] = {}
        self._reported: dict[date, dict[str, Any]] = {}

    @property
    @abstractmethod
    def requests_made(self) -> int:
        """HTTP requests sent so far."""

    @abstractmethod
    def _fetch(self, scope: str, window: DayRange) -> bool:
        """Stage one scope's rows of the window; True when every one of them is known to have been read.

        Notes what is left out by rule with `_exclude`, unreadable rows with `_reject`, and with `_report` what the API
        says of a day itself. Raises `SourceError` or `SyncError`.
        """

    @abstractmethod
    def _place(self, scope: str | None, window: DayRange) -> Place:
        """The place of an account or shop, or of all of them, in a window."""

    @abstractmethod
    def _describe(self, scope: str, error: RowError) -> RejectedRow:
        """What is stored of an unreadable row of an account or shop."""

    def _proven_until(self, day: date) -> datetime | None:  # noqa: ARG002
        """The last instant of a day that a fetch of it covers, where rows have instants."""
        return None

    def _refused_with(self, scope: str, error: PlacedError) -> Collection[str]:  # noqa: ARG002
        """Return the accounts or shops that the error of one of them refuses."""
        return (scope,)

    @property
    def exhausted(self) -> bool:
        """Whether every account or shop refuses, so that no day can be stored any more."""
        return bool(self._refused) and not self._active

    @property
    def refusals(self) -> list[Refusal]:
        """The accounts and shops that refuse, by error, each error with the days that were stored without them."""
        found = []
        for error in distinct(self._refused.values()):
            scopes = tuple(sorted(scope for scope, of_scope in self._refused.items() if of_scope is error))
            days = tuple(sorted({day for scope in scopes for day in self._stored_without[scope]}))
            if days:
                error.place = replace(error.place, since=days[0], until=days[-1])
            found.append(Refusal(error, scopes, days))
        return found

    @property
    def _active(self) -> list[str]:
        return [scope for scope in self._scopes if scope not in self._refused]

    def __enter__(self) -> Self:
        self._staging.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._staging.__exit__(*exc)

    def plan(self, days: Sequence[date]) -> None:
        """Divide the days to come into windows."""
        self._ends = window_ends(days, self._days_per_request, [self._today])

    def sync_day(self, day: date) -> DayResult:
        """Commit the day, after its window has been fetched whole. Raises `DayFailedError`."""
        started, before = datetime.now(UTC), self.requests_made
        self._require_active(day)
        if self._staged is None or not self._staged.since <= day <= self._staged.until:
            self._stage(day)
            self._require_active(day)
        active, missing = self._active, sorted(self._refused)
        self._reject_oversized_sums(day)
        rejected = self._rejected_of(day)
        entry = DayEntry(
            source=self.source,
            day=day,
            run_id=self._run_id,
            excluded=len(self._excluded.get(day, ())),
            requests=self.requests_made - before,
            complete=not missing and len(self._complete) == len(active),
            started=started,
            proven_until=self._proven_until(day),
            reported=self._reported.get(day, {}),
            rejected=rejected,
            scopes=active,
            missing=missing,
            fetched_at=self._fetched_at,
            over_at=last_end(day, self._timezones),
        )
        result = self._staging.commit_day(entry, self._removable_scopes(day))
        for scope in missing:
            self._stored_without[scope].append(day)
        if rejected:
            self._on_rejected(f"{day} {self.source}: {sentence(rejected)}; see the table rejected_rows")
        return result

    def _require_active(self, day: date) -> None:
        if self.exhausted:
            errors = distinct(self._refused.values())
            raise DayFailedError(self.source, day, [on_day(error, day) for error in errors])

    def _reject_oversized_sums(self, day: date) -> None:
        """Leave out rows whose parts add up to more than can be stored. Raises `DayFailedError` in strict mode."""
        window = DayRange(day, day)
        for found in self._staging.oversized_sums(day):
            error = RowError(
                kind=self._staging.kind,
                row_id=f"{found.row_id} on {day}",
                field=found.figure,
                value=found.value,
                why="of all its parts is too large to be stored",
                key=found.row_id,
                day=day,
            )
            try:
                self._reject(found.scope, window, error)
            except SyncError as failure:
                raise DayFailedError(self.source, day, [failure]) from None

    def _rejected_of(self, day: date) -> Sequence[RejectedRow]:
        """Return the rejected rows of a day. Raises `DayFailedError` where they are too many."""
        rejected = self._rejections.of_day(day)
        # Counting the others takes a query.
        if too_many(len(rejected), 0):
            rows = self._staging.rows_of(day) + len(self._excluded.get(day, ())) + len(rejected)
            if too_many(len(rejected), rows):
                place = self._place(None, DayRange(day, day))
                error = TooManyRejectedError(place, len(rejected), rows, str(rejected[0]))
                raise DayFailedError(self.source, day, [error])
        return rejected

    def _removable_scopes(self, day: date) -> set[str]:
        """Return where rows that were not fetched are gone: not where an unreadable row may be any of them."""
        kind = self._staging.kind
        return {scope for scope in self._complete if not self._rejections.has_unidentified(day, scope, kind)}

    def _reject(self, scope: str, window: DayRange, error: RowError) -> None:
        """Leave out an unreadable row. Raises `SyncError` where that must end the day."""
        place = self._place(scope, window)
        if self._on_bad_row == "fail" or isinstance(error, UnrequestedRowError):
            raise RowRejectedError(place, error) from None
        if error.day is not None and not window.since <= error.day <= window.until:
            raise SyncError(place, f"{error.kind} {error.row_id} is of {error.day}, which was not asked for") from None
        if error.day is None and len(window) > 1:
            raise _UndatedRowError
        self._rejections.add(error.day or window.since, scope, self._describe(scope, error), error.part)

    def _exclude(self, day: date, scope: str, row_id: str) -> None:
        self._excluded.setdefault(day, set()).add((scope, row_id))

    def _report(self, day: date, scope: str, said: Any) -> None:
        self._reported.setdefault(day, {})[scope] = said

    def _stage(self, day: date) -> None:
        """Fetch the window that begins with `day`, or the day alone where the window cannot be had."""
        window = DayRange(day, self._ends[day])
        if self._single_until is not None and day <= self._single_until:
            window = DayRange(day, day)
        errors = self._fetch_all(window)
        if len(window) > 1 and self._needs_single_days(errors):
            self._single_until = window.until
            known = len(self._refused)
            window = DayRange(day, day)
            errors = self._fetch_all(window)
            if len(self._refused) > known:
                # Without what refused it, the rest of the window may be fetched at once.
                self._single_until = None
        if errors:
            self._staged = None
            raise DayFailedError(self.source, day, [on_day(error, day) for error in errors])
        self._staged = window

    def _needs_single_days(self, errors: Sequence[PlacedError]) -> bool:
        # A limit that outlasted its wait would outlast the next one, too.
        return not _rate_limited(errors) and len(self._complete) < len(self._active)

    def _fetch_all(self, window: DayRange) -> list[PlacedError]:
        # A day of a window may be committed much later, but what it holds is of this time.
        self._fetched_at = datetime.now(UTC)
        self._staging.clear()
        self._complete.clear()
        self._excluded.clear()
        self._rejections.clear()
        self._reported.clear()
        errors: list[PlacedError] = []
        for scope in self._scopes:
            if scope in self._refused:
                continue
            try:
                if self._fetch(scope, window):
                    self._complete.add(scope)
            except _UndatedRowError:
                # Fetched alone, each day shows which rows it has.
                break
            except (SourceError, SyncError) as error:
                # A window may be refused for its length.
                if self._go_on and (refuses(error) if len(window) == 1 else refuses_every_day(error)):
                    self._refuse(scope, error)
                    continue
                errors.append(error)
                # What is wrong with a window is found out day by day, and there for every scope if that is wanted.
                if not self._go_on or len(window) > 1 or _rate_limited(errors):
                    break
        return errors

    def _refuse(self, scope: str, error: PlacedError) -> None:
        """Go on without the accounts or shops that the error refuses, as if none of their rows had come."""
        scopes = tuple(self._refused_with(scope, error))
        for one in scopes:
            self._refused[one] = error
            self._complete.discard(one)
            self._staging.forget(one)
            self._rejections.forget(one)
            for day, rows in self._excluded.items():
                self._excluded[day] = {row for row in rows if row[0] != one}
            for reported in self._reported.values():
                reported.pop(one, None)
        self._on_refused(Refusal(error, scopes))


def _rate_limited(errors: Sequence[PlacedError]) -> bool:
    return any(isinstance(error, RateLimitedError) for error in errors)


def sync_days(
    days: Sequence[date],
    feeds: Sequence[Feed],
    *,
    go_on: bool = False,
    further: Mapping[str, Collection[date]] = MappingProxyType({}),
    stored: Collection[tuple[str, date]] = (),
    failed: Sequence[DayFailedError] = (),
) -> Iterator[DayResult]:
    """Sync `days` in order, each through all `feeds` in order, and yield each (day, source) once it is committed.

    `further` days are synced from one source alone. What is `stored` already, as (source, day), is left out; what has
    `failed` before counts as a failure of this sync. The first error ends it: a `SourceError` or `SyncError` of that
    day. With `go_on` the other days and sources are still synced, except those of a source that an error has ended for
    good, and `SyncFailedError` lists all errors at the end. Nothing of a failed day of that source is stored; a day
    without an account or shop that refuses is stored as incomplete. Raises `WarehouseError` at once in any case.
    """
    failures = list(failed)
    with ExitStack() as stack:
        opened = [stack.enter_context(feed) for feed in feeds]
        wanted = {feed.source: {*days, *further.get(feed.source, ())} for feed in feeds}
        for source, day in stored:
            wanted.get(source, set()).discard(day)
        for feed in opened:
            feed.plan(sorted(wanted[feed.source]))
        for day in sorted(set().union(*wanted.values())):
            for feed in list(opened):
                if day not in wanted[feed.source]:
                    continue
                try:
                    yield feed.sync_day(day)
                except DayFailedError as failure:
                    if not go_on:
                        raise failure.errors[0] from None
                    failures.append(failure)
                    if feed.exhausted or any(ends_source(error) for error in failure.errors):
                        opened.remove(feed)
    refusals = [refusal for feed in feeds for refusal in feed.refusals]
    if failures or refusals:
        raise SyncFailedError(failures, refusals)


def window_ends(days: Sequence[date], most: int, alone: Collection[date]) -> dict[date, date]:
    """For every day the last day of the window it belongs to: consecutive days, at most `most`, none of `alone`."""
    ends: dict[date, date] = {}
    window: list[date] = []

    def close() -> None:
        ends.update(dict.fromkeys(window, window[-1]) if window else {})
        window.clear()

    for day in days:
        if window and (len(window) == most or day != window[-1] + ONE_DAY or day in alone or window[-1] in alone):
            close()
        window.append(day)
    close()
    return ends
