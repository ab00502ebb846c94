"""A tenant's corner: discovery keeps what users set, costs are replaced whole, one writer at a time."""

import threading
import traceback
from collections.abc import Sequence
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from sync_pipeline.warehouse.errors import WarehouseFailedError
from sync_pipeline.warehouse.schema import INSIGHTS, meta_ad_accounts, sync_log
from sync_pipeline.warehouse.staging import DayEntry
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.waiting import PATIENCE_S


def account(account_id: str, name: str = "Main") -> dict[str, object]:
    return {
        "account_id": account_id,
        "name": name,
        "currency": "PHP",
        "timezone_name": "Asia/Manila",
        "account_status": 1,
    }


def test_discovery_says_what_is_new_and_what_has_gone(engine: sa.Engine) -> None:
    with Warehouse(engine).tenant("acme", name="Acme", timezone="Asia/Manila") as acme:
        first = acme.save_ad_accounts([account("1"), account("2")], "run-1")
        second = acme.save_ad_accounts([account("2", "Renamed"), account("3")], "run-2")
        assert (first.new, first.missing) == (("1", "2"), ())
        assert (second.listed, second.new, second.missing) == (2, ("3",), ("1",))
        assert acme.ad_accounts("run-2") == ["2", "3"]
        assert acme.ad_accounts("run-3") is None, "a run that has not looked yet knows of none"


def test_an_account_that_its_owner_disabled_stays_so(engine: sa.Engine) -> None:
    with Warehouse(engine).tenant("acme", name="Acme", timezone="Asia/Manila") as acme:
        acme.save_ad_accounts([account("1"), account("2")], "run-1")
        with engine.begin() as connection:
            connection.execute(
                sa.update(meta_ad_accounts).where(meta_ad_accounts.c.account_id == "1").values(enabled=False)
            )
        acme.save_ad_accounts([account("1"), account("2")], "run-2")
        assert acme.ad_accounts("run-2") == ["2"]


def test_two_runs_of_a_tenant_never_hold_it_at_once(engine: sa.Engine) -> None:
    warehouse = Warehouse(engine)
    waiting, entered = threading.Event(), threading.Event()

    def second_run() -> None:
        with warehouse.tenant("acme", name="Acme", timezone="Asia/Manila", on_wait=lambda _: waiting.set()):
            entered.set()

    with warehouse.tenant("acme", name="Acme", timezone="Asia/Manila"):
        thread = threading.Thread(target=second_run)
        thread.start()
        assert waiting.wait(PATIENCE_S)
        with warehouse.tenant("other", name="Other", timezone="Asia/Manila"):
            assert not entered.is_set()
    thread.join(PATIENCE_S)
    assert entered.is_set()


def test_product_costs_are_replaced_whole(engine: sa.Engine) -> None:
    cost = {
        "line": 2,
        "shop_id": None,
        "product_id": "P1",
        "mapping": "serum",
        "cogs": 5,
        "start_date": None,
        "end_date": None,
    }
    with Warehouse(engine).tenant("acme", name="Acme", timezone="Asia/Manila") as acme:
        assert acme.replace_product_costs([cost, {**cost, "line": 3, "product_id": "P2"}]) == 2
        assert acme.replace_product_costs([cost]) == 1
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT line, product_id FROM product_costs")).all() == [(2, "P1")]


def test_a_lost_connection_is_one_clear_error_and_the_tenant_is_free_again(engine: sa.Engine) -> None:
    warehouse = Warehouse(engine)
    with pytest.raises(WarehouseFailedError, match="Days committed before are stored"):
        with warehouse.tenant("acme", name="Acme", timezone="Asia/Manila") as acme:
            with engine.connect() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
            acme.replace_product_costs([])
    with warehouse.tenant("acme", name="Acme", timezone="Asia/Manila") as acme:
        assert acme.replace_product_costs([]) == 0


def day_entry(day: date) -> DayEntry:
    started = datetime.now(UTC)
    return DayEntry(source="meta", day=day, run_id="run", excluded=0, requests=1, complete=True, started=started)


def test_a_refused_row_is_told_without_its_values(engine: sa.Engine) -> None:
    insight = ("1", "ad", date(2026, 10, 6), "Maria's private note")
    with pytest.raises(WarehouseFailedError) as caught:
        with Warehouse(engine).tenant("acme", name="Acme", timezone="Asia/Manila") as acme:
            with acme.staging(INSIGHTS, ("account_id", "ad_id", "date", "spend")) as stage:
                stage.add([insight])
                stage.commit_day(day_entry(date(2026, 10, 6)), ["1"])
    shown = "".join(traceback.format_exception(caught.value))
    assert "invalid input syntax for type numeric" in shown
    assert "Maria" not in shown


def log_line(run_id: str, day: int, hour: int, **values: object) -> dict[str, object]:
    """A line of acme's sync log, written at this hour of 20 October."""
    started = datetime(2026, 10, 20, hour, tzinfo=UTC)
    figures = dict.fromkeys(("rows", "changed", "removed", "excluded", "amount"), 0)
    named = {"tenant_id": "acme", "source": "pos", "run_id": run_id, "day": date(2026, 10, day), "reported": {}}
    times = {"started": started, "finished": started}
    return {**named, **figures, **times, "requests": 1, "complete": True, **values}


def synced_hours(engine: sa.Engine, lines: Sequence[dict[str, object]], source: str = "pos") -> dict[int, int]:
    """Store lines of the sync log; return the hour since which each of the days 1 to 4 is synced."""
    warehouse = Warehouse(engine)
    with warehouse.tenant("acme", name="Acme", timezone="Asia/Manila"), engine.begin() as connection:
        for one in lines:
            connection.execute(sa.insert(sync_log).values(**one))
    found = warehouse.synced_since("acme", source, [date(2026, 10, day) for day in (1, 2, 3, 4)])
    return {day.day: began.astimezone(UTC).hour for day, began in found.items()}


def test_a_day_was_read_when_its_window_was_fetched_not_when_its_turn_to_be_committed_came(engine: sa.Engine) -> None:
    lines = [
        log_line("first", 1, 1, requests=4),
        log_line("first", 2, 2, requests=0),
        log_line("first", 3, 3, requests=5),
        log_line("second", 2, 4, requests=6, complete=False),
        log_line("third", 3, 5, requests=1),
    ]
    assert synced_hours(engine, lines) == {1: 1, 2: 1, 3: 5}


@pytest.mark.parametrize(("source", "hours"), [("pos", {1: 1, 2: 1}), ("meta", {1: 2, 3: 4})])
def test_a_sync_of_one_source_says_nothing_of_the_other(engine: sa.Engine, source: str, hours: dict[int, int]) -> None:
    lines = [
        log_line("run", 1, 1),
        log_line("run", 1, 2, source="meta"),
        log_line("run", 2, 3, requests=0),
        log_line("run", 3, 4, source="meta"),
    ]
    assert synced_hours(engine, lines, source) == hours
