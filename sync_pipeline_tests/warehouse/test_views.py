"""Views and generated columns that migrations create are those that the package defines."""

import pytest
import sqlalchemy as sa

from sync_pipeline.warehouse.figures import DERIVED
from sync_pipeline.warehouse.views import VIEWS

OUTDATED = "the definition has changed: add a migration that creates it again"


@pytest.mark.parametrize("name", VIEWS)
def test_a_migrated_view_is_the_one_defined(engine: sa.Engine, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TEMPORARY VIEW defined AS {VIEWS[name]}"))
        definitions = [
            connection.execute(sa.text("SELECT pg_get_viewdef(CAST(:name AS regclass))"), {"name": view}).scalar_one()
            for view in (name, "defined")
        ]
        assert definitions[0] == definitions[1], OUTDATED


def test_migrated_columns_are_computed_as_defined(engine: sa.Engine) -> None:
    formulas = sa.text("""
        SELECT attname, pg_get_expr(adbin, adrelid) FROM pg_attrdef
        JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE adrelid = CAST(:name AS regclass) ORDER BY 1
    """)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TEMPORARY TABLE defined (LIKE ad_performance)"))
        for figure in DERIVED:
            kind = f"numeric(18, {figure.scale}) GENERATED ALWAYS AS ({figure.expression}) STORED"
            change = f"ALTER TABLE defined DROP COLUMN {figure.name}, ADD COLUMN {figure.name} {kind}"
            connection.execute(sa.text(change))
        migrated, defined = (
            connection.execute(formulas, {"name": name}).all() for name in ("ad_performance", "defined")
        )
        assert len(migrated) == len(DERIVED)
        assert migrated == defined, OUTDATED


def test_every_view_shows_its_reader_s_rows_only(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT relname FROM pg_class WHERE relkind = 'v' AND 'security_invoker=true' = ANY(reloptions)")
        )
        assert set(VIEWS) <= set(found.scalars())
