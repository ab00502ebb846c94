"""The engine: one tenant's days, oldest first, from both APIs into the warehouse. There is no Dagster in it.

For each day Meta is committed, then POS. The first error ends the iteration; what was committed before it stays.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Protocol, Self
from zoneinfo import ZoneInfo

from sync_pipeline.date_ranges import day_window
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.rows.costs import ProductCost, ProductCosts, load_product_costs
from sync_pipeline.rows.errors import RowError
from sync_pipeline.rows.meta import InsightRow, insight_row
from sync_pipeline.rows.pancake import Excluded, OrderRow, order_row
from sync_pipeline.sources.errors import BadRequestError, PermissionDeniedError, Place
from sync_pipeline.sources.meta import AdAccount, MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.schema import INSIGHTS, ORDERS
from sync_pipeline.warehouse.staging import DayCommit, DayEntry, Staging
from sync_pipeline.warehouse.tenancy import Listing, TenantWarehouse

META = "meta"
POS = "pos"
# An order placed while its day is being paged shows as a count that moved: reading again settles it, mostly.
ORDER_PASSES = 3


class SyncError(SyncPipelineError):
    """Something about one day of one source, or about a tenant's accounts and shops, that ends the sync."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} ({self.place})"

    def metadata(self) -> dict[str, str | int]:
        """The place and the message as flat values, for a failed run."""
        named = {
            "source": self.place.source,
            "date": self.place.days(),
            "account_id": self.place.account_id,
            "shop_id": self.place.shop_id,
            "error_message": self.what,
        }
        return {name: value for name, value in named.items() if value is not None}


class RowRejectedError(SyncError):
    """A row of the day cannot be understood, so the day is not stored."""

    def __init__(self, place: Place, error: RowError) -> None:
        super().__init__(place, str(error))
        self.error = error

    def __reduce__(self) -> tuple[type[Self], tuple[Place, RowError]]:
        return type(self), (self.place, self.error)


class NothingListedError(SyncError):
    """The tenant's token or key sees no account or shop, or not the one that its file names."""


@dataclass(frozen=True, slots=True)
class DayResult:
    """One day of one source, committed: what it holds and what it took. `amount` is spend or order total."""

    source: str
    day: date
    rows: int
    changed: int
    removed: int
    excluded: int
    amount: Decimal
    requests: int
    seconds: float
    complete: bool


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a source lists for a tenant now, and what of it was new or has gone since the last time."""

    listing: Listing
    requests: int


class Feed(Protocol):
    """One source of one tenant: opened for a range of days, it syncs them one by one."""

    source: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def sync_day(self, day: date) -> DayResult:
        """Fetch the day whole, then commit it."""
        ...


def sync_days(days: Sequence[date], feeds: Sequence[Feed]) -> Iterator[DayResult]:
    """Sync `days` in order, each through all `feeds` in order, and yield each (day, source) once it is committed.

    Raises what the sources raise, `RowRejectedError`, or the database's errors; nothing of the failing day of that
    source is stored.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(feed) for feed in feeds]
        for day in days:
            for feed in opened:
                yield feed.sync_day(day)


def discover_ad_accounts(tenant: Tenant, client: MetaClient, warehouse: TenantWarehouse, run_id: str) -> Discovery:
    """Store which ad accounts the tenant's token sees; accounts that its file names are used though not listed.

    Raises `NothingListedError` when there is none at all.
    """
    assert tenant.meta is not None
    before = client.requests_made
    accounts = client.ad_accounts()
    if tenant.meta.accounts != "all":
        listed = {account.account_id: account for account in accounts}
        accounts = [listed.get(named) or _unlisted_account(client, named) for named in tenant.meta.accounts]
    if not accounts:
        raise NothingListedError(
            Place(tenant.tenant_id, META), "the access token sees no ad account; grant it access to the tenant's"
        )
    saved = warehouse.save_ad_accounts([asdict(account) for account in accounts], run_id)
    return Discovery(saved, client.requests_made - before)


def _unlisted_account(client: MetaClient, account_id: str) -> AdAccount:
    try:
        return client.ad_account(account_id)
    except (PermissionDeniedError, BadRequestError):
        # Insights may be readable where the account itself is not; if they are not either, they say so best.
        return AdAccount(account_id, name=None, currency=None, timezone_name=None, account_status=None)


def discover_shops(
    tenant: Tenant, clients: Mapping[str, PancakeClient], warehouse: TenantWarehouse, run_id: str
) -> Discovery:
    """Store which shops the tenant's keys see; `clients` by the variable of their key.

    Raises `NothingListedError` when a key sees none, or not a shop that the tenant file names for it.
    """
    before = sum(client.requests_made for client in clients.values())
    shops: dict[str, dict[str, str | None]] = {}
    for key in tenant.pancake:
        variable = key.api_key.env
        listed = {shop.shop_id: shop for shop in clients[variable].shops()}
        wanted = list(listed) if key.shops == "all" else list(key.shops)
        for shop_id in wanted:
            if shop_id not in listed:
                raise NothingListedError(
                    Place(tenant.tenant_id, POS, shop_id=shop_id),
                    f"the key in {variable} does not see this shop; correct `shops` in the tenant file or the key",
                )
            shop = {"shop_id": shop_id, "name": listed[shop_id].name, "api_key_variable": variable}
            shops.setdefault(shop_id, shop)
        if not wanted:
            raise NothingListedError(Place(tenant.tenant_id, POS), f"the key in {variable} sees no shop")
    saved = warehouse.save_shops(list(shops.values()), run_id)
    return Discovery(saved, sum(client.requests_made for client in clients.values()) - before)


def store_product_costs(tenant: Tenant, warehouse: TenantWarehouse) -> tuple[ProductCost, ...]:
    """Make the warehouse's costs those of the tenant's CSV (none: no costs) and return them.

    Raises `ProductCostError` naming file and line.
    """
    costs = load_product_costs(tenant.product_costs) if tenant.product_costs else ()
    warehouse.replace_product_costs([cost._asdict() for cost in costs])
    return costs


@dataclass
class MetaFeed:
    """A tenant's ad insights, with each ad's status asked for once per run."""

    tenant: Tenant
    client: MetaClient
    warehouse: TenantWarehouse
    accounts: Collection[str]
    run_id: str
    source: str = field(default=META, init=False)
    _staging: Staging = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._staging = self.warehouse.staging(
            INSIGHTS,
            InsightRow._fields,
            lookup_key=("account_id", "ad_id"),
            lookup=("status", "effective_status"),
        )

    def __enter__(self) -> Self:
        self._staging.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._staging.__exit__(*exc)

    def sync_day(self, day: date) -> DayResult:
        """Fetch the day's insights of every account, page by page into staging, then commit the day."""
        started, before = datetime.now(UTC), self.client.requests_made
        self._staging.clear()
        for account_id in self.accounts:
            for page in self.client.insights(account_id, day, day):
                self._staging.add(self._rows(page, account_id, day))
            self._stage_statuses(account_id, day)
        entry = DayEntry(
            source=META,
            day=day,
            run_id=self.run_id,
            excluded=0,
            requests=self.client.requests_made - before,
            complete=True,
            started=started,
        )
        return _result(entry, self._staging.commit_day(entry, self.accounts))

    def _rows(self, page: Sequence[dict[str, object]], account_id: str, day: date) -> list[InsightRow]:
        assert self.tenant.meta is not None
        place = Place(self.tenant.tenant_id, META, account_id=account_id, since=day, until=day)
        types = self.tenant.meta.lead_action_types
        rows = []
        for raw in page:
            try:
                row = insight_row(raw, account_id=account_id, lead_action_types=types)
            except RowError as error:
                raise RowRejectedError(place, error) from None
            if row.date != day:
                raise SyncError(place, f"ad {row.ad_id} came with the day {row.date}, which was not asked for")
            rows.append(row)
        return rows

    def _stage_statuses(self, account_id: str, day: date) -> None:
        unknown = set(ads := self._staging.keys_without_lookup(account_id))
        for page in self.client.ad_statuses(account_id, ads, day):
            known = [status for status in page if status.ad_id in unknown]
            self._staging.add_lookup([(account_id, s.ad_id, s.status, s.effective_status) for s in known])
            unknown.difference_update(status.ad_id for status in known)
        # Ads that Meta says nothing of are noted too, so that they are not asked for again on every day.
        self._staging.add_lookup([(account_id, ad_id, None, None) for ad_id in sorted(unknown)])


@dataclass
class PosFeed:
    """A tenant's orders. `clients` are by the variable of their key, `shops` say which variable's key sees which."""

    tenant: Tenant
    clients: Mapping[str, PancakeClient]
    shops: Mapping[str, str]
    warehouse: TenantWarehouse
    costs: ProductCosts
    run_id: str
    source: str = field(default=POS, init=False)
    on_incomplete: Callable[[str], None] = field(default=lambda _: None, repr=False)
    _staging: Staging = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._staging = self.warehouse.staging(ORDERS, OrderRow._fields)
        self._timezone = ZoneInfo(self.tenant.timezone)
        self._divisors = {key.api_key.env: key.divisor_for for key in self.tenant.pancake}

    def __enter__(self) -> Self:
        self._staging.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._staging.__exit__(*exc)

    def sync_day(self, day: date) -> DayResult:
        """Fetch the day's orders of every shop, page by page into staging, then commit the day."""
        started, before = datetime.now(UTC), self._requests()
        self._staging.clear()
        excluded: set[tuple[str, str]] = set()
        complete = [shop_id for shop_id in self.shops if self._stage_shop(shop_id, day, excluded)]
        entry = DayEntry(
            source=POS,
            day=day,
            run_id=self.run_id,
            excluded=len(excluded),
            requests=self._requests() - before,
            complete=len(complete) == len(self.shops),
            started=started,
        )
        return _result(entry, self._staging.commit_day(entry, complete))

    def _requests(self) -> int:
        return sum(client.requests_made for client in self.clients.values())

    def _stage_shop(self, shop_id: str, day: date, excluded: set[tuple[str, str]]) -> bool:
        """Stage a shop's orders of the day; True when provably all of them were read."""
        start, end = day_window(day, self.tenant.timezone)
        for _ in range(ORDER_PASSES):
            listing = self.clients[self.shops[shop_id]].orders(shop_id, day, day, start, end)
            for page in listing:
                self._staging.add(self._rows(page, shop_id, day, excluded))
            if listing.complete:
                return True
        self.on_incomplete(
            f"shop {shop_id}, {day}: Pancake counts {listing.total_entries} orders but listed {listing.distinct}, "
            f"{ORDER_PASSES} times over; what it listed is stored and nothing is removed"
        )
        return False

    def _rows(
        self, page: Sequence[dict[str, object]], shop_id: str, day: date, excluded: set[tuple[str, str]]
    ) -> Iterator[OrderRow]:
        place = Place(self.tenant.tenant_id, POS, shop_id=shop_id, since=day, until=day)
        divisor = self._divisors[self.shops[shop_id]](shop_id)
        for raw in page:
            try:
                row = order_row(raw, shop_id=shop_id, timezone=self._timezone, costs=self.costs, money_divisor=divisor)
            except RowError as error:
                raise RowRejectedError(place, error) from None
            if isinstance(row, Excluded):
                excluded.add((shop_id, row.pos_order_id))
            elif row.date_local != day:
                raise SyncError(
                    place, f"order {row.pos_order_id} was inserted on {row.date_local}, which was not asked for"
                )
            else:
                yield row


def _result(entry: DayEntry, commit: DayCommit) -> DayResult:
    return DayResult(
        source=entry.source,
        day=entry.day,
        rows=commit.rows,
        changed=commit.changed,
        removed=commit.removed,
        excluded=entry.excluded,
        amount=commit.amount,
        requests=entry.requests,
        seconds=(commit.finished - entry.started).total_seconds(),
        complete=entry.complete,
    )
