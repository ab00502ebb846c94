"""What a run shows of a lock that another session holds."""

import functools
import threading
from datetime import date

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline import resources
from sync_pipeline.warehouse import access, database
from sync_pipeline.warehouse.locks import LockLimits
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
DAY = date(2026, 10, 5)
ASSETS = ["lumina/meta_ad_accounts"]
TENANT_LOCK = "SELECT pg_advisory_lock(hashtextextended('sync_pipeline:tenant:lumina', 0))"


def test_run_that_waits_for_another_names_its_session(pipeline: Pipeline, warehouse_url: URL) -> None:
    other = psycopg2.connect(
        host=warehouse_url.query["host"], dbname=warehouse_url.database, user=warehouse_url.username
    )
    other.cursor().execute(TENANT_LOCK)
    holder = f"role {warehouse_url.username} (pid {other.info.backend_pid})"
    finished = threading.Event()

    def release_once_shown() -> None:
        while not finished.wait(0.1):
            if any("lock_wait" in run.tags for run in pipeline.instance.get_runs()):
                break
        other.close()

    thread = threading.Thread(target=release_once_shown)
    thread.start()
    try:
        result = pipeline.run(JOB, DAY, DAY, ASSETS)
    finally:
        finished.set()
        thread.join()
    assert result.success
    run = pipeline.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["lock_wait"] == holder
    logged = [entry.user_message for entry in pipeline.instance.all_logs(result.run_id)]
    assert f"waiting for the lock of lumina, which {holder} holds" in logged


def test_run_fails_and_names_a_reader_that_keeps_its_lock(
    pipeline: Pipeline, warehouse_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "Warehouse", functools.partial(Warehouse, limits=LockLimits(reader_s=0)))
    role = f"run_locker_{warehouse_url.database}"
    pipeline.execute(f"CREATE ROLE {role} LOGIN")
    try:
        pipeline.execute("INSERT INTO tenants VALUES ('lumina', 'L', 'UTC')")
        owner = database.connect(warehouse_url)
        access.grant(owner, "lumina", role)
        owner.dispose()
        pipeline.execute("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC")
        reader = psycopg2.connect(host=warehouse_url.query["host"], dbname=warehouse_url.database, user=role)
        reader.cursor().execute(TENANT_LOCK)
        result = pipeline.run(JOB, DAY, DAY, ASSETS)
        assert not result.success
        [event] = [event for event in result.all_events if event.is_step_failure]
        failure = event.step_failure_data.user_failure_data
        assert failure is not None
        assert failure.metadata["lock_holder_role"].value == role
        assert failure.metadata["lock_holder_pid"].value == reader.info.backend_pid
        assert failure.metadata["tenant"].value == "lumina"
        assert f"SELECT pg_terminate_backend({reader.info.backend_pid})" in str(failure.description)
        reader.close()
    finally:
        with pipeline.engine.begin() as connection:
            connection.execute(sa.text(f"DROP OWNED BY {role}"))
            connection.execute(sa.text(f"DROP ROLE {role}"))
