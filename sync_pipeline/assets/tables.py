"""Tables as metadata. Dagster shows their cells as plain text, where it would render a table in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Final

import dagster as dg

from sync_pipeline.text_safety import printable_line

LONGEST_CELL: Final = 80
TYPES: Final = {str: "text", int: "integer"}


def metadata_table(columns: Sequence[tuple[str, type]], rows: Iterable[Sequence[str | int]]) -> dg.TableMetadataValue:
    """Make a metadata table of named columns; texts are shown on one line and shortened to 80 characters."""
    names = [name for name, _ in columns]
    schema = dg.TableSchema([dg.TableColumn(name, TYPES[kind]) for name, kind in columns])
    records = [dg.TableRecord(dict(zip(names, map(_cell, row), strict=True))) for row in rows]
    return dg.MetadataValue.table(records, schema)


def _cell(value: str | int) -> str | int:
    return printable_line(value)[:LONGEST_CELL] if isinstance(value, str) else value
