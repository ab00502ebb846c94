"""Orders that change after their day was synced bring exactly that day back, and nothing twice."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.sensor_definition import SensorExecutionData

from sync_pipeline.automation.late_orders import (
    LONGEST_RATE_LIMIT_S,
    OVERLAP,
    READ_FOR_S,
    Cursor,
    Look,
    TooManyChangesError,
    look_for_changes,
)
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources.errors import RateLimitedError, TransientError
from sync_pipeline.sync import POS
from sync_pipeline.tenants import SecretRef
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import Pipeline
from sync_pipeline_tests.sync.bench import Bench, days_from, demo_tenant

SENSOR = "lumina__late_orders"
NOW = datetime(2026, 10, 20, 7, 0, tzinfo=UTC)  # the sandbox's afternoon in Manila
HOUR = timedelta(hours=1)
TODAY = date(2026, 10, 20)
FIRST, SECOND, THIRD, FIFTH = (date(2026, 10, day) for day in (5, 6, 7, 9))


def wire(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass
class Shops:
    """Lumina's shops, as its sensor looks at them; a request takes `seconds_per_request` on its clock."""

    bench: Bench
    cursor: Cursor = field(default_factory=lambda: Cursor(until=NOW - HOUR))
    warnings: list[str] = field(default_factory=list)

    def look(self, now: datetime = NOW, seconds_per_request: float = 0) -> Look:
        def clock() -> float:
            return self.bench.sandbox.requests.count("orders") * seconds_per_request

        self.bench.sandbox.requests.clear()
        api_url = self.bench.sandbox.environment["PANCAKE_API_URL"]
        warehouse = Warehouse(self.bench.engine)
        tenant = self.bench.tenant
        look = look_for_changes(tenant, warehouse, api_url, self.cursor, now, warn=self.warnings.append, clock=clock)
        self.cursor = look.cursor
        return look

    def asked(self) -> set[str]:
        """The shops that were asked for orders."""
        return {request.path.split("/shops/")[1].split("/")[0] for request in self.bench.sandbox.requests.all("orders")}

    def has_more_pages(self) -> None:
        """From now on the first shop counts more orders than fit on the page it answers with."""
        order = {"id": 1, "inserted_at": "2026-10-05T03:00:00", "updated_at": wire(NOW - timedelta(minutes=10))}
        body = {
            "success": True,
            "data": [order],
            "page_number": 1,
            "page_size": 1,
            "total_entries": 2,
            "total_pages": 2,
        }
        self.bench.sandbox.faults.add(Fault(faults.json_body(body), path="shops/310001/orders", times=None))

    def orders_of(self, day: date) -> list[tuple[int, int]]:
        return [
            (int(shop), int(order))
            for shop, order in self.bench.query(
                f"SELECT shop_id, pos_order_id FROM pos_orders WHERE tenant_id = 'lumina' AND date_local = '{day}' "
                "ORDER BY 1, 2"
            )
        ]

    def change(self, day: date, at: datetime, *, status: int = 6, which: int = 0) -> tuple[int, int]:
        shop, order = self.orders_of(day)[which]
        self.bench.sandbox.world.change_order(shop, order, status=status, updated_at=wire(at))
        return shop, order

    def synced_at(self, moment: datetime) -> None:
        """Date everything in the sync log back: the sandbox's clock is not this machine's."""
        self.bench.execute(f"UPDATE sync_log SET started = '{moment}', fetched_at = '{moment}', finished = '{moment}'")


@pytest.fixture
def shops(sandbox: SandboxServer, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shops:
    """Five days of lumina's orders, all synced a day ago; nothing has changed since."""
    monkeypatch.setenv("LUMINA_PANCAKE_KEY", sandbox.environment["LUMINA_PANCAKE_KEY"])
    shops = Shops(Bench(sandbox, engine, demo_tenant(tmp_path / "bench")))
    shops.bench.sync(days_from(FIRST, 5), [POS])
    shops.synced_at(NOW - timedelta(days=1))
    return shops


def days_of(look: Look) -> list[tuple[date, date]]:
    """The spans of days requested; today, whose orders come in all the time, left out."""
    return [(request.days.since, request.days.until) for request in look.requests if request.days.since != TODAY]


def test_exactly_the_days_of_changed_orders_are_requested_consecutive_ones_together(shops: Shops) -> None:
    for day in (FIRST, THIRD, SECOND, FIFTH):
        shops.change(day, NOW - timedelta(minutes=10))
    look = shops.look()
    assert days_of(look) == [(FIRST, THIRD), (FIFTH, FIFTH)]
    assert look.cursor == Cursor(until=NOW)
    assert re.fullmatch(r"\d+ orders changed since 2026-10-20 05:30 UTC, 5 days to sync", look.sentence)
    assert look.requests[-1].days == DayRange(TODAY, TODAY), "orders that came in are changes, too"


def test_a_day_is_the_tenants_and_not_utcs(shops: Shops) -> None:
    shop_id = shops.bench.sandbox.world.tenants["lumina"].shops[0].shop_id
    early = datetime(2026, 10, 5, 23, 30, tzinfo=UTC)  # 07:30 on the 6th in Manila
    order = shops.bench.sandbox.world.add_order(shop_id, SECOND, at=(early + timedelta(hours=8)).time())
    shops.bench.sandbox.world.change_order(shop_id, order, updated_at=wire(NOW - timedelta(minutes=5)))
    assert days_of(shops.look()) == [(SECOND, SECOND)]


def test_a_deleted_order_brings_its_day_though_no_list_of_orders_has_it(shops: Shops) -> None:
    shops.change(THIRD, NOW - timedelta(minutes=10), status=7)
    assert days_of(shops.look()) == [(THIRD, THIRD)]


def test_an_update_that_shows_late_is_found_by_the_overlap_and_an_older_one_is_not_looked_for(shops: Shops) -> None:
    shops.change(FIRST, NOW - HOUR - OVERLAP + timedelta(minutes=1))
    shops.change(FIFTH, NOW - HOUR - OVERLAP - timedelta(minutes=1))
    assert days_of(shops.look()) == [(FIRST, FIRST)]


def test_a_day_synced_after_the_update_had_time_to_show_is_not_requested_again(shops: Shops) -> None:
    updated = NOW - timedelta(minutes=50)
    shops.change(FIRST, updated)
    shops.synced_at(updated + OVERLAP)
    assert days_of(shops.look()) == [(FIRST, FIRST)], "the update may not have shown yet"
    shops.cursor = Cursor(until=NOW - HOUR)
    shops.synced_at(updated + OVERLAP + timedelta(seconds=1))
    assert days_of(shops.look()) == []
    shops.cursor = Cursor(until=NOW - HOUR)
    shops.bench.execute("UPDATE sync_log SET complete = false")
    assert days_of(shops.look()) == [(FIRST, FIRST)], "an incomplete sync proves nothing"


def test_the_same_change_has_the_same_key_until_its_day_was_synced_or_changed_again(shops: Shops) -> None:
    def key() -> str:
        shops.cursor = Cursor(until=NOW - HOUR)
        request, _today = shops.look().requests
        return request.key

    shops.change(FIRST, NOW - timedelta(minutes=20))
    first = key()
    assert key() == first
    shops.change(FIRST, NOW - timedelta(minutes=15), status=3)
    changed = key()
    assert changed != first
    shops.synced_at(NOW - timedelta(minutes=10))
    assert key() != changed


def test_days_before_the_tenants_first_are_left_out(shops: Shops) -> None:
    for day in (FIRST, SECOND):
        shops.change(day, NOW - timedelta(minutes=10))
    shops.bench.tenant = shops.bench.tenant.model_copy(update={"start_date": SECOND})
    assert days_of(shops.look()) == [(SECOND, SECOND)]


def test_a_disabled_shop_is_not_asked(shops: Shops) -> None:
    shop_id, _ = shops.change(FIRST, NOW - timedelta(minutes=10))
    shops.bench.execute(f"UPDATE pos_shops SET enabled = false WHERE shop_id = '{shop_id}'")
    assert days_of(shops.look()) == []
    assert shops.asked() == {"310001", "310002"} - {str(shop_id)}


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"shops": ("310002",)}, {"310002"}),
        ({"shops": ("999",)}, set()),
        ({"api_key": SecretRef(env="ANOTHER_KEY")}, set()),
    ],
    ids=["a shop left the list", "all shops left the list", "the key left the file"],
)
def test_a_stored_shop_that_left_the_file_is_not_asked(
    shops: Shops, change: dict[str, object], asked: set[str]
) -> None:
    for which in (0, -1):
        shops.change(FIRST, NOW - timedelta(minutes=10), which=which)
    [key] = shops.bench.tenant.pancake
    shops.bench.tenant = shops.bench.tenant.model_copy(update={"pancake": (key.model_copy(update=change),)})
    look = shops.look()
    assert shops.asked() == asked
    assert days_of(look) == ([(FIRST, FIRST)] if asked else [])


def test_without_a_known_shop_nothing_is_asked_and_the_cursor_stays(shops: Shops) -> None:
    shops.bench.execute("DELETE FROM pos_shops")
    look = shops.look()
    assert (look.cursor, look.requests) == (Cursor(until=NOW - HOUR), ())
    assert look.sentence == "no shop of lumina is known yet; a run of any workflow lists them"
    assert shops.bench.sandbox.requests.all() == []


def test_an_api_error_leaves_the_cursor_and_says_where(shops: Shops) -> None:
    shops.bench.sandbox.faults.add(Fault(faults.http_error(500, "boom"), path="shops/310002/orders", times=None))
    with pytest.raises(TransientError, match=r"shop 310002, .*HTTP 500"):
        shops.look()
    assert shops.cursor == Cursor(until=NOW - HOUR)


def test_a_rate_limit_longer_than_a_tick_is_not_waited_for(shops: Shops) -> None:
    seconds = str(int(LONGEST_RATE_LIMIT_S) + 1)
    shops.bench.sandbox.faults.add(Fault(faults.rate_limited(seconds), path="orders", times=None))
    with pytest.raises(RateLimitedError, match="max_wait_s"):
        shops.look()


def test_what_one_tick_cannot_read_the_next_goes_on_with(shops: Shops) -> None:
    for which, day in ((0, FIRST), (-1, FIFTH)):  # the first and the last shop
        shops.change(day, NOW - timedelta(minutes=10), which=which)
    slow = READ_FOR_S / 1.5  # two requests are begun in time
    first = shops.look(seconds_per_request=slow)
    assert first.cursor.until == NOW - HOUR
    assert first.cursor.window_end == NOW
    assert first.cursor.read == ("310001: orders", "310001: deleted orders")
    assert days_of(first) == [(FIRST, FIRST)]
    assert first.sentence.endswith("to be continued")
    second = shops.look(now=NOW + HOUR, seconds_per_request=slow)
    assert second.cursor.until == NOW
    assert days_of(second) == [(FIFTH, FIFTH)]
    assert shops.asked() == {"310002"}


def test_a_listing_too_long_for_a_tick_is_cut_in_half_until_it_fits_and_then_grows_again(shops: Shops) -> None:
    shops.cursor = Cursor(until=NOW - 8 * HOUR)
    shops.has_more_pages()
    spans = []
    for _ in range(2):
        look = shops.look(seconds_per_request=READ_FOR_S + 1)
        assert look.cursor.until == NOW - 8 * HOUR
        spans.append(look.cursor.span_s)
    assert spans == [4 * 3600, 2 * 3600]
    shops.bench.sandbox.faults.clear()
    ends = []
    while (until := shops.look().cursor.until) < NOW:
        ends.append(until)
    assert ends == [NOW - 6 * HOUR, NOW - 2 * HOUR]
    assert shops.cursor == Cursor(until=NOW), "caught up, windows are unbounded again"


def test_no_page_is_requested_after_the_time_is_up(shops: Shops) -> None:
    shops.has_more_pages()
    look = shops.look(seconds_per_request=READ_FOR_S + 1)
    assert shops.bench.sandbox.requests.count("orders") == 1
    assert look.sentence.endswith("to be continued")


def test_the_last_page_counts_though_the_time_is_up(shops: Shops) -> None:
    shops.change(FIRST, NOW - timedelta(minutes=10))
    look = shops.look(seconds_per_request=READ_FOR_S + 1)
    assert look.cursor.read == ("310001: orders",)
    assert days_of(look) == [(FIRST, FIRST)]


def test_changes_that_no_window_makes_few_enough_are_an_error_that_says_what_to_do(shops: Shops) -> None:
    shops.cursor = Cursor(until=NOW - timedelta(seconds=90))
    shops.has_more_pages()
    with pytest.raises(TooManyChangesError, match=r"tenant lumina: the orders changed from .* UTC cannot be read"):
        shops.look(seconds_per_request=READ_FOR_S + 1)


def test_a_count_that_does_not_come_out_leaves_the_window_open(shops: Shops) -> None:
    shops.has_more_pages()
    look = shops.look()
    assert days_of(look) == [(FIRST, FIRST)], "what was seen is known to have changed"
    assert look.cursor.until == NOW - HOUR
    assert "310001" in shops.warnings[0]
    shops.bench.sandbox.faults.clear()
    assert shops.look().cursor == Cursor(until=NOW)


def test_an_order_without_a_readable_day_is_left_out_with_a_warning(shops: Shops) -> None:
    shop_id, order = shops.change(FIRST, NOW - timedelta(minutes=10))
    shops.change(FIFTH, NOW - timedelta(minutes=10))
    shops.bench.sandbox.world.change_order(
        shop_id, order, inserted_at="yesterday", updated_at=wire(NOW - timedelta(minutes=10))
    )
    assert days_of(shops.look()) == [(FIFTH, FIFTH)]
    [warning] = shops.warnings
    assert warning == f"shop {shop_id}: order {order} is left out of the scan: inserted_at is not a timestamp"


def test_an_unreadable_order_is_no_reason_not_to_move_on(shops: Shops) -> None:
    shops.change(FIRST, NOW - timedelta(minutes=10))
    shops.change(THIRD, NOW - timedelta(minutes=10), which=-1)
    shops.bench.sandbox.faults.add(Fault(faults.bad_rows(no_object=True, most=1), path="shops/310001/orders"))
    look = shops.look()
    assert look.cursor == Cursor(until=NOW)
    assert (THIRD, THIRD) in days_of(look)
    assert shops.warnings == ["shop 310001: order ? is left out of the scan: entry is not an object"]


def test_a_day_with_a_rejected_order_is_not_requested_twice(shops: Shops) -> None:
    shop_id, order = shops.change(FIRST, NOW - timedelta(minutes=50))
    fault = Fault(faults.bad_rows({"status": "Confirmed"}, ids=[order]), path=f"shops/{shop_id}/orders", times=None)
    shops.bench.sandbox.faults.add(fault)
    assert days_of(shops.look()) == [(FIRST, FIRST)]
    before = shops.bench.query("SELECT * FROM pos_orders ORDER BY shop_id, pos_order_id")
    [result] = shops.bench.sync([FIRST], [POS])
    assert (result.rejected, result.complete) == (1, True)
    assert shops.bench.query("SELECT * FROM pos_orders ORDER BY shop_id, pos_order_id") == before
    shops.cursor = Cursor(until=NOW - HOUR)
    assert days_of(shops.look()) == []


def tick(pipeline: Pipeline, cursor: str | None) -> SensorExecutionData:
    sensor = pipeline.definitions.get_repository_def().get_sensor_def(SENSOR)
    context = dg.build_sensor_context(instance=pipeline.instance, cursor=cursor, definitions=pipeline.definitions)
    return sensor.evaluate_tick(context)


def test_the_first_tick_only_notes_the_time(pipeline: Pipeline) -> None:
    data = tick(pipeline, None)
    assert not data.run_requests
    assert data.skip_message == "orders that change from now on are looked for"
    assert Cursor.parse(data.cursor) is not None
    assert pipeline.sandbox.requests.all() == []


def test_a_tick_requests_runs_of_the_orders_and_the_performance_that_bring_the_change(
    pipeline: Pipeline, shops: Shops
) -> None:
    shop_id, order = shops.change(SECOND, NOW - timedelta(minutes=10))
    data = tick(pipeline, Cursor(until=NOW - HOUR).model_dump_json())
    assert data.run_requests is not None
    request, _today = data.run_requests
    assert request.run_key
    assert [key.to_user_string() for key in request.asset_selection or ()] == [
        "lumina/pos_orders",
        "lumina/ad_performance",
    ]
    assert wanted_tags(request.tags) == {
        "tenant": "lumina",
        "trigger": "late_orders",
        "dagster/asset_partition_range_start": "2026-10-06",
        "dagster/asset_partition_range_end": "2026-10-06",
    }
    result = pipeline.definitions.resolve_job_def("__ASSET_JOB").execute_in_process(
        instance=pipeline.instance, tags=request.tags, asset_selection=request.asset_selection
    )
    assert result.success
    status = f"SELECT status FROM pos_orders WHERE shop_id = '{shop_id}' AND pos_order_id = '{order}'"
    assert shops.bench.query(status) == [(6,)]
    assert list(pipeline.materialized("lumina/ad_performance", result.run_id)) == ["2026-10-06"]


def wanted_tags(tags: Mapping[str, str]) -> dict[str, str]:
    names = ("tenant", "trigger", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return {name: tags[name] for name in names}


def test_a_tick_that_is_repeated_requests_the_same_run(pipeline: Pipeline, shops: Shops) -> None:
    shops.change(SECOND, NOW - timedelta(minutes=10))
    cursor = Cursor(until=NOW - HOUR).model_dump_json()
    first, second = tick(pipeline, cursor), tick(pipeline, cursor)
    assert first.run_requests is not None
    assert second.run_requests is not None
    assert [request.run_key for request in first.run_requests] == [request.run_key for request in second.run_requests]


def test_the_sensor_is_on_unless_the_tenants_file_says_otherwise(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(f"{file.read_text()}\nlate_orders: {{enabled: false, every_minutes: 5}}\n")
    pipeline.reload()
    sensors = {sensor.name: sensor for sensor in pipeline.definitions.get_repository_def().sensor_defs}
    assert sensors[SENSOR].default_status == dg.DefaultSensorStatus.STOPPED
    assert sensors[SENSOR].minimum_interval_seconds == 300
    assert sensors["mekong__late_orders"].default_status == dg.DefaultSensorStatus.RUNNING
    assert sensors["mekong__late_orders"].minimum_interval_seconds == 3600
