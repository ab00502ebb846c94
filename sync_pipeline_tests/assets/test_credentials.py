"""Runs repeat what the daily check stored about versions and tokens, and ask Meta nothing about them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from sync_pipeline.sync import META
from sync_pipeline.warehouse.credentials import CredentialExpiry, CredentialState, Subject, store_expiries
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import Pipeline, rendered

JOB = "lumina__daily_sync"
DAY = date(2026, 10, 5)
# A version without an end, which no later announcement can give one.
LASTING = "api_version: v26.0"


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


def store(pipeline: Pipeline, ends_at: datetime | None, now: datetime, *, state: str = CredentialState.VALID) -> None:
    with Warehouse(pipeline.engine).tenant("lumina", name="Lumina Skin", timezone="Asia/Manila"):
        pass
    found = [
        CredentialExpiry(META, Subject.TOKEN, state, ends_at, now),
        CredentialExpiry(META, Subject.DATA_ACCESS, CredentialState.VALID, None, now),
    ]
    assert store_expiries(pipeline.engine, "lumina", found)


def warned(pipeline: Pipeline, result: dg.ExecuteInProcessResult, words: str) -> int:
    """How many warnings of the run's log hold these words."""
    logged = pipeline.instance.all_logs(result.run_id)
    return sum(words in entry.user_message and entry.level >= 30 for entry in logged if not entry.dagster_event)


def tag_of(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> str | None:
    run = pipeline.instance.get_run_by_id(result.run_id)
    assert run is not None
    return run.tags.get("meta_api_warning")


def judged(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> tuple[bool, str, str]:
    logged = pipeline.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    events = [entry.get_dagster_event().asset_check_evaluation_data for entry in logged]
    [one] = [event for event in events if event.check_name == "credentials_current"]
    assert one.asset_key == dg.AssetKey(["lumina", "meta_ad_accounts"])
    return one.passed, one.severity.value, rendered(one.description)


@pytest.mark.parametrize("assets", [(), ("lumina/meta_ad_insights",)])
def test_a_run_warns_once_of_a_stored_end_without_a_request(
    pipeline: Pipeline, now: datetime, assets: Sequence[str]
) -> None:
    store(pipeline, now + timedelta(days=30), now)
    result = pipeline.run(JOB, DAY, DAY, assets=assets)
    assert result.success
    assert pipeline.sandbox.requests.count("debug_token") == 0
    words = f"the token expires on {now + timedelta(days=30):%Y-%m-%d %H:%M} UTC, in 30 days; renew it"
    assert warned(pipeline, result, words) == 1
    assert (tag_of(pipeline, result) or "").startswith(words)


def test_the_runs_check_says_what_is_stored(pipeline: Pipeline, now: datetime) -> None:
    store(pipeline, now + timedelta(days=30), now)
    passed, severity, sentence = judged(pipeline, pipeline.run(JOB, DAY, DAY))
    assert (passed, severity) == (False, "WARN")
    assert sentence.startswith("the token expires on ")
    store(pipeline, None, now, state=CredentialState.REFUSED)
    result = pipeline.run(JOB, DAY, DAY)
    assert result.success, "what is stored fails no run"
    assert judged(pipeline, result)[:2] == (False, "ERROR")
    assert pipeline.sandbox.requests.count("debug_token") == 0


def test_a_run_without_a_stored_end_warns_of_nothing(pipeline: Pipeline, now: datetime) -> None:
    result = pipeline.run(JOB, DAY, DAY)
    assert judged(pipeline, result)[0]
    assert tag_of(pipeline, result) is None
    store(pipeline, now + timedelta(days=61), now)
    result = pipeline.run(JOB, DAY, DAY)
    assert judged(pipeline, result)[0]
    assert tag_of(pipeline, result) is None


def test_warnings_of_meta_and_of_the_check_are_both_in_the_tag(pipeline: Pipeline, now: datetime) -> None:
    file = pipeline.tenants / "lumina.yaml"
    assert LASTING in file.read_text()
    file.write_text(file.read_text().replace(LASTING, "api_version: v23.0"))
    pipeline.reload()
    store(pipeline, now + timedelta(days=30), now)
    result = pipeline.run(JOB, DAY, DAY)
    assert result.success
    tag = tag_of(pipeline, result) or ""
    for words in ("Meta's API version v23.0 ended on 2026-06-09;", "the token expires on ", "has been auto-upgraded"):
        assert tag.count(words) == 1
