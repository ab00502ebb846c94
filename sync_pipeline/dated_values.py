"""Values that hold for a range of days, written in a tenant file as one number or as a list of dated ones."""

from datetime import date
from decimal import Decimal
from typing import Final, Generic, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, model_validator

from sync_pipeline.date_ranges import Day

Number = TypeVar("Number", bound=Decimal)

MAX_DATED_VALUES: Final = 100
PLAIN, DATED = "plain", "dated"
"""The two forms, as pydantic's tags name them in the location of an error."""


class Dated(BaseModel, Generic[Number]):
    """A value from `start_date` to `end_date`, both included; without one of them that end is open."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    value: Number
    start_date: Day | None = None
    end_date: Day | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start_date and self.end_date and self.start_date > self.end_date:
            raise ValueError(f"start_date {self.start_date} is after end_date {self.end_date}")
        return self

    def holds_on(self, day: date) -> bool:
        """Return whether the value holds on a day."""
        return (self.start_date or date.min) <= day <= (self.end_date or date.max)


DatedNumber: TypeAlias = Decimal | tuple[Dated[Decimal], ...]
"""One number for all days, or dated ones."""


def value_on(setting: DatedNumber, day: date) -> Decimal | None:
    """Return the value that holds on a day; of several, the one that started last. None where there is none."""
    if isinstance(setting, Decimal):
        return setting
    holding = [one for one in setting if one.holds_on(day)]
    return max(holding, key=lambda one: one.start_date or date.min).value if holding else None


def _form(value: object) -> str:
    return DATED if isinstance(value, list | tuple) else PLAIN


def _distinct_starts(setting: DatedNumber) -> DatedNumber:
    if isinstance(setting, Decimal):
        return setting
    if not setting:
        raise ValueError("must not be an empty list")
    if len(setting) > MAX_DATED_VALUES:
        raise ValueError(f"must have at most {MAX_DATED_VALUES} entries")
    entries: dict[date | None, int] = {}
    for entry, one in enumerate(setting):
        if one.start_date in entries:
            start = f"start_date {one.start_date}" if one.start_date else "no start_date"
            raise ValueError(f"entries {entries[one.start_date]} and {entry} both have {start}; change or remove one")
        entries[one.start_date] = entry
    return setting


BY_FORM: Final = Discriminator(_form)
DISTINCT_STARTS: Final = AfterValidator(_distinct_starts)
"""Refuses two entries with the same start, of which neither would be the later one."""
