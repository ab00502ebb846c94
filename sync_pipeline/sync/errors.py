"""What ends a day, a source or a sync, beside what the APIs and the warehouse raise themselves."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Self, TypeAlias

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.rows.errors import RowError
from sync_pipeline.sources.errors import (
    ApiVersionError,
    AppProofError,
    PermissionDeniedError,
    Place,
    PolicyBlockedError,
    RateLimitedError,
    SourceError,
    TokenError,
)

if TYPE_CHECKING:
    from sync_pipeline.sync.refusals import MissingScope, Refusal


class SyncError(SyncPipelineError):
    """Something about one place that ends its day: what an API gave cannot be stored, or gives nothing to store."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} ({self.place})"

    def metadata(self) -> dict[str, str | int]:
        """The place and the message as flat values, for a failed run."""
        named = {
            "source": self.place.source,
            "date": self.place.days(),
            "account_id": self.place.account_id,
            "shop_id": self.place.shop_id,
            "key": self.place.key,
            "error_message": self.what,
        }
        return {name: value for name, value in named.items() if value is not None}


class RowRejectedError(SyncError):
    """A row cannot be read, and the day is not stored: in strict mode, or because the row answers another request."""

    def __init__(self, place: Place, error: RowError) -> None:
        super().__init__(place, str(error))
        self.error = error

    def __reduce__(self) -> tuple[type[Self], tuple[Place, RowError]]:
        return type(self), (self.place, self.error)


class TooManyRejectedError(SyncError):
    """So many rows cannot be read that the format must have changed; nothing of them is stored.

    `rejected` of `rows` rows could not be read, and `example` describes one of them.
    """

    def __init__(self, place: Place, rejected: int, rows: int, example: str) -> None:
        what = (
            f"{rejected} of {rows} rows cannot be read, so the format of the API must have changed; for example "
            f"{example}. Nothing was stored; upgrade sync_pipeline, or report the field and the reason"
        )
        super().__init__(place, what)
        self.rejected = rejected
        self.rows = rows
        self.example = example

    def __reduce__(self) -> tuple[type[Self], tuple[Place, int, int, str]]:
        return type(self), (self.place, self.rejected, self.rows, self.example)


class NothingListedError(SyncError):
    """The tenant's token or key sees no account or shop, or not the one that its file names."""


PlacedError: TypeAlias = SourceError | SyncError

# No day of the source can be had while one of these stands, so asking for it in another way is of no use.
_ENDS_SOURCE = (
    TokenError,
    AppProofError,
    PermissionDeniedError,
    RateLimitedError,
    ApiVersionError,
    PolicyBlockedError,
)


def ends_source(error: PlacedError) -> bool:
    """Whether the error is about the token, its permissions or a rate limit, and so about every day alike."""
    return isinstance(error, _ENDS_SOURCE)


def on_day(error: PlacedError, day: date) -> PlacedError:
    """The error of a window as that of its first day, the one that could not be stored."""
    error.place = replace(error.place, since=day, until=day)
    return error


class DayFailedError(SyncPipelineError):
    """One day of one source is not stored, for one or more reasons."""

    def __init__(self, source: str, day: date, errors: Sequence[PlacedError]) -> None:
        super().__init__(source, day, tuple(errors))
        self.source = source
        self.day = day
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "; ".join(str(error) for error in self.errors)


class SyncFailedError(SyncPipelineError):
    """A sync that went on after errors has ended.

    The days of `failures` are not stored; days were stored without the accounts and shops of `refusals`.
    """

    def __init__(self, failures: Sequence[DayFailedError], refusals: Sequence["Refusal"] = ()) -> None:
        super().__init__(tuple(failures), tuple(refusals))
        self.failures = tuple(failures)
        self.refusals = tuple(refusals)

    @property
    def errors(self) -> list[PlacedError]:
        """Every error once: those of the refusals, then those of the days, in the order they came."""
        of_days = (error for failure in self.failures for error in failure.errors)
        found = {id(error): error for error in (*(refusal.error for refusal in self.refusals), *of_days)}
        return list(found.values())

    @property
    def missing(self) -> list["MissingScope"]:
        """The accounts and shops that refuse, with the days that were stored without them."""
        return [one for refusal in self.refusals for one in refusal.missing]

    def __str__(self) -> str:
        errors = self.errors
        listed = f"{len(errors)} error{'s' if len(errors) > 1 else ''}: " + "; ".join(str(error) for error in errors)
        return " ".join([listed, *(f"{one.sentence}." for one in self.missing)])

    def metadata(self) -> dict[str, str | int]:
        """The first error's facts, as those of a sync that stops at it would be."""
        return self.errors[0].metadata()
