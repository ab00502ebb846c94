"""Data of customers leaves no trace in anything that the pipeline writes, whether a response can be used or not."""

import json
from datetime import date
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline_tests.automation.conftest import Hook
from sync_pipeline_tests.automation.test_alerts import Alerts, alerts  # noqa: F401 (a fixture)
from sync_pipeline_tests.pipeline import Pipeline
from sync_pipeline_tests.rows.test_customers import DOCUMENTED, LEFT_OUT, UNDOCUMENTED

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
}
UNREADABLE = {
    "an id that may be a name": {"id": "MARIA-MARKER 0917", "status": "0917-MARKER"},
    "texts in other fields": {"inserted_at": "MARIA-MARKER", "status": "0917-MARKER"},
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
    assert [place for place, text in written.items() if "MARKER" in text or "MARIA" in text] == []


@pytest.mark.parametrize("on_bad_row", ["reject", "fail"])
@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_order_leaves_no_customer_data_anywhere(
    pipeline: Pipeline,
    hook: Hook,
    alerts: Alerts,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    on_bad_row: str,
    fields: dict[str, str],
) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(f"{file.read_text()}\non_bad_row: {on_bad_row}\n")
    pipeline.reload()
    body = answered(
        json.dumps({"data": [{**CUSTOMER, **fields}], "success": True, "total_entries": 1, "total_pages": 1})
    )
    pipeline.sandbox.faults.add(Fault(body, path="shops/31.*/orders", times=None))
    result = pipeline.run(JOB, DAY, DAY)
    assert result.success == (on_bad_row == "reject")
    assert alerts.tick() == ("nothing to tell" if result.success else "alerts delivered: 1, waiting: 0")
    [(rows,)] = pipeline.query("SELECT count(*) FROM rejected_rows")
    assert rows == (2 if result.success else 0)

    console = capfd.readouterr()
    written = {
        "tables": json.dumps(all_rows(pipeline), default=str),
        "event log": "\n".join(dg.serialize_value(entry) for entry in pipeline.instance.all_logs(result.run_id)),
        "webhook": json.dumps([body for _, body in hook.posts]),
        "console": console.out + console.err,
        "logs": caplog.text,
    }
    assert "status is not a number, found a text of 11 characters" in written["event log"]
    assert [place for place, text in written.items() if "MARKER" in text or "MARIA" in text] == []


def test_an_order_leaves_no_customer_data_anywhere(
    pipeline: Pipeline,
    hook: Hook,
    alerts: Alerts,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    order = marked(DOCUMENTED)
    partner = {**order["partner"], "service_partner": {"token": "MARKER"}}
    order = {**order, **UNDOCUMENTED, **EVERY_ORDER, "partner": partner}
    pages = {"data": [order], "success": True, "total_pages": 1, "total_entries": 1}
    assert json.dumps(pages).count("MARKER") > 90
    pipeline.sandbox.faults.add(Fault(faults.json_body(pages), path="shops/310001/orders", times=1))
    # The run fails at the next shop, so that there is an alert, too.
    pipeline.sandbox.faults.add(Fault(faults.http_error(502), path="shops/310002/orders", times=1))
    assert not pipeline.run(JOB, DAY, DAY).success
    pipeline.sandbox.faults.clear()
    pipeline.sandbox.faults.add(Fault(faults.json_body(pages), path="shops/310001/orders", times=1))
    result = pipeline.run(JOB, DAY, DAY)
    assert result.success
    assert alerts.tick() == "alerts delivered: 1, waiting: 0"

    [stored] = pipeline.query("SELECT data::text FROM pos_orders WHERE shop_id = '310001'")
    assert "province_id" in stored[0]
    console = capfd.readouterr()
    written = {
        "tables": json.dumps(all_rows(pipeline), default=str),
        "event log": "\n".join(
            dg.serialize_value(entry)
            for run in pipeline.instance.get_runs()
            for entry in pipeline.instance.all_logs(run.run_id)
        ),
        "webhook": json.dumps([body for _, body in hook.posts]),
        "console": console.out + console.err,
        "logs": caplog.text,
    }
    assert all(written.values())
    assert [place for place, text in written.items() if "MARKER" in text] == []


# Values that make a row, for fields which are read.
EVERY_ORDER = {
    "id": 1,
    "inserted_at": "2026-10-05T02:49:22",
    "updated_at": "2026-10-05T02:49:22",
    "status": 3,
    "order_currency": "PHP",
    "shopify_abandon_checkout_id": None,
}
PERSONAL = {path for paths in LEFT_OUT.values() for path in paths.split()}


def marked(fields: dict[str, Any], parent: str = "") -> dict[str, Any]:
    """An object with a marker in every field that is not to be stored, and harmless values in the others."""
    return {key: _marked(value, f"{parent}{key}") for key, value in fields.items()}


def _marked(value: Any, path: str) -> Any:
    if any(path == personal or path.startswith(f"{personal}.") for personal in PERSONAL):
        return f"MARKER {path}"
    if isinstance(value, dict):
        return marked(value, f"{path}.")
    if isinstance(value, list):
        return [_marked(entry, path) for entry in value]
    return {"integer": 1, "boolean": True, "date-time": "2026-10-05T02:49:22"}.get(value, "harmless")


def all_rows(pipeline: Pipeline) -> dict[str, list[tuple[object, ...]]]:
    names = sa.inspect(pipeline.engine).get_table_names()
    return {name: pipeline.query(f'SELECT * FROM "{name}"') for name in names}
