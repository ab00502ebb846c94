"""Another version migrates the warehouse of an installation in which a run is in progress, and the way back."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_pipeline.warehouse.compatibility import head
from sync_pipeline_tests.deploy.browser import wait_for
from sync_pipeline_tests.deploy.containers.engine import run
from sync_pipeline_tests.deploy.containers.installation import Installation
from sync_pipeline_tests.waiting import wait_until
from sync_pipeline_tests.warehouse.made_up import NEXT, source

pytestmark = pytest.mark.containers

LOCATION = "sync_pipeline"
VERSION = "SELECT version_num FROM alembic_version"
STORED = "SELECT DISTINCT date::text FROM meta_ad_insights WHERE tenant_id = 'acme' ORDER BY 1"
RENAME = "ALTER TABLE meta_ad_insights RENAME COLUMN effective_status TO made_up"
ADD = "ALTER TABLE meta_ad_insights ADD COLUMN made_up text NOT NULL DEFAULT 'new'"
COLUMN = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'made_up'"
# A build and a run take minutes on a loaded machine.
UPGRADE_S = 1500.0

WriteMigration = Callable[..., None]


@pytest.fixture
def next_version(whole: Installation) -> Iterator[WriteMigration]:
    """Writes a migration of the next version into the checkout of the installation, which loses it at the end."""
    file = whole.folder.parent / "sync_pipeline/warehouse/migrations/versions" / f"{NEXT}_made_up.py"

    def write(statement: str, *, additive: bool) -> None:
        file.write_text(source(NEXT, [statement], additive=additive))

    yield write
    file.unlink(missing_ok=True)


@contextmanager
def held_run(installation: Installation) -> Iterator[tuple[str, list[str]]]:
    """Hold a run that has stored the first of two days, and yield its id and the days.

    It waits for the answer of the second, but no longer than its client waits: nothing slow may happen meanwhile.
    """
    last = datetime.now(UTC).date() - timedelta(days=2)
    days = [str(last - timedelta(days=1)), str(last)]
    installation.rows("DELETE FROM tenants WHERE tenant_id = 'acme'")
    installation.sandbox.hold(days[1])
    try:
        run_id = installation.browser.launch(LOCATION, "acme__daily_sync", *days)
        wait_for(installation.sandbox.held)
        yield run_id, days
    finally:
        # The sandbox has the image of the services, so an upgrade replaces it, with another port.
        vars(installation).pop("sandbox", None)
        wait_for(installation.sandbox.overview)
        installation.sandbox.release()


def stored_days(installation: Installation) -> list[str]:
    return [day for [day] in installation.rows(STORED)]


def migrate_with(installation: Installation, version: str) -> tuple[int, str]:
    """Run the service `migrate` of another version than the one that runs."""
    variables = {"COMPOSE_PROJECT_NAME": installation.project, "SYNC_PIPELINE_VERSION": version}
    done = run(
        "docker", "compose", "run", "--rm", "-T", "migrate", check=False, folder=installation.folder, **variables
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(UPGRADE_S)
def test_an_upgrade_waits_for_the_run_and_can_be_undone(
    whole: Installation, next_version: WriteMigration, tmp_path: Path
) -> None:
    old_image = whole.inspect("code")["Image"]
    next_version(RENAME, additive=False)
    printed, backup = tmp_path / "upgrade", tmp_path / "backup"
    with (
        held_run(whole) as (run_id, days),
        whole.script_process("upgrade", "--backup", str(backup), output=printed) as upgrade,
    ):
        wait_until(printed.read_text, lambda text: "Waiting for:" in text, process=upgrade)
        assert whole.state("daemon")["Status"] == "exited"
        assert whole.rows(VERSION) == [[head()]]
        assert not backup.exists()
        assert whole.browser.status(run_id) == "STARTED"
        whole.sandbox.release()
        assert whole.browser.wait(run_id) == "SUCCESS", whole.browser.said(run_id)
        upgrade.wait(UPGRADE_S)
    assert upgrade.returncode == 0, printed.read_text()
    assert "upgrade: done." in printed.read_text()
    assert (whole.rows(VERSION), whole.rows(COLUMN)) == ([[NEXT]], [["1"]])
    new_image = whole.inspect("code")["Image"]
    assert new_image != old_image
    assert {whole.state(service)["Health"]["Status"] for service in ("code", "daemon", "webserver")} == {"healthy"}
    whole.ready()
    # The run of the previous version is there, and the dump holds the tables of that version.
    assert stored_days(whole) == days
    assert dumped(whole, backup / "warehouse.dump") == [head()]

    whole.rows("DELETE FROM tenants")
    undone = tmp_path / "rollback"
    with whole.script_process("rollback", str(backup), output=undone) as rollback:
        rollback.wait(UPGRADE_S)
    assert rollback.returncode == 0, undone.read_text()
    vars(whole).pop("sandbox", None)
    assert (whole.rows(VERSION), whole.rows(COLUMN)) == ([[head()]], [["0"]])
    assert whole.inspect("code")["Image"] == old_image
    assert stored_days(whole) == days
    names = "SELECT datname FROM pg_database WHERE datname ~ 'dagster|warehouse' ORDER BY 1"
    assert whole.rows(names, database="postgres") == [["dagster"], ["warehouse"]]
    whole.ready()
    assert whole.browser.status(run_id) == "SUCCESS"
    again = whole.browser.launch(LOCATION, "acme__daily_sync", *days)
    assert whole.browser.wait(again) == "SUCCESS", whole.browser.said(again)
    whole.engine.docker("image", "rm", (backup / "kept_image").read_text().strip(), new_image)


@pytest.mark.timeout(UPGRADE_S)
def test_a_run_outlives_an_additive_migration_alone(whole: Installation, next_version: WriteMigration) -> None:
    breaking, additive = f"{whole.version}-breaking", f"{whole.version}-additive"
    next_version(RENAME, additive=False)
    whole.build(breaking)
    next_version(ADD, additive=True)
    whole.build(additive)
    try:
        with held_run(whole) as (run_id, days):
            code, printed = migrate_with(whole, breaking)
            assert code == 1, printed
            assert f"runs of acme are in progress and cannot continue after migration {NEXT}" in printed
            assert whole.rows(VERSION) == [[head()]]
            code, printed = migrate_with(whole, additive)
            assert code == 0, printed
            assert whole.rows(VERSION) == [[NEXT]]
            assert whole.browser.status(run_id) == "STARTED"
        assert whole.browser.wait(run_id) == "SUCCESS", whole.browser.said(run_id)
        assert stored_days(whole) == days
    finally:
        whole.rows("ALTER TABLE meta_ad_insights DROP COLUMN IF EXISTS made_up")
        whole.rows(f"UPDATE alembic_version SET version_num = '{head()}'")
        images = [f"sync-pipeline:{version}" for version in (breaking, additive)]
        whole.engine.docker("image", "rm", "--force", *images, check=False)


def dumped(installation: Installation, dump: Path) -> list[str]:
    """The version of the tables in a dump."""
    command = ("pg_restore", "--data-only", "--table", "alembic_version", "--file", "-")
    with dump.open("rb") as content:
        read = subprocess.run(
            ["docker", "exec", "--interactive", installation.container("postgres"), *command],  # noqa: S607
            stdin=content,
            capture_output=True,
            text=True,
            check=True,
        )
    lines = read.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("COPY ")) + 1
    return [line.split("\t")[0] for line in lines[start : lines.index("\\.", start)]]
