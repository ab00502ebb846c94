"""What a row that cannot be understood raises."""

from sync_pipeline.errors import SyncPipelineError

_SHOWN = 60


class FieldError(ValueError):
    """One field of a raw object cannot be read; the row's reader turns it into a RowError."""

    def __init__(self, field: str, value: object, why: str) -> None:
        self.field = field
        self.value = value
        self.why = why
        super().__init__(field, why)


class RowError(SyncPipelineError):
    """A raw object from an API cannot become a row, so the sync of its day must not go on.

    `kind` is insight, account day, order or product, `row_id` its id as far as it could be read, `value` a short form
    of what was found.
    """

    def __init__(self, *, kind: str, row_id: str, field: str, value: object, why: str) -> None:
        self.kind = kind
        self.row_id = row_id
        self.field = field
        self.value = shown(value)
        self.why = why
        super().__init__(f"{kind} {row_id}: {field} {why}, found {self.value}")


def label(value: object) -> str:
    """Return what may be an id as a text of at most 40 characters, `?` for anything else."""
    if isinstance(value, str):
        return value[:40] or "?"
    # A number of thousands of digits has no text.
    return str(value) if isinstance(value, int) and abs(value) < 10**40 else "?"


def shown(value: object) -> str:
    """Return a value as one short line: nothing, a kind of container, or its text cut to 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    # Cut before repr too: a field may hold megabytes.
    try:
        text = repr(value[: _SHOWN + 1]) if isinstance(value, str) else str(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
