"""What staff write into an order item's `note_product`: the product group, and after a dash the cost of one unit."""

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from sync_pipeline.rows import values

# Hyphens, en and em dash and minus signs: phones and word processors replace the plain hyphen.
_DASH: Final = "[-\u2010-\u2015\u2212\ufe58\ufe63\uff0d]"
_DASH_FOUND: Final = re.compile(_DASH)
# A currency sign, or the letters that prices are written with where Pancake is used.
_CURRENCY: Final = (
    "(?:[A-Za-z]{0,3}[$\u00a2-\u00a5\u0e3f\u17db\u20a0-\u20cf]|(?:php|idr|vnd|thb|myr|sgd|usd|khr|rp|rm|p)\\.?)?"
)
# More than nine digits in a free-text note are a phone number or a code.
_COST: Final = re.compile(
    rf"{_DASH}\s*{_CURRENCY}\s*([0-9]{{1,3}}(?:,[0-9]{{3}}){{1,2}}(?![0-9])|[0-9]{{1,9}}(?![0-9]))(\.[0-9]{{1,9}})?",
    re.IGNORECASE,
)
# Characters of a note that are read; these stay in caches, too.
_READ_OF_NOTE: Final = 2000
# Zero-width joiners are part of words in Indic scripts.
_JOINERS: Final = "\u200c\u200d"


def note_mapping(note: Any) -> str | None:
    """Return the letters and spaces a note begins with, in lower case, or else its text before a dash.

    `Agriblast-100` gives `agriblast`, `3in1 Cream-100` gives `3in1 cream`. Combining marks belong to their letters, as
    in Thai, and the result is NFC. None where there is neither, and for anything but text.
    """
    return _mapping(note[:_READ_OF_NOTE]) if isinstance(note, str) else None


def note_cost(note: Any) -> Decimal | None:
    """Return the unit cost written after a dash: `Agriblast-100` and `Agriblast-₱100` give 100; None without one.

    Of several numbers the first one that no letters follow up to the next dash counts, so that `Omega-3 Oil-100` gives
    100; else the first one.
    """
    return _cost(note[:_READ_OF_NOTE]) if isinstance(note, str) else None


@lru_cache(maxsize=1024)
def _mapping(note: str) -> str | None:
    note = values.nfc(values.visible(values.clean(note)))
    end = next((place for place, character in enumerate(note) if not _continues_word(character)), len(note))
    leading = values.visible(note[:end])
    return values.nfc((leading or values.visible(_DASH_FOUND.split(note, maxsplit=1)[0])).lower()) or None


def _continues_word(character: str) -> bool:
    return (
        character.isalpha()
        or character.isspace()
        or character in _JOINERS
        or unicodedata.category(character).startswith("M")
    )


@lru_cache(maxsize=1024)
def _cost(note: str) -> Decimal | None:
    note = values.visible(values.clean(note))
    costs = list(_COST.finditer(note))
    if not costs:
        return None
    found = next((cost for cost in costs if not _is_followed_by_letters(note, cost.end())), costs[0])
    return Decimal(found[1].replace(",", "") + (found[2] or ""))


def _is_followed_by_letters(note: str, start: int) -> bool:
    dash = _DASH_FOUND.search(note, start)
    return any(character.isalpha() for character in note[start : dash.start() if dash else None])
