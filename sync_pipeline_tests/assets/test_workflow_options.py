"""What a workflow may ask for beyond the default of stopping at the first error, and what a run shows of its waits."""

from datetime import date

import dagster as dg
import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
FIRST = date(2026, 10, 5)
LAST = date(2026, 10, 8)
SECOND_DAY = date(2026, 10, 6)


def option(pipeline: Pipeline, line: str) -> None:
    """Give the first workflow of lumina one more line."""
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  - name: daily_sync\n", f"  - name: daily_sync\n    {line}\n", 1))
    pipeline.reload()


def tags_of(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> dict[str, str]:
    run = pipeline.instance.get_run_by_id(result.run_id)
    assert run is not None
    return dict(run.tags)


def test_continue_stores_all_it_can_and_lists_every_error_of_a_failed_run(pipeline: Pipeline) -> None:
    option(pipeline, "on_error: continue")
    [first_shop, second_shop, *_] = pipeline.sandbox.world.tenants["lumina"].shops
    for shop in (first_shop, second_shop):
        path = f"shops/{shop.shop_id}/orders"
        pipeline.sandbox.faults.add(Fault(faults.http_error(500), path=path, covers_day=SECOND_DAY, times=None))
    result = pipeline.run(JOB, FIRST, LAST)

    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    errors = failure.metadata["errors"].value
    assert isinstance(errors, list)
    assert [(e["date"], e["source"], e["shop_id"]) for e in errors] == [
        ("2026-10-06", "pos", str(shop.shop_id)) for shop in (first_shop, second_shop)
    ]
    assert (failure.description or "").startswith("2 errors: ")

    days = ["2026-10-05", "2026-10-06", "2026-10-07", "2026-10-08"]
    assert list(pipeline.materialized("lumina/meta_ad_insights", result.run_id)) == days
    assert list(pipeline.materialized("lumina/pos_orders", result.run_id)) == [days[0], *days[2:]]
    assert tags_of(pipeline, result)["days_processed"] == "3/4"


def test_a_permission_error_ends_its_source_and_not_the_other(pipeline: Pipeline) -> None:
    option(pipeline, "on_error: continue")
    pipeline.sandbox.faults.add(Fault(faults.graph_error("no_permission"), path="insights", times=None))
    result = pipeline.run(JOB, FIRST, LAST)
    assert not result.success
    assert pipeline.materialized("lumina/meta_ad_insights", result.run_id) == {}
    assert len(pipeline.materialized("lumina/pos_orders", result.run_id)) == 4


def test_a_key_that_is_refused_ends_its_source_and_not_the_other(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    option(pipeline, "on_error: continue")
    monkeypatch.setenv("LUMINA_PANCAKE_KEY", "refused")
    result = pipeline.run(JOB, FIRST, LAST)
    assert not result.success
    assert len(pipeline.materialized("lumina/meta_ad_insights", result.run_id)) == 4
    assert pipeline.materialized("lumina/pos_orders", result.run_id) == {}
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert "the api_key is not accepted" in (failure.description or "")


@pytest.mark.parametrize(("retries", "succeeds"), [(0, False), (1, True)])
def test_a_transient_error_is_retried_only_where_the_workflow_allows_it(
    pipeline: Pipeline, retries: int, succeeds: bool
) -> None:
    option(pipeline, f"max_retries: {retries}")
    pipeline.sandbox.faults.add(Fault(faults.http_error(503), path="orders", times=1))
    result = pipeline.run(JOB, FIRST, FIRST)
    assert result.success is succeeds
    assert ("retry 1 of 1" in tags_of(pipeline, result).get("waits", "")) is succeeds


def test_a_rate_limit_is_waited_for_and_shown_on_the_run(pipeline: Pipeline) -> None:
    pipeline.sandbox.faults.add(Fault(faults.rate_limited("1"), path="insights", times=1))
    result = pipeline.run(JOB, FIRST, FIRST)
    assert result.success
    waits = tags_of(pipeline, result)["waits"]
    assert waits.startswith("1, 1 s in all; last: rate limit of meta, tenant lumina, account ")
    logged = [entry.user_message for entry in pipeline.instance.all_logs(result.run_id)]
    assert any(line.startswith("waiting 1 s: rate limit of meta") for line in logged)


def test_a_rate_limit_that_outlasts_max_wait_s_fails_as_what_it_is(pipeline: Pipeline) -> None:
    option(pipeline, "rate_limit: {max_wait_s: 5}")
    pipeline.sandbox.faults.add(Fault(faults.rate_limited("3600"), path="insights", times=None))
    result = pipeline.run(JOB, FIRST, LAST)
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert "exceed max_wait_s of 5" in (failure.description or "")
    assert failure.metadata["date"].value == "2026-10-05"
    assert failure.metadata["http_status"].value == 429


def test_an_expired_api_version_is_a_warning_on_the_run(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("api_version: v26.0", "api_version: v23.0"))
    pipeline.reload()
    result = pipeline.run(JOB, FIRST, FIRST)
    assert result.success
    assert "version" in tags_of(pipeline, result)["meta_api_warning"].lower()


def test_a_version_that_is_gone_names_the_setting_to_change(pipeline: Pipeline) -> None:
    pipeline.sandbox.faults.add(Fault(faults.graph_error_code(2635), path="insights", times=None))
    result = pipeline.run(JOB, FIRST, FIRST)
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert "meta.api_version" in (failure.description or "")


def test_figures_that_meta_restates_replace_the_old_ones(pipeline: Pipeline) -> None:
    pipeline.run(JOB, FIRST, FIRST)
    account = pipeline.sandbox.world.tenants["lumina"].accounts[0].account_id
    spend = f"SELECT sum(spend) FROM meta_ad_insights WHERE account_id = '{account}'"
    [(before,)] = pipeline.query(spend)
    pipeline.sandbox.world.restate(account, FIRST, 2.0)
    pipeline.run(JOB, FIRST, FIRST)
    assert pipeline.query(spend) == [(before * 2,)]
