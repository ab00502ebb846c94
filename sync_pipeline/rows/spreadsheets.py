"""What spreadsheet programs do to a table that is saved as text: separators, and cells that they change.

A problem completes a sentence that begins with the column's name, and says what to write instead. None quotes a cell.
"""

import csv
import re
import unicodedata
from collections.abc import Collection
from typing import Final

SEPARATORS: Final = (",", ";", "\t")
# Excel reads the separator from such a line. Other programs keep it as a row, and so fill it up with separators.
_SEPARATOR_LINE: Final = re.compile(r'"?sep=(.)[,;"\s]*', re.IGNORECASE)
_SCIENTIFIC: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)?E[-+][0-9]+|[0-9]+[.,][0-9]+E[0-9]+", re.ASCII | re.IGNORECASE)
_ZERO_DECIMALS: Final = re.compile(r"[0-9]+[.,]0+", re.ASCII)
_ERROR_VALUES: Final = frozenset({"#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"})
# The zero-width non-joiner and joiner: emoji and several scripts need them, but no id does.
_JOINERS: Final = frozenset("\u200c\u200d")
# Letters and marks without a shape: a joiner, fillers, and the blank of Braille.
_SHAPELESS: Final = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]")
_EVERY_SHOP: Final = frozenset(
    {"all", "all shops", "any", "each", "every", "every shop", "*", "-", "n/a", "nil", "none", "null"}
)
_SHOP_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SEVERAL: Final = re.compile(r"[A-Za-z0-9_-]+(?:\s*[,;/|&+]\s*|\s+)[A-Za-z0-9_-]", re.ASCII)


def named_separator(line: str) -> str | None:
    """Return the character that a first line such as `sep=;` names as the separator; None for any other line."""
    found = _SEPARATOR_LINE.fullmatch(line)
    return found[1] if found else None


def separator_of(header: str, columns: Collection[str], named: str | None = None) -> str:
    """Return the separator that splits a header into the most of these columns: `named` if several are equally good."""

    def known(separator: str) -> int:
        cells = next(csv.reader([header], delimiter=separator), [])
        return len({cell.strip() for cell in cells} & set(columns))

    return max((named or SEPARATORS[0], *SEPARATORS), key=known)


def text_problem(text: str) -> str | None:
    """Describe the problem of a text that is compared with others; None without one."""
    return _invisible(text, allowed=_JOINERS) or _error_value(text)


def invisible_problem(text: str) -> str | None:
    """Return which character of a cell nobody can see: a number, a date and a column's name have none."""
    return _invisible(text) or _shapeless(text)


def id_problem(text: str) -> str | None:
    """Describe the problem of an id, which a spreadsheet may have taken for a number; None without one."""
    if why := invisible_problem(text) or _error_value(text):
        return why
    if _SCIENTIFIC.fullmatch(text):
        return (
            "is a number in scientific notation, which has lost digits; format the column as text and enter the whole "
            "id again"
        )
    if _ZERO_DECIMALS.fullmatch(text):
        return "is a number with decimals; write the id without them"
    return None


def shop_id_problem(text: str) -> str | None:
    """Describe the problem of a shop id; None without one."""
    if why := id_problem(text):
        return why
    if text.lower() in _EVERY_SHOP:
        return "must be blank for every shop; leave the cell empty"
    if _SEVERAL.match(text):
        return "names several shops; write a line for each shop"
    if not _SHOP_ID.fullmatch(text):
        return "is not a shop id, such as 100200"
    return None


def _invisible(text: str, *, allowed: Collection[str] = ()) -> str | None:
    if text.isascii():
        return None
    found = next((one for one in text if unicodedata.category(one) == "Cf" and one not in allowed), None)
    return None if found is None else _deletion(found)


def _shapeless(text: str) -> str | None:
    found = None if text.isascii() else _SHAPELESS.search(text)
    return None if found is None else _deletion(found[0])


def _deletion(character: str) -> str:
    return f"contains the invisible character U+{ord(character):04X}; delete it"


def _error_value(text: str) -> str | None:
    return "is an error value of a spreadsheet; correct its formula" if text.upper() in _ERROR_VALUES else None
