"""When Meta stops serving each version of the Marketing API.

Meta announces the end of a version months ahead. Calls to a version that has ended are upgraded to another one, with
figures that may differ, or refused.
"""

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

# The first day without the version; None: Meta has not announced an end. Oldest first, and versions end in this order.
# See https://developers.facebook.com/docs/graph-api/changelog
VERSION_ENDS: Final[dict[str, date | None]] = {
    "v23.0": date(2026, 6, 9),
    "v24.0": date(2026, 11, 10),
    "v25.0": date(2027, 2, 23),
    "v26.0": None,
    "v27.0": None,
}
NEWEST_VERSION: Final = list(VERSION_ENDS)[-1]

_VERSION = re.compile(r"v(\d+)\.(\d+)", re.ASCII)


class Lifetime(StrEnum):
    """What is known of a version's end on a given day."""

    ENDED = "ended"
    ENDS = "ends"
    NO_END_KNOWN = "no end known"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version on a day. `ends_on` is the first day without it, or a later one where `is_exact` is false.

    Of a version that is older than the listed ones, only the end of a newer version is known.
    """

    lifetime: Lifetime
    ends_on: date | None
    is_exact: bool = True


def version_status(version: str, day: date) -> VersionStatus:
    """Return what is known of the end of a version, such as `v26.0`, on a day.

    Versions newer than the listed ones are accepted, without an end. Raises ValueError for text that is no version.
    """
    if version in VERSION_ENDS:
        ends_on, is_exact = VERSION_ENDS[version], True
    else:
        # A version ends no later than the next newer one.
        newer = [known for known in VERSION_ENDS if _number(known) > _number(version)]
        ends_on, is_exact = (VERSION_ENDS[newer[0]] if newer else None), False
    if ends_on is None:
        return VersionStatus(Lifetime.NO_END_KNOWN, None)
    return VersionStatus(Lifetime.ENDED if day >= ends_on else Lifetime.ENDS, ends_on, is_exact)


def _number(version: str) -> tuple[int, int]:
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ValueError("a version looks like v26.0")
    return int(found[1]), int(found[2])
