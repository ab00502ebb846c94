"""Parsing JSON from an API without letting it take the memory or the time of the process."""

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

from sync_pipeline.sources.limits import MAX_JSON_DEPTH, MAX_NUMBER_LENGTH, MAX_RESPONSE_MEMORY

# Bytes of memory that CPython takes, measured on the worst JSON for each: objects of one distinct key in each other,
# arrays of one element in each other, and distinct keys with fractions. Each value but the first follows one of these
# characters, so that their number bounds the memory; those within texts make the estimate too high, never too low.
_ESTIMATES = ((b"{", 150), (b"}", 50), (b"[", 50), (b"]", 45), (b",", 130))
# No JSON takes more memory than this per byte of text, so small responses need no estimate.
_MOST_PER_BYTE = 64

_OTHER_CHARACTERS = bytes(set(range(256)) - set(b'[]{}"'))
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_TEXT = re.compile(rb'"[^"]*"?')
_NUMBER_CHARACTERS = bytes(ord("0") if character in b"0123456789+-.eE" else ord(" ") for character in range(256))
# The texts before a constant are complete, because the parser has read them.
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*+"|(NaN|-?Infinity)', re.DOTALL)
_LONG_NUMBER = b"0" * (MAX_NUMBER_LENGTH + 1)


def parse_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises ValueError with the reason.

    Numbers with a fraction become Decimal: money must not pass through binary floating point.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text at byte {error.start}"
    else:
        # Raised outside of `except`, so that no error carries another one, which holds the text.
        reason = _excess(body, text) or ""
        if not reason:
            found, reason = _parsed(text, may_have_long_numbers=_LONG_NUMBER in body.translate(_NUMBER_CHARACTERS))
            if not reason:
                return found
    raise ValueError(reason)


def _parsed(text: str, *, may_have_long_numbers: bool) -> tuple[Any, str]:
    """The value, and why there is none."""
    # Functions in Python triple the time of a page with many numbers.
    numbers: dict[str, Any] = {"parse_float": Decimal}
    if may_have_long_numbers:
        numbers = {"parse_float": _fraction, "parse_int": _integer}
    try:
        found = json.loads(text, parse_constant=_no_constant, **numbers)
    except RecursionError:
        return None, f"it is nested deeper than {MAX_JSON_DEPTH} levels"
    except ArithmeticError:
        return None, "it holds a number out of range"
    except json.JSONDecodeError as error:
        return None, f"{error.msg} at character {error.pos}"
    except _NumberTooLongError:
        return None, f"it holds a number of more than {MAX_NUMBER_LENGTH} characters"
    except _ConstantError:
        position = next(found.start(1) for found in _CONSTANT.finditer(text) if found[1])
        return None, f"it holds a number that is none at character {position}"
    return found, ""


def _excess(body: bytes, text: str) -> str | None:
    """Which limit parsing the text would exceed, None where it exceeds none."""
    if len(body) * _MOST_PER_BYTE > MAX_RESPONSE_MEMORY:
        # A text takes up to four bytes a character, if only one of them is an emoji.
        needed = len(body) + text.__sizeof__() + _estimate(body)
        if needed > MAX_RESPONSE_MEMORY:
            return f"it would take more than {MAX_RESPONSE_MEMORY // 10**6} MB of memory"
    if _is_deeper_than(body, MAX_JSON_DEPTH):
        return f"it is nested deeper than {MAX_JSON_DEPTH} levels"
    return None


def _estimate(body: bytes) -> int:
    return sum(body.count(character) * size for character, size in _ESTIMATES)


def _is_deeper_than(body: bytes, levels: int) -> bool:
    """Whether pairs of brackets are nested deeper than that, found without parsing by removing the innermost ones.

    Brackets without a partner are left to the parser, which refuses them.
    """
    brackets = _brackets(body)
    for _ in range(levels):
        left = brackets.replace(b"[]", b"")
        if len(left) == len(brackets):
            return False
        brackets = left
    return bool(brackets)


def _brackets(body: bytes) -> bytes:
    """The brackets outside of texts, those of objects as those of arrays."""
    if b"\\" in body:
        body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    # Most texts hold no bracket, so that only their two quotes are left, now next to each other.
    reduced = body.translate(_AS_ARRAYS, _OTHER_CHARACTERS).replace(b'""', b"")
    return _TEXT.sub(b"", reduced) if b'"' in reduced else reduced


class _ConstantError(ValueError):
    pass


class _NumberTooLongError(ValueError):
    pass


def _integer(digits: str) -> int:
    if len(digits) > MAX_NUMBER_LENGTH:
        raise _NumberTooLongError
    return int(digits)


def _fraction(digits: str) -> Decimal:
    if len(digits) > MAX_NUMBER_LENGTH:
        raise _NumberTooLongError
    return Decimal(digits)


def _no_constant(name: str) -> NoReturn:
    raise _ConstantError(name)
