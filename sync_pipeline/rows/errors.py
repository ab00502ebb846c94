"""What a row that cannot be understood raises."""

import re
from collections.abc import Hashable, Mapping
from datetime import date
from decimal import Decimal

from sync_pipeline.errors import SyncPipelineError

# Ids are of letters, digits and a few marks; anything else under `id` may be a person's name.
_ID = re.compile(r"[A-Za-z0-9_.:#/-]{1,40}")
# Too short for a phone number.
_SHORT_NUMBER = re.compile(r"[-+0-9.,eE]{1,6}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class FieldError(ValueError):
    """One field of a raw object cannot be read; the row's reader turns it into a RowError."""

    def __init__(self, field: str, value: object, why: str) -> None:
        self.field = field
        self.value = value
        self.why = why
        super().__init__(field, why)


class UnrequestedError(FieldError):
    """A raw object belongs to another account or to several days, so that it answers another request."""


class RowError(SyncPipelineError):
    """A raw object from an API cannot become a row.

    `kind` is insight, account day, order or product, `row_id` its id and place as far as they could be read. `key` is
    the id alone and `day` its day, each None where it could not be read. `part` tells apart rows of the same id and
    day, None where there is one such row or its part cannot be read. `value` describes what was found and never quotes
    text: it may be a customer's.
    """

    def __init__(
        self,
        *,
        kind: str,
        row_id: str,
        field: str,
        value: object,
        why: str,
        key: str | None = None,
        day: date | None = None,
        part: Hashable = None,
    ) -> None:
        self.kind = kind
        self.row_id = row_id
        self.field = field
        self.value = shown(value)
        self.why = why
        self.key = key
        self.day = day
        self.part = part
        super().__init__(f"{kind} {row_id}: {field} {self.reason}")

    @property
    def reason(self) -> str:
        """What is wrong with the field, and what was found in it."""
        return f"{self.why}, found {self.value}"


class UnrequestedRowError(RowError):
    """A raw object answers another request, so that nothing of its response can be trusted."""


def require_object(raw: object) -> None:
    """Raise FieldError where an entry of a list is not an object, such as null."""
    if not isinstance(raw, Mapping):
        raise FieldError("entry", raw, "is not an object")


def part_of(raw: object, field: str) -> object:
    """Return a field of a raw object, None where it has none or is not an object: for labels of what is unreadable."""
    return raw.get(field) if isinstance(raw, Mapping) else None


def key_of(value: object) -> str | None:
    """Return an id as text, None where it is none or has an unusual form, in which it may be a person's name."""
    return None if isinstance(value, bool) or (text := label(value)) == "?" else text


def label(value: object) -> str:
    """Return what may be an id as a text of at most 40 characters, `?` for anything else."""
    if isinstance(value, str):
        return value if _ID.fullmatch(value) else "?"
    # A number of thousands of digits has no text.
    return str(value) if isinstance(value, int) and abs(value) < 10**40 else "?"


def shown(value: object) -> str:
    """Describe a value in one short line: short numbers and days as they are, of anything else only kind and size."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        plain = _SHORT_NUMBER.fullmatch(value) or _DAY.fullmatch(value)
        return repr(value) if plain else f"a text of {len(value)} characters" if value.strip() else "a blank text"
    return _shown_number(value)


def _shown_number(value: object) -> str:
    # A number of thousands of digits has no text.
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    if not isinstance(value, int | Decimal):
        return f"a {type(value).__name__}"
    text = str(value)
    return text if _SHORT_NUMBER.fullmatch(text) else f"a number of {len(text)} characters"
