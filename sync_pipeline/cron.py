"""Cron expressions of schedules: five fields, and the reason why one cannot be used."""

import functools
import re
from dataclasses import dataclass
from typing import Final

FORM: Final = "is not a 5-field cron expression, such as '0 2 * * *'"
MAX_SHOWN: Final = 10
NEVER: Final = "never occurs: those months have no such day"
_CHARACTERS = re.compile(r"[A-Za-z0-9*,/#? -]+")
# H and R stand for a random time, which Dagster would pick again in each process.
_RANDOM = re.compile(r"\b[HR]\b", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields, and the numbers that it may hold."""

    name: str
    least: int
    most: int
    remark: str = ""


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12),
    _Field("day of the week", 0, 7, " (0 and 7 are Sunday)"),
)


@functools.lru_cache(maxsize=1024)
def problem(expression: str) -> str | None:
    """Return why an expression cannot be a schedule, None if it can. Single blanks separate its fields."""
    fields = expression.split()
    if len(fields) != len(_FIELDS) or not _CHARACTERS.fullmatch(expression) or _RANDOM.search(expression):
        return FORM
    for field, text in zip(_FIELDS, fields, strict=True):
        if reason := _out_of_range(field, text):
            return reason
    # Dagster runs the schedule, so Dagster decides. Imported here because the import takes over a second.
    from sync_pipeline.dagster_internals.cron import has_ticks, is_valid_cron_string

    if not is_valid_cron_string(expression):
        for position, (field, text) in enumerate(zip(_FIELDS, fields, strict=True)):
            if not is_valid_cron_string(" ".join(["*"] * position + [text] + ["*"] * (4 - position))):
                return f"has an invalid value for the {field.name}{_shown(text)}"
        return NEVER
    return None if has_ticks(expression) else NEVER


def _shown(text: str) -> str:
    # Anything longer may be a key that was pasted into the wrong place.
    return f": {text}" if len(text) <= MAX_SHOWN else ""


def _out_of_range(field: _Field, text: str) -> str | None:
    for part in text.split(","):
        # What follows # is the number of the weekday in the month, and what follows / is the step.
        values, _, step = part.partition("#")[0].partition("/")
        if step and int(step if _NUMBER.fullmatch(step) else 1) == 0:
            return f"has a step of 0 for the {field.name}; a step is at least 1"
        for number in _NUMBER.findall(values):
            if not field.least <= int(number) <= field.most:
                return f"has the {field.name} {number}, which must be from {field.least} to {field.most}{field.remark}"
    return None
