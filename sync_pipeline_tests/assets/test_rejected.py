"""Unreadable rows through Dagster: a run that succeeds with a warning, figures, and a check that fails."""

from datetime import date

import dagster as dg

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.assets.conftest import DAYS, SYNC_JOB, Synced
from sync_pipeline_tests.assets.test_days import failure_of

SECOND = date(2026, 10, 6)
ORDERS = "/shops/310002/orders$"


def warnings_of(synced: Synced, run: dg.ExecuteInProcessResult) -> list[str]:
    logged = synced.instance.all_logs(run.run_id)
    return [entry.user_message for entry in logged if entry.dagster_event is None and entry.level == 30]


def spoil(synced: Synced, **more: object) -> str:
    """Let one order of the second day be unreadable; return its id."""
    [(order_id,)] = synced.query(
        f"SELECT min(pos_order_id) FROM pos_orders WHERE date_local = '{SECOND}' AND shop_id = '310002'"
    )
    effect = faults.bad_rows({"status": "MARIA-MARKER", "bill_full_name": "MARIA-MARKER"}, ids=[order_id])
    synced.sandbox.faults.add(Fault(effect, path=ORDERS, times=None))
    return str(order_id)


def test_a_run_with_an_unreadable_order_succeeds_with_a_warning(synced: Synced) -> None:
    before = synced.tables()
    order_id = spoil(synced)
    try:
        run = synced.run(SYNC_JOB, DAYS.since, DAYS.until)
    finally:
        synced.sandbox.faults.clear()
    assert run.success
    assert synced.tables() == before
    expected = f"order {order_id} of shop 310002: status is not a number, found a text of 12 characters"
    [warning] = [text for text in warnings_of(synced, run) if "rejected_rows" in text]
    assert warning == f"{SECOND} pos: 1 row cannot be read and is left out: {expected}; see the table rejected_rows"
    figures = synced.materialized("lumina/pos_orders", run.run_id)
    assert [figures[day.isoformat()]["rejected"] for day in DAYS] == [0, 1, 0]
    assert all(figures[day.isoformat()]["complete"] for day in DAYS)

    failed = {key: found for key, found in synced.evaluations(run).items() if not found.passed}
    assert failed.keys() == {("orders_readable", SECOND.isoformat())}
    [found] = failed.values()
    assert not found.warns_only
    assert found.sentence == f"1 row cannot be read and is left out: {expected}"
    assert found.figures["rejected"] == 1
    events = "".join(dg.serialize_value(entry) for entry in synced.instance.all_logs(run.run_id))
    assert "MARIA" not in events

    assert synced.run(SYNC_JOB, DAYS.since, DAYS.until).success
    assert synced.failed() == {}


def test_in_strict_mode_the_run_fails_and_names_the_row(synced: Synced) -> None:
    synced.edit_tenant("on_bad_row: fail")
    before = synced.tables()
    order_id = spoil(synced)
    try:
        run = synced.run(SYNC_JOB, DAYS.since, DAYS.until)
    finally:
        synced.sandbox.faults.clear()
    assert not run.success
    sentence, metadata = failure_of(run)
    assert f"order {order_id} of shop 310002: status is not a number" in sentence
    assert (metadata["date"], metadata["source"], metadata["shop_id"]) == (SECOND.isoformat(), "pos", "310002")
    assert synced.tables() == before
    assert synced.query("SELECT * FROM rejected_rows") == []


def test_an_unreadable_product_fails_its_check(synced: Synced) -> None:
    effect = faults.bad_rows({"variations": "MARIA-MARKER"}, most=1)
    synced.sandbox.faults.add(Fault(effect, path="/shops/310002/products$", times=None))
    try:
        run = synced.run(SYNC_JOB, DAYS.since, DAYS.since)
    finally:
        synced.sandbox.faults.clear()
    assert run.success
    [figures] = [
        event.step_materialization_data.materialization.metadata
        for event in run.get_asset_materialization_events()
        if event.asset_key and event.asset_key.path[-1] == "pos_products"
    ]
    assert figures["rejected"].value == 1
    assert any("1 product cannot be read and is left out" in text for text in warnings_of(synced, run))
    failed = synced.failed()
    assert failed.keys() == {("products_readable", None)}
    assert "variations is not a list" in failed["products_readable", None].sentence
