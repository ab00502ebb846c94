"""Dagster's storage over kept connections holds what Dagster's own holds, for fewer statements."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy.engine import URL

from sync_pipeline.assets.verdicts import Check, Evaluation, Verdict, log_check_evaluations
from sync_pipeline.cli.installation import project_file
from sync_pipeline.tenants import find_tenant, load_tenants
from sync_pipeline.warehouse import database
from sync_pipeline_tests import templates
from sync_pipeline_tests.pipeline import DEMO_TENANTS

DAYS = dg.DailyPartitionsDefinition("2026-10-01", end_date="2026-10-11")
NAMES = ("spend", "orders")
TENANT = find_tenant(load_tenants(DEMO_TENANTS), "lumina")
FIGURES = dg.AssetKey([TENANT.tenant_id, "figures"])
OWN = {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
OTHERS = (
    "FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
OURS = yaml.safe_load(project_file("dagster.yaml").read_text())["storage"]


@dg.asset(key=FIGURES, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def figures(context: dg.AssetExecutionContext) -> None:
    context.log.info("computed")


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=FIGURES, partitions_def=DAYS) for name in NAMES]
    + [dg.AssetCheckSpec("up_to_date", asset=FIGURES)],
    can_subset=True,
)
def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    daily = [
        Evaluation(
            Check(name, "figures", name), Verdict(passed=day != "2026-10-03", sentence=day), date.fromisoformat(day)
        )
        for name in NAMES
        for day in DAYS.get_partition_keys()[:5]
    ]
    whole = Evaluation(Check("up_to_date", "figures", "up to date", daily=False), Verdict(passed=True, sentence="is"))
    log_check_evaluations(context.op_execution_context, TENANT, [*daily, whole])
    return
    yield


@pytest.fixture
def dagster_url(warehouse_url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[URL]:
    url = database.beside(warehouse_url, "_dagster")
    database.create_database(url)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url.render_as_string(hide_password=False))
    yield url
    templates.drop(url)


def instance_of(folder: Path, storage: dict[str, Any]) -> dg.DagsterInstance:
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage, "telemetry": {"enabled": False}}))
    return dg.DagsterInstance.from_config(str(folder))


def run(instance: dg.DagsterInstance) -> str:
    tags = {"dagster/asset_partition_range_start": "2026-10-01", "dagster/asset_partition_range_end": "2026-10-05"}
    result = dg.materialize([figures, checks], instance=instance, tags=tags)
    assert result.success
    return result.run_id


def seen(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What Dagster can tell of a run, without what differs from run to run."""
    storage = instance.event_log_storage
    (record,) = instance.get_asset_records([FIGURES])
    history = {
        name: sorted(
            (one.status.name, one.partition or "")
            for one in storage.get_asset_check_execution_history(dg.AssetCheckKey(FIGURES, name), limit=100)
            if one.run_id == run_id
        )
        for name in (*NAMES, "up_to_date")
    }
    kinds: dict[str, int] = {}
    for entry in instance.all_logs(run_id):
        kind = entry.dagster_event.event_type_value if entry.dagster_event else "log"
        kinds[kind] = kinds.get(kind, 0) + 1
    return {
        "events": kinds,
        "checks": history,
        "materialized": sorted(instance.get_materialized_partitions(FIGURES)),
        "last_run": record.asset_entry.last_run_id == run_id,
        "planned": instance.get_latest_planned_materialization_info(FIGURES, "2026-10-04") is not None,
    }


def test_what_dagster_tells_of_a_run_is_the_same_as_with_its_own_storage(dagster_url: URL, tmp_path: Path) -> None:
    with instance_of(tmp_path / "ours", OURS) as ours:
        found = seen(ours, run(ours))
    assert found["events"]["ASSET_CHECK_EVALUATION"] == 11
    assert found["events"]["ASSET_MATERIALIZATION"] == 5
    days = DAYS.get_partition_keys()[:5]
    assert found["checks"]["spend"] == sorted(
        ("FAILED" if day == "2026-10-03" else "SUCCEEDED", day) for day in days
    ), "none is left as planned beside its evaluation"
    with instance_of(tmp_path / "own", OWN) as own:
        assert seen(own, run(own)) == found


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_url_without_a_driver_is_connected_with_psycopg2(
    dagster_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_url.set(drivername=scheme).render_as_string(hide_password=False))
    with instance_of(tmp_path / "ours", OURS) as ours:
        ours.optimize_for_webserver(statement_timeout=1000, pool_recycle=3600, max_overflow=1)
        assert ours.get_run_ids() == []
        assert ours.all_instigator_state() == []
        assert ours.get_asset_records([FIGURES]) == []


def test_a_run_keeps_two_connections_whatever_it_writes(dagster_url: URL, tmp_path: Path) -> None:
    engine = sa.create_engine(dagster_url)
    with instance_of(tmp_path / "ours", OURS) as ours, engine.connect() as connection:
        run(ours)
        assert connection.execute(sa.text(f"SELECT count(*) {OTHERS}")).scalar_one() == 2
    engine.dispose()


def test_a_postgres_that_cut_the_connections_is_met_with_new_ones(dagster_url: URL, tmp_path: Path) -> None:
    engine = sa.create_engine(dagster_url)
    with instance_of(tmp_path / "ours", OURS) as ours, engine.begin() as connection:
        run(ours)
        assert len(connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) {OTHERS}")).all()) == 2
        assert len(ours.get_run_ids()) == 1
        run(ours)
    engine.dispose()
