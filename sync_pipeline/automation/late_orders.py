"""Late orders: days to sync again because orders placed on them have changed since.

Orders change for weeks after their day. Pancake is asked what was updated since the last look, and exactly the days of
those orders are requested. Dagster ends a tick after 60 s, so a tick reads for less, and goes on where the last one
stopped.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NoReturn

import dagster as dg
from pydantic import AwareDatetime

from sync_pipeline.assets.runs import TENANT_TAG
from sync_pipeline.assets.specs import AD_PERFORMANCE, POS_ORDERS, asset_key, read_once
from sync_pipeline.automation.cursors import SensorCursor
from sync_pipeline.automation.jobs import TRIGGER_TAG, range_tags
from sync_pipeline.date_ranges import DayRange, local_date, spans, today_in
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.resources import MS_PER_S, open_warehouse
from sync_pipeline.rows import values
from sync_pipeline.rows.errors import FieldError, label, part_of, require_object
from sync_pipeline.settings import Settings
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.sources.usage import ApiUsage
from sync_pipeline.sources.waits import Pacing
from sync_pipeline.sync import POS
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.counters import store_counts
from sync_pipeline.warehouse.errors import WarehouseError
from sync_pipeline.warehouse.tenancy import Warehouse

TRIGGER: Final = "late_orders"
# Updates show more than five minutes late (facts on Pancake's requests): windows overlap by this, and a sync that began
# sooner after an update may not have seen it.
OVERLAP: Final = timedelta(minutes=30)
# Nothing is begun later, and with the longest answer still to come the tick is within Dagster's 60 s.
READ_FOR_S: Final = 40.0
TIMEOUTS_S: Final = (3.0, 12.0)
LONGEST_RATE_LIMIT_S: Final = 10.0
SHORTEST_WINDOW: Final = timedelta(minutes=1)
PASSES: Final = 3
# Deleted orders are in no list that does not ask for their status (facts on Pancake's requests).
_LISTINGS: Final[Mapping[str, tuple[int, ...]]] = {"orders": (), "deleted orders": (7,)}


class TooManyChangesError(SyncPipelineError):
    """One shop's changes within the shortest window cannot be read in one tick."""

    def __init__(self, tenant: str, since: datetime, until: datetime) -> None:
        self.tenant = tenant
        self.since = since
        self.until = until
        super().__init__(
            f"tenant {tenant}: the orders changed from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC cannot be "
            f"read within {READ_FOR_S:g} s; sync their days by a workflow, shorten pos_delay_ms, or reset the sensor's "
            "cursor"
        )


class Cursor(SensorCursor):
    """How far a tenant's changes are known.

    Everything updated before `until` is. A window that one tick could not finish goes on to `window_end`; of it the
    listings in `read` are done. No window is longer than `span_s`, in seconds.
    """

    until: AwareDatetime
    window_end: AwareDatetime | None = None
    read: tuple[str, ...] = ()
    span_s: float | None = None

    def as_of(self, now: datetime) -> "Cursor":
        """The cursor to go on from at `now`: one of the future was set by a clock that has been moved back since."""
        return self if self.until <= now else Cursor(until=now)

    def next_window(self, now: datetime) -> datetime:
        """The end of the window to read now."""
        if self.window_end:
            return self.window_end
        return now if self.span_s is None else min(now, self.until + timedelta(seconds=self.span_s))


@dataclass(frozen=True, slots=True)
class Request:
    """Consecutive days to sync again. The same days with nothing new to them have the same `key`."""

    days: DayRange
    key: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at Pancake brought: the cursor to go on from, the days to sync, and both in one sentence."""

    cursor: Cursor
    requests: tuple[Request, ...]
    sentence: str


def late_orders_sensor(tenant: Tenant) -> dg.SensorDefinition:
    """The sensor `<tenant>__late_orders`; it starts switched on unless the tenant's file says otherwise."""
    assets = [asset_key(tenant, POS_ORDERS), asset_key(tenant, AD_PERFORMANCE)]

    @dg.sensor(
        name=f"{tenant.tenant_id}__{TRIGGER}",
        description="Asks Pancake which orders have changed, and requests exactly the days they were placed on.",
        asset_selection=assets,
        minimum_interval_seconds=60 * tenant.late_orders.every_minutes,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if tenant.late_orders.enabled else dg.DefaultSensorStatus.STOPPED
        ),
    )
    @read_once
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = datetime.now(UTC).replace(microsecond=0)
        cursor = Cursor.parse(context.cursor)
        if cursor is None:
            start = Cursor(until=now)
            return dg.SensorResult(
                skip_reason="orders that change from now on are looked for", cursor=start.model_dump_json()
            )
        api_url = Settings.from_environment().pancake_api_url
        with open_warehouse() as warehouse:
            look = look_for_changes(tenant, warehouse, api_url, cursor, now, warn=context.log.warning)
        context.log.info(look.sentence)
        requests = [
            dg.RunRequest(
                run_key=request.key,
                asset_selection=assets,
                tags={TENANT_TAG: tenant.tenant_id, TRIGGER_TAG: TRIGGER, **range_tags(request.days)},
            )
            for request in look.requests
        ]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else look.sentence,
            cursor=look.cursor.model_dump_json(),
        )

    return sensor


def look_for_changes(
    tenant: Tenant,
    warehouse: Warehouse,
    api_url: str,
    cursor: Cursor,
    now: datetime,
    *,
    warn: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Look:
    """Read the orders updated since `cursor` as far as time allows, and say which of their days are to be synced.

    `now` is aware and in whole seconds. The cursor moves on only over what was read whole, and back to `now` where the
    clock was moved back. Raises `SourceError`, `MissingSecretError`, `WarehouseError`, and `TooManyChangesError`.
    """
    cursor = cursor.as_of(now)
    keys = {key.api_key.source: key for key in tenant.pancake}
    shops = {
        shop_id: source
        for shop_id, source in warehouse.enabled_shops(tenant.tenant_id).items()
        # The file may have been edited since the shops were listed.
        if source in keys and (keys[source].shops == "all" or shop_id in keys[source].shops)
    }
    if not shops:
        return Look(cursor, (), f"no shop of {tenant.tenant_id} is known yet; a run of any workflow lists them")
    reading = _Reading(tenant, api_url, cursor.until - OVERLAP, cursor.next_window(now), warn, clock)
    try:
        finished = reading.read(shops, cursor.read)
    finally:
        reading.store_usage(warehouse)
    requests = _requests(tenant, warehouse, reading.newest_by_day, now)
    days = sum(len(request.days) for request in requests)
    found = f"{reading.orders} orders changed since {reading.start:%Y-%m-%d %H:%M} UTC, {days} days to sync"
    moved = _moved(tenant, cursor, reading, now, finished=finished)
    return Look(moved, requests, found if finished else f"{found}; to be continued")


def _moved(tenant: Tenant, cursor: Cursor, reading: "_Reading", now: datetime, *, finished: bool) -> Cursor:
    if finished:
        caught_up = reading.end >= now or cursor.span_s is None
        return Cursor(until=reading.end, span_s=None if caught_up or cursor.span_s is None else 2 * cursor.span_s)
    window_end, span_s = reading.end, cursor.span_s
    if reading.out_of_time and len(reading.done) == len(cursor.read):
        half = (window_end - cursor.until) / 2
        if half < SHORTEST_WINDOW:
            raise TooManyChangesError(tenant.tenant_id, reading.start, reading.end)
        span_s = float(int(half.total_seconds()))
        window_end = cursor.until + timedelta(seconds=span_s)
    # What was read of the longer window holds for the shorter one, too.
    return Cursor(until=cursor.until, window_end=window_end, read=tuple(reading.done), span_s=span_s)


def _requests(
    tenant: Tenant, warehouse: Warehouse, newest_by_day: Mapping[date, datetime], now: datetime
) -> tuple[Request, ...]:
    """The days that were not synced since their orders changed, consecutive ones together."""
    today = today_in(tenant.timezone, now)
    possible = [day for day in newest_by_day if tenant.start_date <= day <= today]
    synced = warehouse.synced_since(tenant.tenant_id, POS, possible) if possible else {}
    wanted = [day for day in possible if day not in synced or synced[day] <= newest_by_day[day] + OVERLAP]
    requests = []
    for span in spans(wanted):
        newest = max(newest_by_day[day] for day in span)
        last = max((synced[day] for day in span if day in synced), default=None)
        # A tick that is repeated asks for the same; a sync that came too soon after the update is no reason not to.
        key = f"{span.since}/{span.until} changed {newest.isoformat()}, synced {last.isoformat() if last else 'never'}"
        requests.append(Request(span, key))
    return tuple(requests)


class _OutOfTimeError(Exception):
    """The tick has no time left for another request."""


@dataclass
class _Reading:
    """One tick's reading of a window: what was found, and which listings are done."""

    tenant: Tenant
    api_url: str
    start: datetime
    end: datetime
    warn: Callable[[str], None]
    clock: Callable[[], float]
    newest_by_day: dict[date, datetime] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    usages: list[ApiUsage] = field(default_factory=list)
    orders: int = 0
    out_of_time: bool = False

    def __post_init__(self) -> None:
        self._deadline = self.clock() + READ_FOR_S

    def read(self, shops: Mapping[str, str], done: tuple[str, ...]) -> bool:
        """Read the listings of all shops that are not `done`; whether all of them are then."""
        self.done = list(done)
        clients: dict[str, PancakeClient] = {}
        settled = True
        try:
            for shop_id, source in shops.items():
                if source not in clients:
                    clients[source] = self._client(source)
                for what, statuses in _LISTINGS.items():
                    name = f"{shop_id}: {what}"
                    if name in done:
                        continue
                    if self._read_listing(clients[source], shop_id, statuses):
                        self.done.append(name)
                    else:
                        settled = False
                        self.warn(f"shop {shop_id}: the count of changed {what} moved while reading; read again later")
        except _OutOfTimeError:
            self.out_of_time = True
            return False
        return settled

    def store_usage(self, warehouse: Warehouse) -> None:
        """Add the requests to the totals that metrics are read from."""
        for usage in self.usages:
            try:
                store_counts(warehouse.engine, self.tenant.tenant_id, POS, usage.take())
            except WarehouseError as error:
                self.warn(f"the requests of this scan are missing in sync_counters: {error}")

    def _read_listing(self, client: PancakeClient, shop_id: str, statuses: tuple[int, ...]) -> bool:
        listing = client.updated_orders(shop_id, self.start, self.end, statuses=statuses)
        for _ in range(PASSES):
            self._check_time()
            for page in listing:
                for raw in page:
                    self._take_in(raw, shop_id)
                if listing.total_entries is None or listing.distinct < listing.total_entries:
                    self._check_time()
            # Without a count, reading on until nothing came is all that can be done.
            if listing.complete or listing.total_entries is None:
                self.orders += listing.distinct
                return True
        return False

    def _take_in(self, raw: Any, shop_id: str) -> None:
        try:
            require_object(raw)
            day = local_date(values.instant(raw, "inserted_at"), self.tenant.timezone)
        except FieldError as error:
            # Its day is not known; the sync of the day that Pancake lists it in rejects it.
            named = label(part_of(raw, "id"))
            self.warn(f"shop {shop_id}: order {named} is left out of the scan: {error.field} {error.why}")
            return
        try:
            updated = values.optional_instant(raw, "updated_at") or self.end
        except FieldError:
            updated = self.end
        self.newest_by_day[day] = max(updated, self.newest_by_day.get(day, updated))

    def _client(self, source: str) -> PancakeClient:
        key = next(key for key in self.tenant.pancake if key.api_key.source == source)
        limit = self.tenant.rate_limit_for(None)
        client = PancakeClient(
            tenant=self.tenant.tenant_id,
            api_url=self.api_url,
            api_key=key.api_key.resolve(os.environ).reveal(),
            key_source=key.api_key.source,
            pacing=Pacing(
                delay_s=limit.pos_delay_ms / MS_PER_S, max_wait_s=min(limit.max_wait_s, LONGEST_RATE_LIMIT_S)
            ),
            sleep=self._sleep,
            clock=self.clock,
            timeouts_s=TIMEOUTS_S,
        )
        self.usages.append(client.usage)
        return client

    def _sleep(self, seconds: float) -> None:
        if self.clock() + seconds > self._deadline:
            self._stop()
        time.sleep(seconds)

    def _check_time(self) -> None:
        if self.clock() > self._deadline:
            self._stop()

    def _stop(self) -> NoReturn:
        raise _OutOfTimeError
