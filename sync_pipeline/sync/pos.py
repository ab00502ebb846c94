"""Pancake's shops, products and orders of one tenant."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from sync_pipeline.date_ranges import DayRange, day_window, today_in
from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.rows.errors import RowError, label
from sync_pipeline.rows.pancake import Excluded, OrderRow, order_row
from sync_pipeline.rows.products import ProductRow, product_rows
from sync_pipeline.sources.errors import LimitExceededError, Place
from sync_pipeline.sources.limits import MAX_CATALOGUE_CHARACTERS, MAX_CATALOGUE_ROWS
from sync_pipeline.sources.pancake import OrderListing, PancakeClient, Shop
from sync_pipeline.sync import POS
from sync_pipeline.sync.engine import Feed
from sync_pipeline.sync.errors import NothingListedError, RowRejectedError, SyncError, TooManyRejectedError
from sync_pipeline.sync.recompute import OrderSettings, order_settings
from sync_pipeline.sync.rejections import rejected_row, too_many
from sync_pipeline.tenants import PancakeKey, Tenant
from sync_pipeline.warehouse.rejected import RejectedRow
from sync_pipeline.warehouse.schema import ORDERS
from sync_pipeline.warehouse.tenancy import Listing, TenantWarehouse

# An order placed while its day is being paged shows as a count that moved: reading again settles it, mostly.
ORDER_PASSES = 3


def discover_shops(
    tenant: Tenant, clients: Mapping[str, PancakeClient], warehouse: TenantWarehouse, run_id: str
) -> Listing:
    """Store which shops the tenant's keys see; `clients` by the source of their key.

    Raises `NothingListedError` when a key sees none, or not a shop that the tenant file names for it.
    """
    shops: dict[str, dict[str, str | None]] = {}
    for key in tenant.pancake:
        for shop in visible_shops(tenant, key, clients[key.api_key.source]):
            shops.setdefault(
                shop.shop_id, {"shop_id": shop.shop_id, "name": shop.name, "api_key_variable": key.api_key.source}
            )
    return warehouse.save_shops(list(shops.values()), run_id)


def visible_shops(tenant: Tenant, key: PancakeKey, client: PancakeClient) -> list[Shop]:
    """The shops of one key that the tenant is synced with. Raises `NothingListedError`."""
    source = key.api_key.source
    listed = {shop.shop_id: shop for shop in client.shops()}
    if not listed:
        raise NothingListedError(Place(tenant.tenant_id, POS), f"the key in {source} sees no shop")
    if key.shops == "all":
        return list(listed.values())
    for shop_id in key.shops:
        if shop_id not in listed:
            raise NothingListedError(
                Place(tenant.tenant_id, POS, shop_id=shop_id),
                f"the key in {source} does not see this shop; correct `shops` in the tenant file or the key",
            )
    return [listed[shop_id] for shop_id in key.shops]


def shops_of_run(
    tenant: Tenant, clients: Mapping[str, PancakeClient], warehouse: TenantWarehouse, run_id: str
) -> dict[str, str]:
    """The enabled shops, each with the source of its key, as this run's discovery lists them, which is made up for.

    Raises `NothingListedError`.
    """
    if warehouse.shops(run_id) is None:
        discover_shops(tenant, clients, warehouse, run_id)
    return warehouse.shops(run_id) or {}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The products that shops list, and those that could not be read."""

    rows: Sequence[ProductRow]
    rejected: Sequence[RejectedRow]


def refresh_products(
    tenant: Tenant,
    clients: Mapping[str, PancakeClient],
    warehouse: TenantWarehouse,
    shops: Mapping[str, str],
    run_id: str,
) -> Catalogue:
    """Store the shops' catalogues as Pancake lists them now, and return what it listed.

    A product that cannot be read is left out and stored as rejected. Raises `RowRejectedError` for one where the tenant
    file says `on_bad_row: fail`, `TooManyRejectedError` where the format must have changed, and `LimitExceededError`
    for a catalogue that memory must not hold.
    """
    divisors = {key.api_key.source: key.divisor_for for key in tenant.pancake}
    found: list[ProductRow] = []
    rejected: list[RejectedRow] = []
    counted = characters = 0
    for shop_id, source in shops.items():
        place = Place(tenant.tenant_id, POS, shop_id=shop_id)
        for page in clients[source].products(shop_id):
            for raw in page:
                try:
                    found += product_rows(raw, shop_id=shop_id, money_divisor=divisors[source](shop_id))
                except RowError as error:
                    if tenant.on_bad_row == "fail":
                        raise RowRejectedError(place, error) from None
                    rejected.append(rejected_row(error, shop_id=shop_id))
            characters += sum(len(text) for row in found[counted:] for text in row if isinstance(text, str))
            counted = len(found)
            _check_catalogue(place, counted, characters)
            del page  # before the next one arrives, so that memory holds one at a time
    distinct = {(row.shop_id, row.product_id, row.variation_id): row for row in found}
    products = len({(row.shop_id, row.product_id) for row in found}) + len(rejected)
    if too_many(len(rejected), products):
        raise TooManyRejectedError(Place(tenant.tenant_id, POS), len(rejected), products, str(rejected[0]))
    warehouse.save_products([row._asdict() for row in distinct.values()])
    warehouse.replace_rejected_products(POS, rejected, run_id=run_id)
    return Catalogue(list(distinct.values()), rejected)


def _check_catalogue(place: Place, rows: int, characters: int) -> None:
    for what, count, limit, maximum in (
        ("variations", rows, "MAX_CATALOGUE_ROWS", MAX_CATALOGUE_ROWS),
        ("characters", characters, "MAX_CATALOGUE_CHARACTERS", MAX_CATALOGUE_CHARACTERS),
    ):
        if count > maximum:
            raise LimitExceededError(
                place, f"the tenant's catalogue has more than {maximum} {what}", limit=limit, maximum=maximum
            )


class PosFeed(Feed):
    """A tenant's orders. `clients` are by the source of their key, `shops` say which source's key sees which.

    `on_incomplete` is told of a shop's day of which more orders were counted than could be read: what was read is
    stored, nothing is removed.
    """

    source: ClassVar[str] = POS

    def __init__(
        self,
        tenant: Tenant,
        clients: Mapping[str, PancakeClient],
        warehouse: TenantWarehouse,
        shops: Mapping[str, str],
        costs: ProductCosts,
        run_id: str,
        *,
        go_on: bool = False,
        on_incomplete: Callable[[str], None] = lambda _: None,
        on_rejected: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(
            warehouse.staging(ORDERS, OrderRow._fields),
            shops,
            run_id,
            days_per_request=min(key.days_per_request for key in tenant.pancake),
            go_on=go_on,
            today=today_in(tenant.timezone),
            on_bad_row=tenant.on_bad_row,
            on_rejected=on_rejected,
        )
        self._tenant_id = tenant.tenant_id
        self._timezone = ZoneInfo(tenant.timezone)
        keys = {key.api_key.source: key for key in tenant.pancake}
        self._settings = {shop_id: order_settings(tenant, keys[source], shop_id) for shop_id, source in shops.items()}
        self._clients = clients
        self._shops = shops
        self._costs = costs
        self._keep_customer_data = tenant.store_customer_data
        self._on_incomplete = on_incomplete

    @property
    def requests_made(self) -> int:
        """HTTP requests sent so far, with all keys."""
        return sum(client.requests_made for client in self._clients.values())

    def _proven_until(self, day: date) -> datetime:
        # Pancake takes whole seconds: whether it returns an order of the last one's fraction is not known, so that
        # such an order's absence proves nothing.
        return day_window(day, self._timezone.key)[1]

    def _fetch(self, scope: str, window: DayRange) -> bool:
        start, _ = day_window(window.since, self._timezone.key)
        _, end = day_window(window.until, self._timezone.key)
        # A window that does not settle is fetched day by day anyway.
        passes = ORDER_PASSES if len(window) == 1 else 1
        for _ in range(passes):
            listing = self._clients[self._shops[scope]].orders(scope, window.since, window.until, start, end)
            self._rejections.begin_pass(scope)
            for page in listing:
                self._staging.add(self._rows(page, scope, window))
                del page  # before the next one arrives, so that memory holds one at a time
            self._note_counts(scope, window, listing)
            if listing.complete:
                return True
        if len(window) == 1:
            self._on_incomplete(
                f"shop {scope}, {window.since}: Pancake counts {listing.total_entries} orders but listed "
                f"{listing.distinct}, {passes} times over; what it listed is stored and nothing is removed"
            )
        return False

    def _note_counts(self, shop_id: str, window: DayRange, listing: OrderListing) -> None:
        """Note how many orders Pancake counts in the window and how many it listed, for the check of stored ones."""
        counts = {
            "listed": listing.distinct,
            "counted": listing.total_entries,
            "since": window.since.isoformat(),
            "until": window.until.isoformat(),
        }
        for day in window:
            self._report(day, shop_id, counts)

    def _place(self, scope: str | None, window: DayRange) -> Place:
        return Place(self._tenant_id, POS, shop_id=scope, since=window.since, until=window.until)

    def _describe(self, scope: str, error: RowError) -> RejectedRow:
        return rejected_row(error, shop_id=scope)

    def _row(self, raw: Any, shop_id: str, settings: OrderSettings) -> OrderRow | Excluded:
        return order_row(
            raw,
            shop_id=shop_id,
            timezone=settings.timezone,
            costs=self._costs,
            money_divisor=settings.money_divisor,
            line_discounts=settings.line_discounts,
            ad_id_fields=settings.ad_id_fields,
            rules=settings.rules,
            keep_customer_data=self._keep_customer_data,
        )

    def _rows(self, page: Sequence[Any], shop_id: str, window: DayRange) -> Iterator[OrderRow]:
        settings = self._settings[shop_id]
        for raw in page:
            try:
                row = self._row(raw, shop_id, settings)
            except RowError as error:
                self._reject(shop_id, window, error)
                continue
            day = row.date_local or window.since
            self._rejections.accept(day, shop_id, ORDERS.kind, row.pos_order_id)
            if isinstance(row, Excluded):
                self._exclude(day, f"{shop_id}/{row.pos_order_id}")
            elif window.since <= row.date_local <= window.until:
                yield row
            else:
                raise SyncError(
                    self._place(shop_id, window),
                    f"order {label(row.pos_order_id)} was inserted on {row.date_local}, which was not asked for",
                )
