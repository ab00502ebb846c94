"""What a client has sent to its API and met there: requests, waits and errors, counted by class."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from sync_pipeline.sources.errors import SourceError

# Why a client waits. `delay` is the pause between requests that the workflow asks for.
WaitClass: TypeAlias = Literal["delay", "quota", "rate_limit", "report", "retry"]
# Counter and class; the names are those of the table sync_counters.
Counts: TypeAlias = Mapping[tuple[str, str], float]

REQUESTS: Final = "requests"
WAITS: Final = "waits"
WAIT_SECONDS: Final = "wait_seconds"
ERRORS: Final = "errors"
# The class of counters that have none.
NO_CLASS: Final = ""

_INNER_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(slots=True)
class ApiUsage:
    """Counts since they were last taken."""

    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _seconds: dict[str, float] = field(default_factory=dict)

    def count_request(self) -> None:
        """Count a request that is about to be sent."""
        self._counts[REQUESTS, NO_CLASS] += 1

    def count_wait(self, wait_class: WaitClass, seconds: float) -> None:
        """Count a wait that has ended."""
        self._counts[WAITS, wait_class] += 1
        self._seconds[wait_class] = self._seconds.get(wait_class, 0.0) + seconds

    def count_error(self, error: SourceError) -> None:
        """Count a response, or the lack of one, that is an error; those that are retried count, too."""
        self._counts[ERRORS, error_class(error)] += 1

    def take(self) -> Counts:
        """Return the counts, and begin again with none."""
        taken = {**self._counts, **{(WAIT_SECONDS, name): seconds for name, seconds in self._seconds.items()}}
        self._counts.clear()
        self._seconds.clear()
        return taken


def error_class(error: SourceError) -> str:
    """Return the class of an error, such as `rate_limited` for `RateLimitedError`."""
    return _INNER_CAPITAL.sub("_", type(error).__name__.removesuffix("Error")).lower()
