"""The warehouse's disk is full in the middle of a run: one sentence says so, and with room again a retry is enough."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import embedded
from sync_pipeline_tests.faults.holding import during
from sync_pipeline_tests.pipeline import Pipeline, administrator, failures

pytestmark = pytest.mark.slow

JOB = "lumina__daily_sync"
SINCE, MIDDLE, UNTIL = date(2026, 10, 5), date(2026, 10, 6), date(2026, 10, 7)
PLACES = {
    "while a day is staged": (
        "GRANT CREATE ON TABLESPACE small TO {role}",
        "ALTER ROLE {role} SET temp_tablespaces = 'small'",
    ),
    "while a day is stored": ("ALTER TABLE meta_ad_insights SET TABLESPACE small",),
}


class SmallDisk:
    """A file system of a megabyte or two, which others can fill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._others = path / "others"

    def fill(self) -> None:
        with self._others.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def make_room(self) -> None:
        self._others.unlink()


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """As ever, but with days of insights that fill pages."""
    with SandboxServer(ads=60, orders=5, now=lambda: datetime(2026, 10, 20, 7, 0, tzinfo=UTC)) as server:
        yield server


@pytest.fixture
def disk(server: URL) -> Iterator[SmallDisk]:
    """A tablespace `small` on a disk of its own."""
    with tempfile.TemporaryDirectory(prefix="sp-disk-") as folder, administrator(server).connect() as connection:
        path = Path(folder)
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", folder]
        mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be made here: {mounted.stderr.strip()}")
        try:
            data = Path(connection.execute(sa.text("SHOW data_directory")).scalar_one()).stat()
            os.chown(folder, data.st_uid, data.st_gid)
            path.parent.chmod(path.parent.stat().st_mode | 0o111)
            connection.execute(sa.text(f"CREATE TABLESPACE small LOCATION '{folder}'"))
            yield SmallDisk(path)
            connection.execute(sa.text(f"ALTER ROLE {embedded.ROLE} RESET temp_tablespaces"))
            connection.execute(sa.text("DROP TABLESPACE small"))
        finally:
            subprocess.run(["umount", folder], check=True)  # noqa: S607


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_one_clear_error_and_a_retry_after_making_room_completes_the_run(
    disk: SmallDisk, pipeline: Pipeline, place: str
) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
    pipeline.reload()
    assert failures(pipeline.run(JOB, SINCE, UNTIL)) == []
    undisturbed = pipeline.tables()
    pipeline.execute("TRUNCATE tenants CASCADE")
    for statement in PLACES[place]:
        pipeline.execute(statement.format(role=embedded.ROLE))

    held = Fault(faults.held(), path="insights", query=MIDDLE.isoformat(), times=None)
    pipeline.sandbox.faults.add(held)
    with during(held, disk.fill):
        result = pipeline.run(JOB, SINCE, UNTIL)
    [failure] = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.description == (
        "the warehouse's disk is full: make room where Postgres keeps its data (or its temporary tables), then run the "
        f"rest again. Days committed before are stored. It was at meta, tenant lumina, {MIDDLE}."
    )
    assert {name: failure.metadata[name].value for name in ("tenant", "source", "date")} == {
        "tenant": "lumina",
        "source": "meta",
        "date": MIDDLE.isoformat(),
    }
    assert pipeline.query("SELECT day, source FROM sync_log ORDER BY id") == [(SINCE, "meta"), (SINCE, "pos")]
    assert set(pipeline.materialized("lumina/meta_ad_insights", result.run_id)) == {SINCE.isoformat()}
    assert pipeline.query("SELECT DISTINCT date FROM meta_ad_insights") == [(SINCE,)]

    disk.make_room()
    pipeline.sandbox.faults.clear()
    assert failures(pipeline.run(JOB, SINCE, UNTIL)) == []
    assert pipeline.tables() == undisturbed
