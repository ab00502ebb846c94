"""Reading single fields of raw JSON objects into what the tables hold.

JSON is parsed with `parse_float=Decimal`, so a number is an int, a Decimal, or text, as both APIs also write them.
Every reader takes the object and the field's name and raises FieldError for a value it cannot read.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from sync_pipeline.rows.errors import FieldError

Raw = Mapping[str, Any]

# Characters of an id. UUIDs have 36, Meta's ids about 18.
MAX_ID_LENGTH: Final = 64

ZERO: Final = Decimal("0.00")
_CENT: Final = Decimal("0.01")
_THOUSANDTH: Final = Decimal("0.001")
_LONGEST_NUMBER_TEXT: Final = 100
_MONEY_LIMIT: Final = Decimal(10) ** 12  # numeric(14,2)
_DIVIDED_AT_MOST: Final = Decimal(10) ** 24  # more would not fit numeric(14,2) after any divisor accepted here
_BIGINT: Final = range(-(2**63), 2**63)
# Linear: no digit can belong to two of its parts.
_NUMBER: Final = re.compile(r"\s*[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,6})?\s*", re.ASCII)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_YEARS: Final = range(1900, 2200)
_TRUE: Final = frozenset({"true", "1"})
# Invisible characters that come along when text is copied from a web page or a chat, and that no script needs.
_INVISIBLE: Final = dict.fromkeys(
    map(ord, "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")
)
# Zero-width joiners are part of words in Indic scripts, but not at their ends.
_ENDS: Final = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200c\u200d"


def clean(text: str) -> str:
    """Return text Postgres can store: without NUL characters, lone surrogates replaced by U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = _SURROGATE.sub("\ufffd", text)
    return text


def nfc(text: str) -> str:
    """Return text in Unicode's composed form (NFC), so that texts which look the same are the same."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def visible(text: str) -> str:
    """Return text without invisible characters, and without whitespace and joiners at its ends."""
    return text.strip() if text.isascii() else text.translate(_INVISIBLE).strip(_ENDS)


def optional_name(raw: Raw, field: str) -> str | None:
    """Read text like `optional_text`, in NFC: for names and other text that is compared or grouped, never for ids."""
    text = optional_text(raw, field)
    return None if text is None else nfc(text)


def optional_text(raw: Raw, field: str) -> str | None:
    """Read text of any length; absent and empty are None. Numbers become their text."""
    value = raw.get(field)
    if type(value) is str:
        return clean(value) or None
    if value is None:
        return None
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _number_text(field, value)
    raise FieldError(field, value, "is not text")


def identifier(raw: Raw, field: str) -> str:
    """Read an id as text. A fraction is refused: as a number it may have lost digits."""
    value = raw.get(field)
    if isinstance(value, str | int) and _is_too_long(value):
        raise FieldError(field, value, f"is longer than {MAX_ID_LENGTH} characters")
    if type(value) is str:
        if value.strip() and clean(value) == value:
            return value
    elif isinstance(value, int) and not isinstance(value, bool):
        return _number_text(field, value)
    raise FieldError(field, value, "is not an id")


def _is_too_long(value: str | int) -> bool:
    return len(value) > MAX_ID_LENGTH if isinstance(value, str) else abs(value) >= 10**MAX_ID_LENGTH


def _number_text(field: str, value: int | Decimal) -> str:
    """Return a number in digits: Postgres keeps no exponents, and the stored number is to give the same text."""
    if isinstance(value, Decimal):
        if value.is_finite() and abs(value.adjusted()) < _LONGEST_NUMBER_TEXT:
            return f"{value:f}"
        raise FieldError(field, value, "is out of range")
    try:
        return str(value)
    except ValueError:
        raise FieldError(field, value, "is out of range") from None


def number(raw: Raw, field: str) -> Decimal:
    """Read a finite number; absent and blank are 0."""
    value = raw.get(field)
    if type(value) is str:
        if _NUMBER.fullmatch(value):
            return Decimal(value)
        if not value or value.isspace():
            return ZERO
        raise FieldError(field, value, "is not a number")
    if value is None:
        return ZERO
    if type(value) is int:
        return Decimal(value)
    if type(value) is Decimal and value.is_finite():
        return value
    raise FieldError(field, value, "is not a number")


def amount(raw: Raw, field: str) -> Decimal:
    """Read a number to calculate with; absent and blank are 0. Raises FieldError where it is too large to be money."""
    value = number(raw, field)
    if -_DIVIDED_AT_MOST < value < _DIVIDED_AT_MOST:
        return value
    raise FieldError(field, value, "is out of range")


def flag(raw: Raw, field: str) -> bool:
    """Whether a field is true: as JSON, as 1, or as either one's text. Everything else is false."""
    value = raw.get(field)
    return value is True or (type(value) is int and value == 1) or (type(value) is str and value.lower() in _TRUE)


def money(raw: Raw, field: str) -> Decimal:
    """Read an amount in major units, rounded half up to cents; absent and blank are 0."""
    return cents(number(raw, field), field)


def cents(amount: Decimal, field: str) -> Decimal:
    """Round an amount half up to cents. Raises FieldError where numeric(14,2) cannot hold it."""
    if -_MONEY_LIMIT < amount < _MONEY_LIMIT:
        try:
            rounded = amount.quantize(_CENT, ROUND_HALF_UP)
        except InvalidOperation:
            rounded = _MONEY_LIMIT
        if -_MONEY_LIMIT < rounded < _MONEY_LIMIT:
            return rounded
    raise FieldError(field, amount, "does not fit numeric(14,2)")


def major_units(amount: Decimal, divisor: int, field: str) -> Decimal:
    """Divide an amount in minor units and round it like `cents`."""
    if divisor != 1 and -_DIVIDED_AT_MOST < amount < _DIVIDED_AT_MOST:
        amount /= divisor
    return cents(amount, field)


def counter(raw: Raw, field: str) -> int:
    """Read a whole number that fits bigint; absent and blank are 0."""
    value = raw.get(field)
    if type(value) is str and len(value) < 19 and value.isdecimal() and value.isascii():
        return int(value)
    return _whole(number(raw, field), field)


def rounded_counter(raw: Raw, field: str) -> int:
    """Read a number that fits bigint, rounded half up to a whole one; absent and blank are 0."""
    value = number(raw, field)
    # First, because rounding 1E+999999 would take a million digits.
    require_moderate(value, field)
    return _whole(value.to_integral_value(ROUND_HALF_UP), field)


def quantity(raw: Raw, field: str) -> Decimal:
    """Read a quantity, which has a fraction where goods are weighed, rounded half up to thousandths.

    Absent and blank are 0. A whole number has no decimal places. Raises FieldError where its whole part does not fit
    bigint.
    """
    value = raw.get(field)
    if type(value) is int and value in _BIGINT:
        return Decimal(value)
    amount = number(raw, field)
    require_moderate(amount, field)
    return plain(amount.quantize(_THOUSANDTH, ROUND_HALF_UP))


def require_moderate(value: Decimal, field: str) -> None:
    """Raise FieldError where the whole part of a number does not fit bigint."""
    if not _BIGINT.start <= value < _BIGINT.stop:
        raise FieldError(field, value, "does not fit bigint")


def plain(value: Decimal) -> Decimal:
    """Return a number of moderate size without zeros at its end: 2.000 as 2 and 1.500 as 1.5."""
    whole = value.to_integral_value()
    return Decimal(int(whole)) if whole == value else value.normalize()


def optional_counter(raw: Raw, field: str) -> int | None:
    """Read a whole number that fits bigint; absent and blank are None."""
    value = raw.get(field)
    if value is None or (type(value) is str and not value.strip()):
        return None
    return _whole(number(raw, field), field)


def _whole(value: Decimal, field: str) -> int:
    # First, because int() of 1E+999999 would take a million digits.
    require_moderate(value, field)
    whole = int(value)
    if whole != value:
        raise FieldError(field, value, "is not a whole number")
    return whole


def instant(raw: Raw, field: str) -> datetime:
    """Read a timestamp, with or without microseconds, as an aware datetime in UTC; without an offset it is UTC."""
    value = raw.get(field)
    if type(value) is not str:
        raise FieldError(field, value, "is not a timestamp")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise FieldError(field, value, "is not a timestamp") from None
    if len(value) < 16 or value[7] != "-" or value[10] not in "T " or moment.year not in _YEARS:
        raise FieldError(field, value, "is not a timestamp")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def optional_instant(raw: Raw, field: str) -> datetime | None:
    """Read a timestamp like `instant`; absent and blank are None."""
    value = raw.get(field)
    return None if value is None or value == "" else instant(raw, field)


def day(raw: Raw, field: str) -> date:
    """Read a calendar day written `YYYY-MM-DD`."""
    value = raw.get(field)
    found = _day(value) if type(value) is str and len(value) == 10 else None
    if found is None:
        raise FieldError(field, value, "is not a day YYYY-MM-DD")
    return found


@lru_cache(maxsize=4096)
def _day(text: str) -> date | None:
    if text[4] != "-" or text[7] != "-":
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
