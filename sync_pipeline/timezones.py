"""Names of timezones, with advice for the ones that are not names of the IANA database."""

import difflib
import functools
import re
import zoneinfo
from typing import Final

EXAMPLE: Final = "use a name such as Asia/Manila"
MAX_NAME_LENGTH: Final = 100
# The largest city of each offset that our users are likely to mean.
_CITY_OF_OFFSET: Final = {
    "+5:30": "Asia/Kolkata",
    "+6": "Asia/Dhaka",
    "+6:30": "Asia/Yangon",
    "+7": "Asia/Bangkok",
    "+8": "Asia/Manila",
    "+9": "Asia/Tokyo",
    "+10": "Australia/Brisbane",
}
_OFFSET = re.compile(r"(?:GMT|UTC)? ?([+-])0?([0-9]{1,2})(?::?(00|30|45))?", re.IGNORECASE)
_ABBREVIATION = re.compile(r"[A-Z]{2,5}")
_REVERSED = re.compile(r"Etc/GMT([+-])([0-9]{1,2})")


@functools.cache
def timezone_names() -> frozenset[str]:
    """Return the names of the IANA database. Listing them takes a moment, so they are listed once."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def advice(name: str) -> str:
    """Return what to write instead of a name that the database does not have."""
    if len(name) > MAX_NAME_LENGTH:
        return EXAMPLE
    if offset := _OFFSET.fullmatch(name):
        sign, hours, minutes = offset.groups()
        city = _CITY_OF_OFFSET.get(f"{sign}{hours}" + (f":{minutes}" if minutes not in {None, "00"} else ""))
        return f"an offset is not a timezone; {f'did you mean {city}?' if city else EXAMPLE}"
    if _ABBREVIATION.fullmatch(name):
        return f"an abbreviation is not a timezone; {EXAMPLE}"
    near = difflib.get_close_matches(name, timezone_names(), n=1)
    return f"did you mean {near[0]}?" if near else EXAMPLE


def warning(name: str) -> str | None:
    """Return a warning about a name that suggests the opposite offset: Etc/GMT+8 is 8 hours behind UTC. Else None."""
    found = _REVERSED.fullmatch(name)
    if found is None or int(found[2]) == 0:
        return None
    sign, hours = found.groups()
    meant = "-" if sign == "+" else "+"
    city = _CITY_OF_OFFSET.get(f"{sign}{hours}")
    remedy = f"; for UTC{sign}{hours} write a city, such as {city}" if city else ""
    return f"{name} is UTC{meant}{hours}, because names that begin with Etc/GMT have the sign reversed{remedy}"
