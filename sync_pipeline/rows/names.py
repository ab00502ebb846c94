"""How a company names its ads and campaigns: where the marketing associate and the mapping are in a name."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import re2

from sync_pipeline.rows import values

LONGEST_PATTERN: Final = 200
LONGEST_NAME: Final = 500


@dataclass(frozen=True, slots=True)
class NamingConvention:
    """Where the associate is in an ad's name and the mapping in a campaign's.

    Positions count from 1 among the parts between separators: all parts for the associate, those that are not blank
    for the mapping. A pattern replaces a position; its named group, `associate` or `mapping`, is what is wanted. It
    sees the first 500 characters of a name.
    """

    separator: str = "_"
    associate_position: int = 4
    mapping_position: int = 5
    associate_pattern: str | None = None
    mapping_pattern: str | None = None

    def associate(self, ad_name: str) -> str | None:
        """Return the marketing associate in an ad's name, trimmed, its case kept; None where absent or blank."""
        if self.associate_pattern is not None:
            return _group(self.associate_pattern, "associate", ad_name)
        parts = ad_name.split(self.separator, self.associate_position)
        if len(parts) < self.associate_position:
            return None
        return values.visible(parts[self.associate_position - 1]) or None

    def mapping(self, campaign_name: str) -> str | None:
        """Return the mapping in a campaign's name, trimmed and its case kept; None where absent or blank."""
        if self.mapping_pattern is not None:
            return _group(self.mapping_pattern, "mapping", campaign_name)
        found = (part for part in map(values.visible, _parts(campaign_name, self.separator)) if part)
        return next(islice(found, self.mapping_position - 1, None), None)


DEFAULT_NAMING: Final = NamingConvention()


def check_pattern(pattern: str, group: str) -> None:
    """Raise ValueError, with the reason, for a pattern that cannot be used to find the group in names."""
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"must have at most {LONGEST_PATTERN} characters, has {len(pattern)}")
    try:
        found = _compiled(pattern)
    except re2.error as error:
        raise ValueError(f"is not a regular expression in RE2 syntax: {_reason(error)}") from None
    if group not in found.groupindex:
        raise ValueError(f"must have a group named {group}: (?P<{group}>...)")


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else "it cannot be compiled"
    text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    # After the colon RE2 repeats the pattern, which may be a secret pasted into the wrong field.
    return text.partition(": ")[0]


def _parts(name: str, separator: str) -> Iterator[str]:
    # Not by `split`, which makes a list of millions of parts from a name of as many separators.
    start = 0
    while (end := name.find(separator, start)) >= 0:
        yield name[start:end]
        start = end + len(separator)
    yield name[start:]


def _group(pattern: str, group: str, name: str) -> str | None:
    found = _compiled(pattern).search(name[:LONGEST_NAME])
    text: str | None = found[group] if found else None
    return (values.visible(text) or None) if text else None


# RE2 takes time in proportion to the name's length, whatever the pattern: a tenant's pattern cannot stall a run.
@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)
