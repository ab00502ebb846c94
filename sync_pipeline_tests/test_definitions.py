"""What Dagster is told of the tenants: names, lineage, metadata, and what is kept back."""

import logging
import os
import re
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from sync_pipeline import definitions
from sync_pipeline.dagster_internals.run_definitions import definitions_of_run
from sync_pipeline.definitions import build_definitions
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import BROKEN_GROUP, Tenant
from sync_pipeline_tests import attacks
from sync_pipeline_tests.pipeline import Pipeline, rendered

ASSETS = ("meta_ad_accounts", "pos_shops", "product_costs", "meta_ad_insights", "pos_orders")


def repository_of_run() -> dg.RepositoryDefinition:
    return definitions_of_run(partial(build_definitions, Settings.from_environment())).get_repository_def()


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("/"))


def test_every_tenant_has_its_assets_in_a_group_of_its_own(pipeline: Pipeline) -> None:
    graph = pipeline.definitions.resolve_asset_graph()
    for tenant in ("lumina", "mekong"):
        for name in ASSETS:
            node = graph.get(key(f"{tenant}/{name}"))
            assert node.group_name == tenant
            assert node.owners == [f"team:{tenant}"]
            assert "postgres" in node.kinds
            assert node.description
            assert node.metadata["dagster/table_name"] == f"public.{name}"
            assert "tenant_id" in {c.name for c in node.metadata["dagster/column_schema"].columns}


def test_lineage_leads_from_discovery_and_costs_to_the_days(pipeline: Pipeline) -> None:
    graph = pipeline.definitions.resolve_asset_graph()
    assert graph.get(key("lumina/meta_ad_insights")).parent_keys == {key("lumina/meta_ad_accounts")}
    assert graph.get(key("lumina/pos_orders")).parent_keys == {
        key("lumina/pos_shops"),
        key("lumina/pos_products"),
        key("lumina/product_costs"),
    }
    assert graph.get(key("lumina/ad_performance")).parent_keys == {
        key("lumina/meta_ad_insights"),
        key("lumina/pos_orders"),
    }
    assert graph.get(key("lumina/order_costs")).parent_keys == {key("lumina/pos_products"), key("lumina/product_costs")}


def test_days_are_partitions_of_the_tenants_timezone_and_one_run_takes_many(pipeline: Pipeline) -> None:
    node = pipeline.definitions.resolve_asset_graph().get(key("lumina/pos_orders"))
    partitions = node.partitions_def
    assert isinstance(partitions, dg.DailyPartitionsDefinition)
    assert partitions.timezone == "Asia/Manila"
    assert partitions.get_first_partition_key() == "2026-01-01"
    assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_every_workflow_is_a_job_and_with_a_cron_a_schedule(pipeline: Pipeline) -> None:
    repository = pipeline.definitions.get_repository_def()
    jobs = {name for name in repository.job_names if not name.startswith("__")}
    assert jobs == {
        "lumina__daily_sync",
        "lumina__weekly_resync",
        "lumina__meta_only",
        "mekong__daily_sync",
        "mekong__backfill_october",
    }
    schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
    assert schedules.keys() == {
        "lumina__daily_sync_schedule",
        "lumina__weekly_resync_schedule",
        "mekong__daily_sync_schedule",
    }
    daily = schedules["mekong__daily_sync_schedule"]
    assert (daily.cron_schedule, daily.execution_timezone) == ("0 2 * * *", "Asia/Ho_Chi_Minh")
    assert daily.default_status == dg.DefaultScheduleStatus.RUNNING


def test_a_workflow_of_one_source_is_a_job_of_that_source_and_what_comes_of_it(pipeline: Pipeline) -> None:
    job = pipeline.definitions.resolve_job_def("lumina__meta_only")
    assert job.asset_layer.executable_asset_keys == {
        key("lumina/meta_ad_accounts"),
        key("lumina/meta_ad_insights"),
        key("lumina/ad_performance"),
    }


def test_a_file_that_breaks_keeps_the_last_good_version_of_its_tenant_and_shows_why(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    broken = pipeline.tenants / "mekong.yaml"
    broken.write_text(broken.read_text().replace('"0 2 * * *"', '"99 2 * * *"'))
    with caplog.at_level(logging.ERROR):
        pipeline.reload()
    repository = pipeline.definitions.get_repository_def()
    assert repository.get_schedule_def("mekong__daily_sync_schedule").cron_schedule == "0 2 * * *"
    shown = pipeline.definitions.resolve_asset_graph().get(dg.AssetKey([BROKEN_GROUP, "mekong.yaml"]))
    assert "workflows.0.schedule" in rendered(shown.description)
    assert re.search(r"the last good version of mekong, from \d{4}-.* UTC, is in use", rendered(shown.description))
    assert "workflows.0.schedule" in caplog.text
    assert "is in use" in caplog.text


def test_a_file_that_was_never_good_leaves_out_its_tenant_alone_and_shows_why(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SYNC_PIPELINE_HOME", str(tmp_path / "another_home"))
    broken = pipeline.tenants / "mekong.yaml"
    broken.write_text(broken.read_text().replace('"0 2 * * *"', '"99 2 * * *"'))
    with caplog.at_level(logging.ERROR):
        pipeline.reload()
    graph = pipeline.definitions.resolve_asset_graph()
    assert graph.has(key("lumina/pos_orders"))
    assert not graph.has(key("mekong/pos_orders"))
    shown = graph.get(dg.AssetKey([BROKEN_GROUP, "mekong.yaml"]))
    assert shown.group_name == BROKEN_GROUP
    assert "workflows.0.schedule" in rendered(shown.description)
    assert "workflows.0.schedule" in caplog.text
    assert "its tenant is left out" in caplog.text


def test_two_tenants_with_one_broken_product_cost_file_do_not_hide_each_other(pipeline: Pipeline) -> None:
    mekong = pipeline.tenants / "mekong.yaml"
    mekong.write_text(mekong.read_text().replace("mekong_costs.csv", "lumina_costs.csv"))
    (pipeline.tenants / "lumina_costs.csv").write_text("product_id\n")
    pipeline.reload()
    graph = pipeline.definitions.resolve_asset_graph()
    shown = [k for k in graph.get_all_asset_keys() if k.path[0] == BROKEN_GROUP]
    assert len(shown) == 2
    assert graph.has(key("lumina/pos_orders"))
    assert graph.has(key("mekong/pos_orders"))


def test_a_tenant_that_is_named_like_the_group_of_broken_files_leaves_the_others(pipeline: Pipeline) -> None:
    text = attacks.TENANT.format(id=BROKEN_GROUP) + "product_costs: ./ad_performance\n"
    (pipeline.tenants / "ad_performance").write_text("no list of costs")
    (pipeline.tenants / "x.yaml").write_text(text)
    pipeline.reload()
    graph = pipeline.definitions.resolve_asset_graph()
    assert graph.has(key("lumina/pos_orders"))
    assert "choose another id" in graph.get(key(f"{BROKEN_GROUP}/x.yaml")).metadata["problems"][0]


def test_one_broken_file_does_not_hide_another_of_a_similar_name(pipeline: Pipeline) -> None:
    for name in ("a-b.yaml", "a_b.yaml"):
        (pipeline.tenants / name).write_text("tenant: 1\n")
    pipeline.reload()
    graph = pipeline.definitions.resolve_asset_graph()
    assert len([k for k in graph.get_all_asset_keys() if k.path[0] == BROKEN_GROUP]) == 2


def test_a_runs_process_reads_the_file_of_its_own_tenant_and_no_other(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    (pipeline.tenants / "mekong.yaml").write_text("tenant: mekong\nname: [\n")
    with caplog.at_level(logging.ERROR):
        job = repository_of_run().get_maybe_subset_job_def("lumina__meta_only")
    assert job.asset_layer.executable_asset_keys == {
        key("lumina/meta_ad_accounts"),
        key("lumina/meta_ad_insights"),
        key("lumina/ad_performance"),
    }
    assert not caplog.text


def test_a_run_of_chosen_assets_gets_these_alone(pipeline: Pipeline) -> None:
    chosen = {key("lumina/pos_orders"), key("mekong/pos_orders")}
    job = repository_of_run().get_maybe_subset_job_def("__ASSET_JOB", asset_selection=chosen)
    assert job.asset_layer.executable_asset_keys == chosen


def test_who_asks_a_runs_process_for_more_than_its_job_gets_all_there_is(pipeline: Pipeline) -> None:
    repository = repository_of_run()
    assert set(repository.job_names) == set(pipeline.definitions.get_repository_def().job_names)


def test_a_job_is_its_tenants_though_another_tenants_name_begins_like_it(pipeline: Pipeline) -> None:
    text = (pipeline.tenants / "lumina.yaml").read_text()
    (pipeline.tenants / "longer.yaml").write_text(text.replace("tenant: lumina", "tenant: lumina__x"))
    job = repository_of_run().get_maybe_subset_job_def("lumina__x__meta_only")
    assert job.asset_layer.executable_asset_keys >= {key("lumina__x/meta_ad_insights")}


def test_attacks_leave_the_other_tenants_to_dagster(pipeline: Pipeline) -> None:
    for number, make in enumerate(attacks.FILES.values()):
        make(pipeline.tenants / f"attack_{number:03}.yaml")
    (pipeline.tenants / os.fsdecode(b"caf\xe9.yaml")).write_text(attacks.TENANT.format(id="cafe"))
    pipeline.reload()
    graph = pipeline.definitions.resolve_asset_graph()
    assert graph.has(key("lumina/pos_orders"))
    assert graph.has(key("mekong/pos_orders"))
    shown = [graph.get(k) for k in graph.get_all_asset_keys() if k.path[0] == BROKEN_GROUP]
    assert len(shown) == len(attacks.FILES) + 1
    # What the webserver receives is UTF-8 text.
    assert all((node.description or "").encode() for node in shown)


def test_a_tenant_that_dagster_refuses_leaves_the_others(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = definitions.tenant_definitions

    def refuse(tenant: Tenant) -> dg.Definitions:
        if tenant.tenant_id == "mekong":
            raise dg.DagsterInvalidDefinitionError("MARKER")
        return build(tenant)

    monkeypatch.setattr(definitions, "tenant_definitions", refuse)
    with caplog.at_level(logging.ERROR):
        pipeline.reload()
    graph = pipeline.definitions.resolve_asset_graph()
    assert graph.has(key("lumina/pos_orders"))
    assert not graph.has(key("mekong/pos_orders"))
    assert graph.has(dg.AssetKey([BROKEN_GROUP, "mekong.yaml"]))
    assert "tenant mekong: cannot be loaded (unexpected DagsterInvalidDefinitionError)" in caplog.text
    assert "MARKER" not in caplog.text
