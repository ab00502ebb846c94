"""Meta's ad accounts and ad insights of one tenant."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

from sync_pipeline.date_ranges import DayRange, today_in
from sync_pipeline.rows.errors import RowError
from sync_pipeline.rows.meta import InsightRow, account_spend, insight_part, insight_row
from sync_pipeline.rows.values import ZERO
from sync_pipeline.sources.errors import Place, RateLimitedError, SourceError
from sync_pipeline.sources.meta import AdAccount, MetaClient
from sync_pipeline.sync import META
from sync_pipeline.sync.engine import Feed
from sync_pipeline.sync.errors import NothingListedError, SyncError
from sync_pipeline.sync.recompute import InsightRules
from sync_pipeline.sync.refusals import Refusal, refuses
from sync_pipeline.sync.rejections import rejected_row
from sync_pipeline.sync.supplements import AdStatuses, Supplement, Supplements, ends_sync
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.rejected import RejectedRow
from sync_pipeline.warehouse.schema import INSIGHTS
from sync_pipeline.warehouse.tenancy import Listing, TenantWarehouse


def discover_ad_accounts(
    tenant: Tenant, client: MetaClient, warehouse: TenantWarehouse, run_id: str, *, go_on: bool = False
) -> Listing:
    """Store which ad accounts the tenant's token sees; accounts that its file names are used though not listed.

    Raises `NothingListedError` when there is none at all. With `go_on` a list that Meta refuses costs no account
    that the file names.
    """
    accounts = visible_ad_accounts(tenant, client, go_on=go_on)
    if not accounts:
        raise NothingListedError(
            Place(tenant.tenant_id, META), "the access token sees no ad account; grant it access to the tenant's"
        )
    return warehouse.save_ad_accounts([_known_details(account) for account in accounts], run_id)


def _known_details(account: AdAccount) -> dict[str, Any]:
    """What to store of an account: where no detail could be read, stored ones stay."""
    details = asdict(account)
    account_id = details.pop("account_id")
    is_known = any(detail is not None for detail in details.values())
    return {"account_id": account_id, **(details if is_known else {})}


def visible_ad_accounts(tenant: Tenant, client: MetaClient, *, go_on: bool = False) -> list[AdAccount]:
    """The accounts that the tenant is synced with: those that its token lists, or those that its file names."""
    assert tenant.meta is not None
    named = tenant.meta.accounts
    try:
        accounts = client.ad_accounts()
    except SourceError as error:
        if named == "all" or not (go_on and refuses(error)):
            raise
        accounts = []
    if named == "all":
        return accounts
    listed = {account.account_id: account for account in accounts}
    return [listed.get(one) or _unlisted_account(client, one) for one in named]


def _unlisted_account(client: MetaClient, account_id: str) -> AdAccount:
    try:
        return client.ad_account(account_id)
    except SourceError as error:
        if ends_sync(error) or isinstance(error, RateLimitedError):
            raise
        # Insights may be readable where the account itself is not; if they are not, their own error says why.
        return AdAccount(account_id, name=None, currency=None, timezone_name=None, account_status=None)


class MetaFeed(Feed):
    """A tenant's ad insights, each ad's status, and the account's own total of each day.

    Insights are stored also where statuses or totals cannot be fetched; `on_unavailable` is called with one sentence
    for each account and kind.
    """

    source: ClassVar[str] = META

    def __init__(
        self,
        tenant: Tenant,
        client: MetaClient,
        warehouse: TenantWarehouse,
        accounts: Collection[str],
        run_id: str,
        *,
        go_on: bool = False,
        on_rejected: Callable[[str], None] = lambda _: None,
        on_unavailable: Callable[[str], None] = lambda _: None,
        on_refused: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        assert tenant.meta is not None
        staging = warehouse.staging(
            INSIGHTS,
            InsightRow._fields,
            lookup_key=("account_id", "ad_id"),
            lookup=("status", "effective_status"),
        )
        super().__init__(
            staging,
            accounts,
            run_id,
            days_per_request=tenant.meta.days_per_request,
            go_on=go_on,
            today=today_in(tenant.timezone),
            timezones=(tenant.timezone, *warehouse.account_timezones(accounts)),
            on_bad_row=tenant.on_bad_row,
            on_rejected=on_rejected,
            on_refused=on_refused,
        )
        self._tenant_id = tenant.tenant_id
        self._lead_action_types = tenant.meta.lead_action_types
        self._naming = tenant.meta.naming.convention
        self._rules = str(InsightRules.of(tenant.meta))
        self._client = client
        self._supplements = Supplements(on_unavailable)
        self._statuses = AdStatuses(client, staging, self._supplements)

    @property
    def requests_made(self) -> int:
        """HTTP requests sent so far."""
        return self._client.requests_made

    def _fetch(self, scope: str, window: DayRange) -> bool:
        for page in self._client.insights(scope, window.since, window.until, partial(self._restart, scope)):
            self._staging.add(self._rows(page, scope, window))
            del page  # before the next one arrives, so that memory holds one at a time
        self._statuses.stage(scope, window)
        self._note_account_spend(scope, window)
        return True  # the client reads on until Meta names no next page, or raises

    def _restart(self, account_id: str, since: date, until: date) -> None:
        """Forget the rows of days that are requested again: a part of an ad that does not come again would count."""
        days = DayRange(since, until).days
        self._staging.forget(account_id, days)
        self._rejections.forget(account_id, days)

    def _place(self, scope: str | None, window: DayRange) -> Place:
        return Place(self._tenant_id, META, account_id=scope, since=window.since, until=window.until)

    def _describe(self, scope: str, error: RowError) -> RejectedRow:
        return rejected_row(error, account_id=scope)

    def _note_account_spend(self, account_id: str, window: DayRange) -> None:
        """Note the account's own total of each day, which the sum of its ads is checked against.

        A day whose total cannot be fetched or read has none.
        """
        totals: dict[date, Decimal] = {}
        missing = set(window)
        if self._supplements.is_requested(account_id, Supplement.TOTALS):
            try:
                unreadable = self._read_totals(account_id, window, totals)
            except SourceError as error:
                self._supplements.warn(account_id, Supplement.TOTALS, error)
                self._supplements.note_failure(account_id, Supplement.TOTALS, error)
                missing -= totals.keys()
            else:
                self._supplements.note_success(account_id, Supplement.TOTALS)
                missing = unreadable
        for day in window:
            self._report(day, account_id, None if day in missing else str(totals.get(day, ZERO)))

    def _read_totals(self, account_id: str, window: DayRange, totals: dict[date, Decimal]) -> set[date]:
        """Read the total of each day with delivery into `totals`, and return the days whose total is unreadable."""
        unreadable = set()
        for page in self._client.account_days(account_id, window.since, window.until):
            for raw in page:
                try:
                    day, spend = account_spend(raw, account_id=account_id)
                except RowError as error:
                    self._reject(account_id, window, error)
                    unreadable.add(error.day or window.since)
                    continue
                if not window.since <= day <= window.until:
                    place = self._place(account_id, window)
                    raise SyncError(place, f"a total of {day} came, which was not requested")
                totals[day] = spend
        return unreadable

    def _rows(self, page: Sequence[Any], account_id: str, window: DayRange) -> list[InsightRow]:
        place = self._place(account_id, window)
        rows = []
        for raw in page:
            try:
                row = insight_row(
                    raw,
                    account_id=account_id,
                    lead_action_types=self._lead_action_types,
                    naming=self._naming,
                    rules=self._rules,
                )
            except RowError as error:
                self._reject(account_id, window, error)
                continue
            if not window.since <= row.date <= window.until:
                raise SyncError(place, f"ad {row.ad_id} came with the day {row.date}, which was not asked for")
            self._rejections.accept(row.date, account_id, INSIGHTS.kind, row.ad_id, insight_part(row))
            rows.append(row)
        return rows
