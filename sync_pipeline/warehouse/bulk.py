"""Rows into a table by COPY, the fastest way into Postgres there is."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from io import StringIO
from typing import Protocol, TypeAlias

Value: TypeAlias = str | int | Decimal | bool | date | datetime | None

# COPY's text format: these four would end a value, a row or start an escape.
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class CopyCursor(Protocol):
    """The part of a psycopg2 cursor that COPY needs."""

    def copy_expert(self, sql: str, file: StringIO) -> None: ...  # noqa: D102


def copy_rows(cursor: CopyCursor, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> int:
    """Send `rows` (values in the order of `columns`) to `table` and return how many there were."""
    buffer = StringIO()
    count = 0
    for row in rows:
        buffer.write(encode(row))
        count += 1
    if count:
        buffer.seek(0)
        cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", buffer)
    return count


def encode(row: Sequence[Value]) -> str:
    r"""One row as a line of COPY's text format: tab between values, `\N` for null."""
    return (
        "\t".join(
            [
                value.translate(_ESCAPES) if type(value) is str else "\\N" if value is None else str(value)
                for value in row
            ]
        )
        + "\n"
    )
