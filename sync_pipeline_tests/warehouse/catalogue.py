"""What a database's tables and views promise to code that was written for them, and which promises a change breaks."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

_COLUMNS = """
    SELECT c.oid::regclass::text, c.relkind::text, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull, a.atthasdef OR a.attidentity <> '' AS filled
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'v')
    ORDER BY 1, 3
"""
# What may refuse or change a row that a table accepted before.
_RULES = """
    SELECT conrelid::regclass::text, conname::text || ': ' || pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace AND conrelid <> 0 AND contype <> 'n'
    UNION ALL
    SELECT tgrelid::regclass::text, 'trigger ' || tgname || ': ' || pg_get_triggerdef(oid)
    FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT indrelid::regclass::text, 'unique ' || pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class AS c ON c.oid = indrelid
    WHERE indisunique AND c.relnamespace = current_schema()::regnamespace
"""


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    required: bool
    filled: bool


@dataclass(frozen=True)
class Catalogue:
    """Tables and views with their columns in order, and the rules of the tables."""

    kinds: dict[str, str]
    columns: dict[str, list[Column]]
    rules: frozenset[tuple[str, str]]


def catalogue(connection: sa.Connection) -> Catalogue:
    kinds: dict[str, str] = {}
    columns: dict[str, list[Column]] = {}
    for relation, kind, _, name, type_, required, filled in connection.execute(sa.text(_COLUMNS)):
        kinds[relation] = kind
        columns.setdefault(relation, []).append(Column(name, type_, required, filled))
    rules = frozenset((relation, rule) for relation, rule in connection.execute(sa.text(_RULES)))
    return Catalogue(kinds, columns, rules)


def broken_promises(before: Catalogue, after: Catalogue) -> Iterator[str]:
    """Yield what keeps the code of a version from working with the tables of the next one."""
    for relation, old in before.columns.items():
        new = after.columns.get(relation, [])
        if before.kinds[relation] != after.kinds.get(relation):
            yield f"{relation} is gone"
        elif before.kinds[relation] == "v":
            if [(one.name, one.type) for one in new[: len(old)]] != [(one.name, one.type) for one in old]:
                yield f"view {relation} has other columns"
        else:
            yield from (f"{relation}.{one.name} has changed" for one in old if one not in new)
            names = {one.name for one in old}
            yield from (
                f"{relation}.{one.name} has to be given"
                for one in new
                if one.name not in names and one.required and not one.filled
            )
    known = {relation for relation, kind in before.kinds.items() if kind == "r"}
    yield from (f"{relation}: {rule}" for relation, rule in after.rules - before.rules if relation in known)
