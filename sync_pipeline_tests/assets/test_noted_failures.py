"""A run that fails leaves its error for `sync_health`, if it can, and fails the same if it cannot."""

from datetime import date

import dagster as dg
import pytest

from sync_pipeline.assets.failures import failures_of
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sources.errors import Place, TokenError
from sync_pipeline.sync.errors import DayFailedError, NothingListedError, SyncFailedError
from sync_pipeline.warehouse.errors import WarehouseFailedError
from sync_pipeline.warehouse.health import SourceFailure
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
FIRST, SECOND = date(2026, 10, 5), date(2026, 10, 6)
NEXT_UP = {"source": "pos", "date": "2026-10-06"}


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.metadata["tenant"].value == "lumina"
    return failure.description or ""


def test_of_several_errors_each_source_has_its_first_and_how_many_more() -> None:
    def refused(day: date, **place: str) -> TokenError:
        return TokenError(Place("acme", since=day, until=day, **place), "refused", code=190)

    pos = [refused(FIRST, source="pos", shop_id="7"), refused(FIRST, source="pos", shop_id="8")]
    meta = [refused(SECOND, source="meta", account_id="1")]
    error = SyncFailedError([DayFailedError("pos", FIRST, pos), DayFailedError("meta", SECOND, meta)])
    assert failures_of(error, {}) == [
        SourceFailure("pos", f"{pos[0]} (and 1 more)", day=FIRST, shop_id="7", code="190"),
        SourceFailure("meta", str(meta[0]), day=SECOND, account_id="1", code="190"),
    ]


def test_what_an_error_leaves_open_is_the_step_to_come() -> None:
    lost = WarehouseFailedError("the connection was lost", in_run=True)
    assert failures_of(lost, NEXT_UP) == [SourceFailure("pos", str(lost), day=SECOND)]
    nothing = NothingListedError(Place("acme", "meta"), "the token sees no account")
    assert failures_of(nothing, NEXT_UP) == [SourceFailure("meta", str(nothing))]
    (unforeseen,) = failures_of(KeyError("Maria"), NEXT_UP)
    assert unforeseen.message == "an unexpected KeyError; the run's log has its traceback"
    assert failures_of(lost, {"date": "2026-10-06"}) == [], "of a step that belongs to no source"


def test_a_run_notes_what_its_failure_says_and_no_secret(pipeline: Pipeline) -> None:
    token = pipeline.sandbox.environment["LUMINA_META_TOKEN"]
    refusal = faults.graph_error_code(190, message=f"{token} at https://x.example/?access_token={token}")
    pipeline.sandbox.faults.add(Fault(refusal, path="insights", covers_day=SECOND, times=None))
    result = pipeline.run(JOB, FIRST, SECOND)
    [noted] = pipeline.query("SELECT tenant_id, source, day, code, message, run_id FROM sync_errors")
    assert noted == ("lumina", "meta", SECOND, "190", failure_of(result), result.run_id)
    assert "***" in noted[4]
    assert token not in noted[4]

    pipeline.sandbox.faults.clear()
    assert pipeline.run(JOB, FIRST, SECOND).success
    shown = pipeline.query(
        "SELECT source, last_complete_day, days_missing, last_error FROM sync_health ORDER BY source"
    )
    assert shown == [("meta", SECOND, 0, None), ("pos", SECOND, 0, None)]


def test_discovery_that_fails_is_noted_too(pipeline: Pipeline) -> None:
    pipeline.sandbox.faults.add(Fault(faults.pancake_bad_key(), path="shops$", times=None))
    result = pipeline.run(JOB, FIRST, FIRST)
    assert pipeline.query("SELECT source, message FROM sync_errors") == [("pos", failure_of(result))]


def test_a_warehouse_that_takes_no_note_changes_nothing_about_the_failure(pipeline: Pipeline) -> None:
    pipeline.execute("ALTER TABLE sync_errors ADD CHECK (message = 'never')")
    pipeline.sandbox.faults.add(Fault(faults.http_error(500), path="shops/31.*/orders", times=None))
    result = pipeline.run(JOB, FIRST, FIRST)
    assert failure_of(result).startswith("Pancake failed on its side")
    said = [entry.user_message for entry in pipeline.instance.all_logs(result.run_id)]
    assert [line for line in said if line.startswith("sync_health does not show this error: the warehouse failed")]


def test_a_cancelled_run_is_no_error(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sync_pipeline.assets.days.sync_days", interrupted)
    assert not pipeline.run(JOB, FIRST, FIRST).success
    assert pipeline.query("SELECT count(*) FROM sync_errors") == [(0,)]
