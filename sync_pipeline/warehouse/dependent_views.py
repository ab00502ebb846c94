"""Views that stand in the way of changing a column's type: Postgres refuses that while a view reads the column."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from sync_pipeline.warehouse.errors import DependentViewsError
from sync_pipeline.warehouse.identifiers import quoted

# A view that reads another one comes after it.
_DEPENDENTS: Final = sa.text("""
    WITH RECURSIVE wanted AS (
        SELECT a.attrelid AS relation, a.attnum AS number
        FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[])) AS named (relation, attribute)
        JOIN pg_attribute AS a ON a.attrelid = to_regclass(named.relation) AND a.attname = named.attribute
    ),
    dependents AS (
        SELECT rule.ev_class AS view, 1 AS depth
        FROM wanted
        JOIN pg_depend AS d
            ON d.refclassid = 'pg_class'::regclass AND d.refobjid = wanted.relation AND d.refobjsubid = wanted.number
            AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite AS rule ON rule.oid = d.objid
        UNION
        SELECT rule.ev_class, dependents.depth + 1
        FROM dependents
        JOIN pg_depend AS d
            ON d.refclassid = 'pg_class'::regclass AND d.refobjid = dependents.view
            AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite AS rule ON rule.oid = d.objid AND rule.ev_class <> dependents.view
    )
    SELECT c.oid::regclass::text AS name, c.relnamespace = current_schema()::regnamespace AS in_schema,
        pg_get_viewdef(c.oid) AS definition, coalesce(array_to_string(c.reloptions, ', '), '') AS options,
        ARRAY(
            SELECT DISTINCT pg_get_userbyid(granted.grantee) FROM aclexplode(c.relacl) AS granted
            WHERE granted.grantee NOT IN (0, c.relowner) AND granted.privilege_type = 'SELECT'
        ) AS readers
    FROM (SELECT view, max(depth) AS depth FROM dependents GROUP BY view) AS found
    JOIN pg_class AS c ON c.oid = found.view
    ORDER BY found.depth, name
""")


@dataclass(frozen=True, slots=True)
class _View:
    name: str
    in_schema: bool
    definition: str
    options: str
    readers: list[str]


@contextmanager
def without_views_of(
    connection: sa.Connection, columns: Mapping[str, Collection[str]], ours: Collection[str]
) -> Iterator[None]:
    """Drop the views that read these columns, by table, and create them again at the end, with who may read them.

    Only views named in `ours` are dropped. Raises `DependentViewsError` where there are others.
    """
    pairs = [(table, column) for table, named in columns.items() for column in named]
    parameters = {"tables": [table for table, _ in pairs], "columns": [column for _, column in pairs]}
    views = [_View(*row) for row in connection.execute(_DEPENDENTS, parameters)]
    if others := [view.name for view in views if not (view.in_schema and view.name in ours)]:
        raise DependentViewsError(others)
    for view in reversed(views):
        _run(connection, f"DROP VIEW {view.name}")
    yield
    for view in views:
        options = f" WITH ({view.options})" if view.options else ""
        _run(connection, f"CREATE VIEW {view.name}{options} AS {view.definition}")
        for reader in view.readers:
            _run(connection, f"GRANT SELECT ON {view.name} TO {quoted(reader)}")


def _run(connection: sa.Connection, statement: str) -> None:
    # Casts in a definition look like parameters to SQLAlchemy.
    connection.execute(sa.text(statement.replace(":", r"\:")))
