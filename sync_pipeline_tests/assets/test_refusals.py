"""Runs with `on_error: continue` whose accounts, shops or keys refuse: what is stored, shown and named."""

from datetime import date, timedelta

import dagster as dg
import pytest

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.automation.recovery import Cursor, show_committed_days
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import load_tenants
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
FIRST, LAST = date(2026, 10, 5), date(2026, 10, 8)
DAYS = [f"2026-10-0{day}" for day in range(5, 9)]
SHOP, OTHER_SHOP = "310002", "310001"
ACCOUNT = "100000000000102"
SAIGON, SAIGON_KEY = "320002", "MEKONG_PANCAKE_KEY_SAIGON"
SENTENCE = (
    f"pos: rows of shop {SHOP} are missing for 2026-10-05 to 2026-10-08; to sync without it, run: "
    f"sync-pipeline shops disable lumina {SHOP}"
)
FIGURES = "SELECT * FROM ad_performance ORDER BY date, ad_id, shop_id, mapping"


@pytest.fixture
def going_on(pipeline: Pipeline) -> Pipeline:
    """The demo tenants, whose workflows go on after errors."""
    for file in pipeline.tenants.glob("*.yaml"):
        file.write_text(
            file.read_text().replace("  - name: daily_sync\n", "  - name: daily_sync\n    on_error: continue\n")
        )
    pipeline.reload()
    return pipeline


def refuse_shop(pipeline: Pipeline) -> Fault:
    effect = faults.pancake_failure("The subscription has expired")
    return pipeline.sandbox.faults.add(Fault(effect, path=f"shops/{SHOP}/orders$", times=None))


def failure_of(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, object]]:
    """The sentence and metadata of the only step that failed."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    return failure.description or "", {name: value.value for name, value in failure.metadata.items()}


def logged(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> list[str]:
    return [entry.user_message for entry in pipeline.instance.all_logs(result.run_id)]


def reexecuted(pipeline: Pipeline, parent: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    tags = {"dagster/parent_run_id": parent.run_id, "dagster/root_run_id": parent.run_id}
    return pipeline.definitions.resolve_job_def(JOB).execute_in_process(
        instance=pipeline.instance, tags={**range_tags(DayRange(FIRST, LAST)), **tags}, raise_on_error=False
    )


def stored_shops(pipeline: Pipeline) -> dict[str, int]:
    found = pipeline.query("SELECT shop_id, count(DISTINCT date_local) FROM pos_orders GROUP BY 1")
    return {row[0]: row[1] for row in found}


def test_a_run_names_the_shop_that_it_went_on_without(going_on: Pipeline) -> None:
    refuse_shop(going_on)
    result = going_on.run(JOB, FIRST, LAST)
    assert not result.success
    assert stored_shops(going_on) == {OTHER_SHOP: 4}
    assert going_on.sandbox.requests.count("orders", SHOP) == 1

    description, metadata = failure_of(result)
    assert description.startswith(f"1 error: Pancake refused the request (pos, tenant lumina, shop {SHOP}, 2026")
    assert description.endswith(f" {SENTENCE}.")
    [missing] = metadata["missing"]  # type: ignore[misc]
    assert missing == {
        "source": "pos",
        "shop_id": SHOP,
        "since": "2026-10-05",
        "until": "2026-10-08",
        "command": f"sync-pipeline shops disable lumina {SHOP}",
        "sentence": SENTENCE,
    }
    assert (metadata["shop_id"], metadata["date"]) == (SHOP, "2026-10-05/2026-10-08")
    run = going_on.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["missing"] == f"pos shop {SHOP}"
    assert run.tags["days_processed"] == "0/4"
    assert SENTENCE in logged(going_on, result)


def test_incomplete_days_are_observed_and_not_materialized(going_on: Pipeline) -> None:
    refuse_shop(going_on)
    result = going_on.run(JOB, FIRST, LAST)
    assert list(going_on.materialized("lumina/meta_ad_insights")) == DAYS
    assert going_on.materialized("lumina/pos_orders") == {}
    observed = [
        event.dagster_event.asset_observation_data.asset_observation  # type: ignore[union-attr]
        for event in going_on.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    ]
    of_orders = [one for one in observed if one.asset_key.path[-1] == "pos_orders"]
    assert [(one.partition, one.metadata["missing"].value) for one in of_orders] == [(day, [SHOP]) for day in DAYS]

    tenants = {tenant.tenant_id: tenant for tenant in load_tenants(Settings.from_environment().tenants).tenants}
    _, shown = show_committed_days(
        going_on.instance, Warehouse(going_on.engine), tenants, Cursor(), settled_for=timedelta(0)
    )
    assert shown == 0
    assert going_on.materialized("lumina/pos_orders") == {}


def test_figures_of_incomplete_days_are_computed_and_marked(going_on: Pipeline) -> None:
    fault = refuse_shop(going_on)
    result = going_on.run(JOB, FIRST, LAST)
    figures = going_on.materialized("lumina/ad_performance", result.run_id)
    assert list(figures) == DAYS
    for day, of_day in figures.items():
        assert of_day["complete"] is False
        assert of_day["incomplete"] == SENTENCE.replace("2026-10-05 to 2026-10-08", day)
        [(orders,)] = going_on.query(f"SELECT sum(orders)::int FROM ad_performance WHERE date = '{day}'")
        [(stored,)] = going_on.query(f"SELECT count(*) FROM pos_orders WHERE date_local = '{day}' AND status <> 7")
        assert (of_day["orders"], orders) == (stored, stored)
    warning = "figures are incomplete for 2026-10-05 to 2026-10-08: "
    assert any(line.startswith(warning) for line in logged(going_on, result))

    fault.times = 0
    assert going_on.run(JOB, FIRST, LAST).success
    complete = going_on.materialized("lumina/ad_performance")
    assert ["incomplete" in of_day for of_day in complete.values()] == [False] * 4


def test_reexecution_fetches_incomplete_days_again(going_on: Pipeline) -> None:
    fault = refuse_shop(going_on)
    failed = going_on.run(JOB, FIRST, LAST)
    again = reexecuted(going_on, failed)
    assert not again.success
    assert going_on.sandbox.requests.count("orders", SHOP) == 2, "asked again by the second run, once"
    fault.times = 0
    completed = reexecuted(going_on, again)
    assert completed.success
    by_run = "SELECT source, day::text FROM sync_log WHERE run_id = '{}' ORDER BY source, day"
    assert going_on.query(by_run.format(completed.run_id)) == [("pos", day) for day in DAYS], "Meta was complete"
    assert list(going_on.materialized("lumina/pos_orders", completed.run_id)) == DAYS
    assert stored_shops(going_on) == {OTHER_SHOP: 4, SHOP: 4}

    tables, figures = going_on.tables(), going_on.query(FIGURES)
    going_on.execute("DELETE FROM tenants")
    assert going_on.run(JOB, FIRST, LAST).success
    assert going_on.tables() == tables
    assert going_on.query(FIGURES) == figures


def test_an_account_that_refuses_costs_no_other_account(going_on: Pipeline) -> None:
    fault = Fault(faults.graph_error("no_permission"), path=f"act_{ACCOUNT}/insights", times=None)
    going_on.sandbox.faults.add(fault)
    result = going_on.run(JOB, FIRST, LAST)
    assert fault.hits == 1
    accounts = going_on.query("SELECT DISTINCT account_id FROM meta_ad_insights ORDER BY 1")
    assert accounts == [("100000000000101",), ("100000000000103",)]
    assert going_on.materialized("lumina/meta_ad_insights") == {}
    assert list(going_on.materialized("lumina/pos_orders")) == DAYS
    description, metadata = failure_of(result)
    assert f"run: sync-pipeline accounts disable lumina {ACCOUNT}" in description
    assert (metadata["account_id"], metadata["error_code"]) == (ACCOUNT, 200)


def test_a_refused_key_is_sent_once_in_all_steps(going_on: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SAIGON_KEY, "MARKER-revoked")
    result = going_on.run("mekong__daily_sync", FIRST, LAST)
    assert not result.success
    assert [request.status for request in going_on.sandbox.requests.all("shops")] == [200, 403]
    assert going_on.sandbox.requests.count("products") == going_on.sandbox.requests.count("products", "320001")
    assert stored_shops(going_on) == {"320001": 4}
    description, metadata = failure_of(result)
    assert f"tenant mekong, key in {SAIGON_KEY}" in description
    assert f"sync-pipeline shops disable mekong {SAIGON}" in description
    assert (metadata["key"], metadata["error_code"]) == (SAIGON_KEY, 105)
    assert "MARKER" not in description + repr(metadata) + "".join(logged(going_on, result))


@pytest.mark.parametrize("value", [None, "", "two words"])
def test_a_key_that_is_none_costs_its_own_shops_only(
    going_on: Pipeline, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(SAIGON_KEY)
    else:
        monkeypatch.setenv(SAIGON_KEY, value)
    result = going_on.run("mekong__daily_sync", FIRST, FIRST)
    assert not result.success
    assert stored_shops(going_on) == {"320001": 1}
    description, _ = failure_of(result)
    assert f"the environment variable {SAIGON_KEY} " in description


def test_a_missing_token_costs_no_order(going_on: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUMINA_META_TOKEN")
    result = going_on.run(JOB, FIRST, LAST)
    assert not result.success
    assert list(going_on.materialized("lumina/pos_orders")) == DAYS
    assert "the environment variable LUMINA_META_TOKEN is not set" in failure_of(result)[0]


def test_a_shop_without_products_still_has_its_orders(going_on: Pipeline) -> None:
    forbidden = faults.json_body({"success": False, "message": "No permission"}, 403)
    going_on.sandbox.faults.add(Fault(forbidden, path=f"shops/{SHOP}/products", times=None))
    result = going_on.run(JOB, FIRST, FIRST)
    assert result.success
    assert stored_shops(going_on) == {OTHER_SHOP: 1, SHOP: 1}
    assert going_on.query("SELECT DISTINCT shop_id FROM pos_products") == [(OTHER_SHOP,)]
    assert any(line.startswith("the stored catalogue stays as it is: ") for line in logged(going_on, result))


def test_without_continue_one_refused_key_ends_the_run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SAIGON_KEY, "revoked")
    result = pipeline.run("mekong__daily_sync", FIRST, FIRST)
    assert not result.success
    assert stored_shops(pipeline) == {}
    assert f"key in {SAIGON_KEY}" in failure_of(result)[0]
