"""Another version migrates the warehouse in the middle of a run."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.warehouse import database
from sync_pipeline.warehouse.compatibility import head
from sync_pipeline.warehouse.migrate import migrate
from sync_pipeline_tests.faults.holding import during
from sync_pipeline_tests.pipeline import Pipeline, failures
from sync_pipeline_tests.warehouse.made_up import EVERY_ADDITION, NEXT, migrations

JOB = "lumina__daily_sync"
SINCE, MIDDLE, UNTIL = date(2026, 10, 5), date(2026, 10, 6), date(2026, 10, 7)
# Columns that say when or by which run a row was written, or that the made-up migration adds.
OTHER_EACH_TIME = ("made_up", "run_id", "_at", "started", "finished", "id")
TABLES = ("meta_ad_accounts", "meta_ad_insights", "pos_shops", "pos_products", "pos_orders", "ad_performance")


@pytest.fixture
def by_day(pipeline: Pipeline) -> Pipeline:
    """The pipeline with a request for each of lumina's days, so that a run can be held between two of them."""
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
    pipeline.reload()
    return pipeline


def run_through_migration(pipeline: Pipeline, warehouse_url: URL, folder: Path) -> Any:
    """Run a job, and migrate the warehouse while it asks for its second day."""
    owner = database.connect(warehouse_url)
    held = pipeline.sandbox.faults.add(Fault(faults.held(), path="insights", query=MIDDLE.isoformat(), times=1))
    with during(held, lambda: migrate(owner, despite_runs=True, folder=folder)):
        result = pipeline.run(JOB, SINCE, UNTIL)
    owner.dispose()
    return result


def rows(pipeline: Pipeline) -> dict[str, list[str]]:
    """The rows of each table without what differs between two runs of the same days."""
    found = {}
    for table in TABLES:
        columns = pipeline.query(
            "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
            f"AND attrelid = '{table}'::regclass ORDER BY 1"
        )
        kept = [name for (name,) in columns if not name.endswith(OTHER_EACH_TIME) and not name.startswith("made_up")]
        found[table] = sorted(map(str, pipeline.query(f"SELECT {', '.join(kept)} FROM {table}")))
    return found


def test_a_run_finishes_after_an_additive_migration(by_day: Pipeline, warehouse_url: URL, tmp_path: Path) -> None:
    result = run_through_migration(by_day, warehouse_url, migrations(tmp_path, EVERY_ADDITION, additive=True))
    assert failures(result) == []
    assert result.success
    assert by_day.query("SELECT version_num FROM alembic_version") == [(NEXT,)]
    days = by_day.query("SELECT DISTINCT day FROM sync_log WHERE complete ORDER BY day")
    assert days == [(SINCE,), (MIDDLE,), (UNTIL,)]
    through_migration = rows(by_day)
    # The same version also begins new runs on these tables, which give the same rows.
    by_day.execute("DELETE FROM tenants")
    assert by_day.run(JOB, SINCE, UNTIL).success
    assert rows(by_day) == through_migration
    assert all(through_migration[table] for table in TABLES)


def test_a_run_says_why_it_ends_after_another_migration(by_day: Pipeline, warehouse_url: URL, tmp_path: Path) -> None:
    statement = "ALTER TABLE pos_orders RENAME COLUMN cod TO cash"
    result = run_through_migration(by_day, warehouse_url, migrations(tmp_path, [statement], additive=False))
    assert not result.success
    [failure] = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.description == (
        f"the warehouse is at migration {NEXT} and needs a version that knows migration {NEXT}, but this one only "
        f"knows migrations up to {head()}: upgrade sync-pipeline, or restore the backup made before the migration. "
        "Days committed before are stored; run the rest again"
    )
    assert by_day.query("SELECT DISTINCT day FROM sync_log") == [(SINCE,)]
    assert list(by_day.materialized("lumina/meta_ad_insights")) == [SINCE.isoformat()]
