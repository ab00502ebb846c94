"""A response with customers' data that cannot be used leaves no trace of them in anything that the pipeline writes."""

import json
from datetime import date

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline_tests.automation.conftest import Hook
from sync_pipeline_tests.automation.test_alerts import Alerts, alerts  # noqa: F401 (a fixture)
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
DAY = date(2026, 10, 5)
CUSTOMER = {"bill_full_name": "MARIA-MARKER", "bill_phone_number": "0917-MARKER", "id": 1}
ORDERS = json.dumps({"data": [CUSTOMER], "success": True})


def answered(body: str, status: int = 200) -> Effect:
    return faults.http_error(status, body, content_type="application/json")


UNUSABLE = {
    "not a number": answered(ORDERS.replace('"id": 1', '"id": 1, "partner_fee": NaN')),
    "cut off": answered(ORDERS[:-16]),
    "a refusal with the order": answered(json.dumps({"success": False, "order": CUSTOMER})),
    "a failure as plain text": faults.http_error(502, f"{ORDERS} was too much"),
    "an order that cannot be read": answered(
        json.dumps({"data": [{**CUSTOMER, "inserted_at": "MARIA-MARKER", "status": "0917-MARKER"}], "success": True})
    ),
    "an order without a usable id": answered(json.dumps({"data": [{**CUSTOMER, "id": "MARIA-MARKER 0917"}]})),
}


@pytest.mark.parametrize("response", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_response_leaves_no_customer_data_anywhere(
    pipeline: Pipeline,
    hook: Hook,
    alerts: Alerts,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    response: Effect,
) -> None:
    pipeline.sandbox.faults.add(Fault(response, path="shops/31.*/orders", times=None))
    result = pipeline.run(JOB, DAY, DAY)
    assert not result.success
    assert alerts.tick() == "alerts delivered: 1, waiting: 0"

    errors = pipeline.query("SELECT message FROM sync_errors")
    events = [dg.serialize_value(entry) for entry in pipeline.instance.all_logs(result.run_id)]
    console = capfd.readouterr()
    assert len(errors) == 1
    assert len(hook.posts) == 1
    assert events
    written = {
        "tables": json.dumps(all_rows(pipeline), default=str),
        "event log": "\n".join(events),
        "webhook": json.dumps([body for _, body in hook.posts]),
        "console": console.out + console.err,
        "logs": caplog.text,
    }
    assert "(pos, tenant lumina" in written["console"]
    assert [place for place, text in written.items() if "MARKER" in text or "MARIA" in text or "0917" in text] == []


def all_rows(pipeline: Pipeline) -> dict[str, list[tuple[object, ...]]]:
    names = sa.inspect(pipeline.engine).get_table_names()
    return {name: pipeline.query(f'SELECT * FROM "{name}"') for name in names}
