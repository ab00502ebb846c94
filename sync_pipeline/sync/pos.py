"""Pancake's shops, products and orders of one tenant."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from sync_pipeline.date_ranges import DayRange, day_window, today_in
from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.rows.errors import RowError, label
from sync_pipeline.rows.pancake import Excluded, OrderRow, order_row
from sync_pipeline.rows.products import ProductRow, product_rows
from sync_pipeline.sources.errors import LimitExceededError, Place, SourceError, TokenError
from sync_pipeline.sources.limits import MAX_CATALOGUE_CHARACTERS, MAX_CATALOGUE_ROWS
from sync_pipeline.sources.pancake import OrderListing, PancakeClient, Shop
from sync_pipeline.sync import POS
from sync_pipeline.sync.engine import Feed
from sync_pipeline.sync.errors import (
    NothingListedError,
    PlacedError,
    RowRejectedError,
    SyncError,
    TooManyRejectedError,
)
from sync_pipeline.sync.recompute import OrderSettings, order_settings
from sync_pipeline.sync.refusals import Refusal, key_scope, refuses, stored_refusals, to_store
from sync_pipeline.sync.rejections import rejected_row, too_many
from sync_pipeline.tenants import PancakeKey, Tenant
from sync_pipeline.warehouse.rejected import RejectedRow
from sync_pipeline.warehouse.schema import ORDERS
from sync_pipeline.warehouse.tenancy import Listing, TenantWarehouse

# An order placed while its day is being paged shows as a count that moved: reading again settles it, mostly.
ORDER_PASSES = 3


class ShopDiscovery(NamedTuple):
    """What the keys list now, and what refused; a refusal without scopes costs nothing that is synced."""

    listing: Listing
    refusals: Sequence[Refusal]


class RunShops(NamedTuple):
    """The enabled shops of a run, each with the source of its key, and the shops and keys that have refused."""

    shops: Mapping[str, str]
    refusals: Sequence[Refusal]


def discover_shops(
    tenant: Tenant,
    clients: Mapping[str, PancakeClient],
    warehouse: TenantWarehouse,
    run_id: str,
    *,
    go_on: bool = False,
    unusable: Mapping[str, TokenError] = MappingProxyType({}),
) -> ShopDiscovery:
    """Store which shops the tenant's keys see; `clients` by the source of their key.

    Raises `NothingListedError` when a key sees none, or not a shop that the tenant file names for it. With `go_on` the
    shops of the other keys are stored even so, and those that are missing are noted for the later steps of the run;
    keys without a client are in `unusable`. Raises the first error where no shop is listed at all.
    """
    shops: dict[str, dict[str, str | None]] = {}
    failed: list[tuple[PancakeKey, PlacedError]] = []
    for key in tenant.pancake:
        source = key.api_key.source
        try:
            if source in unusable:
                raise unusable[source]
            listed = _listed_shops(tenant, key, clients[source])
        except (SourceError, SyncError) as error:
            if not (go_on and refuses(error)):
                raise
            failed.append((key, error))
            continue
        unseen = _unseen(tenant, key, listed)
        if unseen and not go_on:
            raise unseen[0]
        failed += [(key, error) for error in unseen]
        for shop in listed.values() if key.shops == "all" else (listed[one] for one in key.shops if one in listed):
            shops.setdefault(shop.shop_id, {"shop_id": shop.shop_id, "name": shop.name, "api_key_variable": source})
    refusals = [_refusal_of_key(key, error, shops, warehouse) for key, error in failed]
    warehouse.note_refusals(POS, run_id, [noted for refusal in refusals for noted in to_store(refusal)])
    if failed and not shops:
        raise failed[0][1]
    return ShopDiscovery(warehouse.save_shops(list(shops.values()), run_id), refusals)


def visible_shops(tenant: Tenant, key: PancakeKey, client: PancakeClient) -> list[Shop]:
    """The shops of one key that the tenant is synced with. Raises `NothingListedError`."""
    listed = _listed_shops(tenant, key, client)
    for error in _unseen(tenant, key, listed):
        raise error
    return list(listed.values()) if key.shops == "all" else [listed[shop_id] for shop_id in key.shops]


def _listed_shops(tenant: Tenant, key: PancakeKey, client: PancakeClient) -> dict[str, Shop]:
    source = key.api_key.source
    listed = {shop.shop_id: shop for shop in client.shops()}
    if not listed:
        raise NothingListedError(Place(tenant.tenant_id, POS, key=source), f"the key in {source} sees no shop")
    return listed


def _unseen(tenant: Tenant, key: PancakeKey, listed: Collection[str]) -> list[NothingListedError]:
    """Return an error for each shop that the tenant file names for the key, but that the key does not see."""
    source = key.api_key.source
    return [
        NothingListedError(
            Place(tenant.tenant_id, POS, shop_id=shop_id, key=source),
            f"the key in {source} does not see this shop; correct `shops` in the tenant file or the key",
        )
        for shop_id in (() if key.shops == "all" else key.shops)
        if shop_id not in listed
    ]


def _refusal_of_key(
    key: PancakeKey, error: PlacedError, listed: Collection[str], warehouse: TenantWarehouse
) -> Refusal:
    """Return the refusal of a key, or of one of its shops, with the enabled shops that are missing for it."""
    known = warehouse.known_shops()
    if error.place.shop_id is not None:
        of_key = {error.place.shop_id}
    elif key.shops == "all":
        of_key = {shop_id for shop_id, shop in known.items() if shop.key_source == key.api_key.source}
    else:
        of_key = set(key.shops)
    if not of_key:
        return Refusal(error, (key_scope(key.api_key.source),))
    # Another key may see them, too.
    missing = of_key - set(listed)
    warehouse.add_unlisted_shops(sorted(missing - known.keys()))
    return Refusal(error, tuple(sorted(one for one in missing if one not in known or known[one].enabled)))


def shops_of_run(
    tenant: Tenant,
    clients: Mapping[str, PancakeClient],
    warehouse: TenantWarehouse,
    run_id: str,
    *,
    go_on: bool = False,
    unusable: Mapping[str, TokenError] = MappingProxyType({}),
) -> RunShops:
    """The enabled shops as this run's discovery lists them, which is made up for; raises as `discover_shops` does.

    Keys that have refused in an earlier step of the run are not asked again.
    """
    stored = warehouse.refusals_of_run(POS, run_id)
    if not stored and warehouse.shops(run_id) is None:
        discover_shops(tenant, clients, warehouse, run_id, go_on=go_on, unusable=unusable)
        stored = warehouse.refusals_of_run(POS, run_id)
    return RunShops(warehouse.shops(run_id) or {}, stored_refusals(tenant.tenant_id, POS, stored))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The products that shops list, those that could not be read, and the errors of shops that refused."""

    rows: Sequence[ProductRow]
    rejected: Sequence[RejectedRow]
    refused: Mapping[str, PlacedError]


def refresh_products(
    tenant: Tenant,
    clients: Mapping[str, PancakeClient],
    warehouse: TenantWarehouse,
    shops: Mapping[str, str],
    run_id: str,
    *,
    go_on: bool = False,
) -> Catalogue:
    """Store the shops' catalogues as Pancake lists them now, and return what it listed.

    With `go_on` the catalogue of a shop that refuses stays as it is, unless all of them do. A product that cannot be
    read is left out and stored as rejected. Raises `RowRejectedError` for one where the tenant
    file says `on_bad_row: fail`, `TooManyRejectedError` where the format must have changed, and `LimitExceededError`
    for a catalogue that memory must not hold.
    """
    divisors = {key.api_key.source: key.divisor_for for key in tenant.pancake}
    found: list[ProductRow] = []
    rejected: list[RejectedRow] = []
    refused: dict[str, PlacedError] = {}
    counted = characters = 0
    for shop_id, source in shops.items():
        place = Place(tenant.tenant_id, POS, shop_id=shop_id)
        before = len(found), len(rejected)
        try:
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
        except SourceError as error:
            if not (go_on and refuses(error)):
                raise
            refused[shop_id] = error
            del found[before[0] :], rejected[before[1] :]
            counted = len(found)
    if refused and len(refused) == len(shops):
        raise next(iter(refused.values()))
    distinct = {(row.shop_id, row.product_id, row.variation_id): row for row in found}
    products = len({(row.shop_id, row.product_id) for row in found}) + len(rejected)
    if too_many(len(rejected), products):
        raise TooManyRejectedError(Place(tenant.tenant_id, POS), len(rejected), products, str(rejected[0]))
    warehouse.save_products([row._asdict() for row in distinct.values()])
    warehouse.replace_rejected_products(POS, rejected, run_id=run_id, kept_shops=refused)
    return Catalogue(list(distinct.values()), rejected, refused)


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
    stored, nothing is removed. `refusals` and `on_refused` are as in `Feed`.
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
        refusals: Collection[Refusal] = (),
        on_refused: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        super().__init__(
            warehouse.staging(ORDERS, OrderRow._fields),
            shops,
            run_id,
            days_per_request=min(key.days_per_request for key in tenant.pancake),
            go_on=go_on,
            today=today_in(tenant.timezone),
            timezones=(tenant.timezone,),
            on_bad_row=tenant.on_bad_row,
            on_rejected=on_rejected,
            refusals=refusals,
            on_refused=on_refused,
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

    def _refused_with(self, scope: str, error: PlacedError) -> Collection[str]:
        if not isinstance(error, TokenError):
            return (scope,)
        # A key that is refused for one shop is refused for all that it sees.
        return [shop_id for shop_id, source in self._shops.items() if source == self._shops[scope]]

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
                self._exclude(day, shop_id, row.pos_order_id)
            elif window.since <= row.date_local <= window.until:
                yield row
            else:
                raise SyncError(
                    self._place(shop_id, window),
                    f"order {label(row.pos_order_id)} was inserted on {row.date_local}, which was not asked for",
                )
