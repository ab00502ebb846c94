"""A range of days through Dagster, from the APIs to the tables, and what the UI shows of it when things go wrong."""

import logging
from datetime import date, timedelta

import dagster as dg
import pytest

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
FIRST = date(2026, 10, 5)
LAST = date(2026, 10, 11)
WEEK = [(FIRST + timedelta(days=n)).isoformat() for n in range(7)]
FOURTH_DAY = date(2026, 10, 8)
BOTH = ("lumina/meta_ad_insights", "lumina/pos_orders")


def failure_of(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, object]]:
    """The failed step's sentence and metadata, as the run's page shows them."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    return failure.description or "", {name: value.value for name, value in failure.metadata.items()}


def test_a_week_is_one_run_that_shows_each_day_with_its_own_figures(pipeline: Pipeline) -> None:
    result = pipeline.run(JOB, FIRST, LAST)
    assert result.success

    insights = pipeline.materialized("lumina/meta_ad_insights", result.run_id)
    assert list(insights) == WEEK
    stored = pipeline.query("SELECT date, count(*), sum(spend) FROM meta_ad_insights GROUP BY date ORDER BY date")
    assert [(day.isoformat(), rows, float(spend)) for day, rows, spend in stored] == [
        (day, figures["dagster/partition_row_count"], figures["spend"]) for day, figures in insights.items()
    ]
    orders = pipeline.materialized("lumina/pos_orders", result.run_id)
    stored = pipeline.query("SELECT date_local, count(*), sum(total) FROM pos_orders GROUP BY 1 ORDER BY 1")
    assert [(day.isoformat(), rows, float(total)) for day, rows, total in stored] == [
        (day, figures["dagster/partition_row_count"], figures["order_total"])
        for day, figures in orders.items()
        if figures["dagster/partition_row_count"]
    ]
    assert all(figures["seconds"] >= 0 for figures in orders.values())


def test_the_runs_tags_say_how_far_it_got(pipeline: Pipeline) -> None:
    result = pipeline.run(JOB, FIRST, LAST)
    run = pipeline.instance.get_run_by_id(result.run_id)
    assert run is not None
    [(insights,)] = pipeline.query("SELECT count(*) FROM meta_ad_insights")
    [(orders,)] = pipeline.query("SELECT count(*) FROM pos_orders")
    expected = {"tenant": "lumina", "workflow": "daily_sync", "trigger": "manual", "days_processed": "7/7"}
    assert {**run.tags, **expected, "meta_fetched": str(insights), "pos_fetched": str(orders)} == run.tags


def test_the_sync_log_has_a_line_for_every_day_and_source(pipeline: Pipeline) -> None:
    result = pipeline.run(JOB, FIRST, LAST)
    logged = pipeline.query("SELECT day, source, run_id, complete FROM sync_log ORDER BY id")
    expected = [(FIRST + timedelta(days=n), source) for n in range(7) for source in ("meta", "pos")]
    assert logged == [(day, source, result.run_id, True) for day, source in expected]


def test_the_sync_log_counts_every_request_that_the_apis_saw(pipeline: Pipeline) -> None:
    pipeline.run(JOB, FIRST, LAST)
    seen = len(pipeline.sandbox.requests.all())
    discovery = len(
        [r for r in pipeline.sandbox.requests.all() if r.path.endswith(("/me/adaccounts", "/shops", "/products"))]
    )
    assert pipeline.query("SELECT sum(requests) FROM sync_log") == [(seen - discovery,)]
    assert pipeline.query("SELECT count(*) FROM sync_log WHERE requests > 0") == [(2,)], "a week is one window each"


@pytest.mark.parametrize("assets", [(), BOTH], ids=["with the lists", "without the lists"])
def test_a_run_requests_each_list_once(pipeline: Pipeline, assets: tuple[str, ...]) -> None:
    assert pipeline.run(JOB, FIRST, FIRST, assets).success
    counts = pipeline.sandbox.requests.counts()
    assert (counts["accounts"], counts["shops"]) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "source", "place", "code"),
    [
        (
            Fault(faults.graph_error("expired_token"), covers_day=FOURTH_DAY, path="insights", times=None),
            "meta",
            "account_id",
            190,
        ),
        (
            Fault(faults.pancake_failure("shop is locked"), covers_day=FOURTH_DAY, path="orders", times=None),
            "pos",
            "shop_id",
            None,
        ),
    ],
)
def test_an_api_that_fails_on_the_fourth_day_leaves_three_days_and_says_where(
    pipeline: Pipeline, fault: Fault, source: str, place: str, code: int | None
) -> None:
    pipeline.sandbox.faults.add(fault)
    result = pipeline.run(JOB, FIRST, LAST)
    assert not result.success

    description, metadata = failure_of(result)
    assert metadata["date"] == FOURTH_DAY.isoformat()
    assert metadata["source"] == source
    assert metadata[place]
    assert str(metadata[place]) in description
    assert FOURTH_DAY.isoformat() in description
    assert metadata.get("error_code") == code
    assert metadata["error_message"]

    before = WEEK[:3]
    meta_days = WEEK[:4] if source == "pos" else before  # on each day Meta is committed first
    assert list(pipeline.materialized("lumina/meta_ad_insights", result.run_id)) == meta_days
    assert list(pipeline.materialized("lumina/pos_orders", result.run_id)) == before
    [(last,)] = pipeline.query("SELECT max(day) FROM sync_log WHERE source = 'pos'")
    assert last == date(2026, 10, 7)


def test_the_same_range_after_a_failure_gives_the_tables_of_an_undisturbed_run(pipeline: Pipeline) -> None:
    assert pipeline.run(JOB, FIRST, LAST).success
    undisturbed = pipeline.tables()
    pipeline.execute("DELETE FROM tenants")
    fault = Fault(faults.http_error(503), covers_day=FOURTH_DAY, path="orders", query="page_number=1", times=None)
    pipeline.sandbox.faults.add(fault)
    assert not pipeline.run(JOB, FIRST, LAST).success
    pipeline.sandbox.faults.clear()
    assert pipeline.run(JOB, FIRST, LAST).success
    assert pipeline.tables() == undisturbed
    assert list(pipeline.materialized("lumina/pos_orders")) == WEEK


def test_a_day_again_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.run(JOB, FIRST, FIRST)
    before = pipeline.query("SELECT ctid::text, * FROM meta_ad_insights ORDER BY account_id, ad_id")
    pipeline.run(JOB, FIRST, FIRST)
    assert pipeline.query("SELECT ctid::text, * FROM meta_ad_insights ORDER BY account_id, ad_id") == before
    changes = pipeline.query("SELECT changed, removed FROM sync_log ORDER BY id DESC LIMIT 2")
    assert changes == [(0, 0), (0, 0)]


def test_what_vanishes_upstream_vanishes_and_a_changed_order_stays_one_row(pipeline: Pipeline) -> None:
    pipeline.run(JOB, FIRST, FIRST)
    [(ad_id,), *_] = pipeline.query("SELECT ad_id FROM meta_ad_insights ORDER BY spend DESC")
    [(shop_id, order_id), (deleted_shop, deleted), *_] = pipeline.query("SELECT shop_id, pos_order_id FROM pos_orders")
    [(orders,)] = pipeline.query("SELECT count(*) FROM pos_orders")
    pipeline.sandbox.world.hide_ad(ad_id)
    pipeline.sandbox.world.change_order(int(shop_id), int(order_id), status=6, status_name="canceled")
    pipeline.sandbox.world.delete_order(int(deleted_shop), int(deleted))

    assert pipeline.run(JOB, FIRST, FIRST).success
    assert pipeline.query(f"SELECT 1 FROM meta_ad_insights WHERE ad_id = '{ad_id}'") == []
    changed = f"SELECT status FROM pos_orders WHERE shop_id = '{shop_id}' AND pos_order_id = '{order_id}'"
    assert pipeline.query(changed) == [(6,)]
    assert pipeline.query("SELECT count(*) FROM pos_orders") == [(orders - 1,)]


def test_a_backfill_of_the_days_alone_finds_accounts_and_shops_itself(pipeline: Pipeline) -> None:
    assert pipeline.run("__ASSET_JOB", FIRST, FIRST, assets=BOTH).success
    assert pipeline.query("SELECT count(*) > 1 FROM meta_ad_accounts") == [(True,)]
    assert pipeline.query("SELECT count(DISTINCT account_id) > 1 FROM meta_ad_insights") == [(True,)]


def test_a_new_account_is_picked_up_and_a_disabled_one_left_out(pipeline: Pipeline) -> None:
    pipeline.run(JOB, FIRST, FIRST)
    [(disabled,), *_] = pipeline.query("SELECT account_id FROM meta_ad_accounts ORDER BY account_id")
    pipeline.execute(f"UPDATE meta_ad_accounts SET enabled = false WHERE account_id = '{disabled}'")
    pipeline.sandbox.world.add_ad_account("lumina", "100000000000777", "New market")
    next_day = FIRST + timedelta(days=1)
    assert pipeline.run(JOB, next_day, next_day).success
    seen = pipeline.query("SELECT DISTINCT account_id FROM meta_ad_insights WHERE date = '2026-10-06'")
    assert ("100000000000777",) in seen
    assert (disabled,) not in seen
    # Its earlier day stays: removal touches only what was fetched.
    assert pipeline.query(f"SELECT count(*) > 0 FROM meta_ad_insights WHERE account_id = '{disabled}'") == [(True,)]


def test_every_order_and_all_spend_of_the_day_is_there(pipeline: Pipeline) -> None:
    pipeline.run(JOB, FIRST, LAST)
    world = pipeline.sandbox.world
    accounts = [account.account_id for account in world.tenants["lumina"].accounts]
    upstream = {
        (row.ad.ad_id, FIRST + timedelta(days=n))
        for n in range(7)
        for account in accounts
        for row in world.insights(account, FIRST + timedelta(days=n))
    }
    assert set(pipeline.query("SELECT ad_id, date FROM meta_ad_insights")) == upstream
    statuses = dict(pipeline.query("SELECT status, count(*) FROM meta_ad_insights GROUP BY status"))
    assert None not in statuses
    assert statuses.keys() & {"ARCHIVED", "DELETED"}, "ads that are gone by now still have their spend"


def test_an_order_in_the_last_fraction_of_a_day_is_not_removed_for_not_being_returned(pipeline: Pipeline) -> None:
    pipeline.run(JOB, FIRST, FIRST)
    for order_id, second in (("gone", "59"), ("unproven", "59.5")):
        pipeline.execute(
            f"UPDATE pos_orders SET pos_order_id = '{order_id}', inserted_at = '2026-10-05 15:59:{second}+00' "
            "WHERE ctid = (SELECT ctid FROM pos_orders WHERE pos_order_id NOT IN ('gone', 'unproven') LIMIT 1)"
        )
    pipeline.run(JOB, FIRST, FIRST)
    left = pipeline.query("SELECT pos_order_id FROM pos_orders WHERE pos_order_id IN ('gone', 'unproven')")
    assert left == [("unproven",)]


def test_a_missing_secret_fails_the_run_naming_the_variable(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LUMINA_META_TOKEN")
    description, _ = failure_of(pipeline.run(JOB, FIRST, FIRST, assets=["lumina/meta_ad_insights"]))
    assert "LUMINA_META_TOKEN" in description


def test_in_strict_mode_an_unreadable_order_fails_its_day(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(f"{file.read_text()}\non_bad_row: fail\n")
    pipeline.reload()
    shop = pipeline.sandbox.world.tenants["lumina"].shops[0].shop_id
    order_id = pipeline.sandbox.world.add_order(
        shop, FIRST, total_price="many pesos", total_price_after_sub_discount="?"
    )
    description, metadata = failure_of(pipeline.run(JOB, FIRST, FIRST))
    assert str(order_id) in description
    assert (metadata["date"], metadata["source"], metadata["shop_id"]) == (FIRST.isoformat(), "pos", str(shop))
    assert pipeline.query("SELECT count(*) FROM pos_orders") == [(0,)]


@pytest.mark.parametrize("breaks", [None, "token", "key"])
def test_secrets_are_nowhere_in_events_logs_or_tables(
    pipeline: Pipeline,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    breaks: str | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = set(pipeline.sandbox.world.secrets().values())
    if breaks:
        marker = "MARKER-7f3a-secret"
        monkeypatch.setenv("LUMINA_META_TOKEN" if breaks == "token" else "LUMINA_PANCAKE_KEY", marker)
        secrets.add(marker)
    result = pipeline.run(JOB, FIRST, FIRST)
    assert result.success is (breaks is None)

    events = [entry.to_json() for entry in pipeline.instance.all_logs(result.run_id)]
    run = pipeline.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.job_snapshot_id is not None
    snapshot = pipeline.instance.get_job_snapshot(run.job_snapshot_id)
    tables = [
        row
        for (name,) in pipeline.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for row in pipeline.query(f"SELECT * FROM {name}")
    ]
    captured = capfd.readouterr()
    # The sandbox shares this process; what its own server logs is not ours.
    logs = [record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")]
    assert any("GET /pancake" in line for line in logs), "the HTTP library's own log is part of this"
    written = "\n".join([*events, *logs, str(run), str(snapshot), repr(tables), captured.out, captured.err])
    assert len(events) > 10
    assert [secret for secret in secrets if secret in written] == []


def restating(pipeline: Pipeline, job: str = JOB) -> dg.ExecuteInProcessResult:
    """A run of the 10th and 11th that also fetches the 5th to the 9th from Meta, as a schedule's tick asks for it."""
    tags = {**range_tags(DayRange(date(2026, 10, 10), LAST)), "restate_meta": "2026-10-05/2026-10-09"}
    definition = pipeline.definitions.resolve_job_def(job)
    return definition.execute_in_process(instance=pipeline.instance, tags=tags, raise_on_error=False)


def test_restated_days_are_fetched_of_their_source_alone_and_shown_like_the_others(pipeline: Pipeline) -> None:
    result = restating(pipeline)
    assert result.success
    assert sorted(pipeline.materialized("lumina/meta_ad_insights", result.run_id)) == WEEK
    assert list(pipeline.materialized("lumina/pos_orders", result.run_id)) == WEEK[5:]
    assert sorted(pipeline.materialized("lumina/ad_performance", result.run_id)) == WEEK
    run = pipeline.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["days_processed"] == "7/7"
    logged = pipeline.query("SELECT day::text FROM sync_log WHERE source = 'meta' ORDER BY id")
    assert [day for (day,) in logged] == WEEK
    windows = pipeline.query("SELECT count(*) FROM sync_log WHERE source = 'meta' AND requests > 0")
    assert windows == [(1,)], "one request series for all seven days"


def test_a_failure_on_a_restated_day_shows_the_committed_ones_alone_and_a_re_execution_goes_on(
    pipeline: Pipeline,
) -> None:
    fault = Fault(faults.graph_error("expired_token"), covers_day=FOURTH_DAY, path="insights", times=None)
    pipeline.sandbox.faults.add(fault)
    failed = restating(pipeline)
    _, metadata = failure_of(failed)
    assert (metadata["date"], metadata["source"]) == (FOURTH_DAY.isoformat(), "meta")
    assert list(pipeline.materialized("lumina/meta_ad_insights", failed.run_id)) == WEEK[:3]
    assert pipeline.materialized("lumina/pos_orders") == {}

    pipeline.sandbox.faults.clear()
    run = pipeline.instance.get_run_by_id(failed.run_id)
    assert run is not None
    tags = {**run.tags, "dagster/parent_run_id": run.run_id, "dagster/root_run_id": run.run_id}
    resumed = pipeline.definitions.resolve_job_def(JOB).execute_in_process(instance=pipeline.instance, tags=tags)
    fetched = pipeline.query(f"SELECT day::text FROM sync_log WHERE source = 'meta' AND run_id = '{resumed.run_id}'")
    assert sorted(day for (day,) in fetched) == WEEK[3:]
    assert sorted(pipeline.materialized("lumina/meta_ad_insights")) == WEEK
