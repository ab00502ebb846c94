"""The migrations make exactly the schema that the code works on, and say so where they have not run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database
from sync_pipeline.warehouse.errors import SchemaOutdatedError, WarehouseUnreachableError, WarehouseUrlError
from sync_pipeline.warehouse.migrate import MIGRATIONS, migrate, require_current
from sync_pipeline.warehouse.schema import metadata


@pytest.fixture
def empty(server: URL) -> Iterator[sa.Engine]:
    url = server.set(database="empty")
    database.create_database(url)
    engine = database.connect(url)
    yield engine
    engine.dispose()
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE empty WITH (FORCE)"))


def test_migrations_and_schema_agree(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_migration_s_file_begins_with_its_revision_and_the_last_one_has_the_highest_number() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert scripts.get_current_head() == max(revisions)
    assert sorted(Path(script.path).name[:4] for script in scripts.walk_revisions()) == sorted(revisions)


def test_a_warehouse_that_was_never_migrated_says_what_to_run(empty: sa.Engine) -> None:
    with pytest.raises(SchemaOutdatedError, match="run `sync-pipeline migrate`"):
        require_current(empty)
    before, after = migrate(empty)
    assert before is None
    assert migrate(empty) == (after, after)
    require_current(empty)


def test_a_database_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    url = database.parse_url(f"postgresql://someone:marker-secret@/nowhere?host={tmp_path}")
    with pytest.raises(WarehouseUnreachableError) as caught:
        database.connect(url)
    assert "nowhere" in str(caught.value)
    assert "marker-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mysql://u:marker-secret@h/d", "marker-secret", "postgresql+asyncpg://h/d", "http://["]
)
def test_a_url_of_something_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(WarehouseUrlError, match="SYNC_PIPELINE_DATABASE_URL") as caught:
        database.parse_url(url)
    assert "marker-secret" not in str(caught.value)
