"""Rows into a table by COPY, the fastest way into Postgres there is."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from io import StringIO
from typing import Protocol, TypeAlias

Value: TypeAlias = str | int | Decimal | bool | date | datetime | None

ENOUGH = 2**20


class CopyCursor(Protocol):
    """The part of a psycopg2 cursor that COPY needs."""

    def copy_expert(self, sql: str, file: StringIO) -> None: ...  # noqa: D102


class CopyBuffer:
    """Rows on their way into a table, sent whenever a good mebibyte of them has gathered: pages are small."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self._statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        self._lines = StringIO()

    @property
    def is_full(self) -> bool:
        """Whether it is time to send."""
        return self._lines.tell() >= ENOUGH

    def add(self, rows: Iterable[Sequence[Value]]) -> int:
        """Take in rows (values in the order of the columns) and return how many there were."""
        count = 0
        for row in rows:
            self._lines.write(encode(row))
            count += 1
        return count

    def send(self, cursor: CopyCursor) -> None:
        """Send what has gathered, if anything has."""
        if self._lines.tell():
            self._lines.seek(0)
            cursor.copy_expert(self._statement, self._lines)
            self.clear()

    def clear(self) -> None:
        """Forget what has gathered."""
        self._lines = StringIO()


def encode(row: Sequence[Value]) -> str:
    r"""One row as a line of COPY's text format: tab between values, `\N` for null."""
    return (
        "\t".join([_escaped(value) if type(value) is str else "\\N" if value is None else str(value) for value in row])
        + "\n"
    )


def _escaped(text: str) -> str:
    """Text without what would end a value, end a row or start an escape. Rare, so that to look for each is fastest."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\t" in text:
        text = text.replace("\t", "\\t")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    return text.replace("\r", "\\r") if "\r" in text else text
