"""What `sync-pipeline check` finds out about the tenants, line by line."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sync_pipeline.date_ranges import day_window, today_in
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.rows.costs import load_product_costs
from sync_pipeline.settings import Settings
from sync_pipeline.sources.errors import BadRequestError, PermissionDeniedError, SourceError
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.meta import AdAccount, MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.sync.credentials import Finding, fetch_expiries, findings, version_finding
from sync_pipeline.sync.meta import visible_ad_accounts
from sync_pipeline.sync.pos import visible_shops
from sync_pipeline.tenants import (
    BrokenTenantFile,
    MissingSecretError,
    PancakeKey,
    SecretRef,
    SourceName,
    Tenant,
    TenantFolder,
    find_tenant,
)
from sync_pipeline.warehouse import access, database
from sync_pipeline.warehouse.credentials import Subject
from sync_pipeline.warehouse.errors import WarehouseError

# A person is waiting for the answer: no pause, and no half hour of patience with a rate limit.
HASTY = Pacing(delay_s=0, max_wait_s=60)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report; a `warning` or `problem` goes to stderr, and a problem makes the check fail."""

    text: str
    warning: bool = False
    problem: bool = False


def report(folder: TenantFolder, tenant_id: str | None, *, live: bool) -> Iterator[Line]:
    """Check every tenant of the folder, or one, and the warehouse; with `live` the APIs are asked, too.

    Raises `UnknownTenantError`, and `BrokenTenantError` for a single tenant whose file is broken.
    """
    if tenant_id is not None:
        yield from _tenant(find_tenant(folder, tenant_id), live=live)
        yield from _warehouse()
        return
    for broken in folder.broken:
        yield from _broken(broken)
    for tenant in folder.tenants:
        yield from _tenant(tenant, live=live)
    if not folder.tenants and not folder.broken:
        yield Line("the folder holds no tenant file (*.yaml)", problem=True)
    yield from _warehouse()


def _warehouse() -> Iterator[Line]:
    """What lets tenants see each other in the warehouse; the embedded one is set up by ourselves.

    Files are often checked where the warehouse is out of reach.
    """
    url = Settings.from_environment().database_url
    if url is None:
        return
    try:
        engine = database.connect(database.parse_url(url))
        try:
            found = access.exposures(engine)
        finally:
            engine.dispose()
    except WarehouseError as error:
        found = [f"the warehouse was not looked at: {error}"]
    for sentence in found:
        yield Line(sentence, warning=True)


def _broken(broken: BrokenTenantFile) -> Iterator[Line]:
    for problem in broken.problems:
        yield Line(problem, problem=True)


def _tenant(tenant: Tenant, *, live: bool) -> Iterator[Line]:
    usable = True
    try:
        for line in _findings(tenant, live=live):
            usable = usable and not line.problem
            yield line
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (one tenant must not stop the others)
        usable = False
        why = f"cannot be checked (unexpected {type(error).__name__}); report this as a bug"
        yield Line(f"{tenant.tenant_id}: {why}", problem=True)
    if usable:
        workflows = ", ".join(workflow.name for workflow in tenant.workflows) or "none"
        yield Line(f"{tenant.tenant_id}: ok (workflows: {workflows})")


def _findings(tenant: Tenant, *, live: bool) -> Iterator[Line]:
    for warning in tenant.warnings:
        yield Line(warning, warning=True)
    if tenant.product_costs:
        try:
            load_product_costs(tenant.product_costs)
        except SyncPipelineError as error:
            yield Line(str(error), problem=True)
    if tenant.meta:
        version = version_finding(tenant.meta.api_version, datetime.now(UTC))
        if version.is_warning or version.is_problem:
            yield _as_line(tenant, version)
    if live:
        if tenant.meta:
            yield from _unless_out_of_reach(tenant, "meta", _meta(tenant))
        for key in tenant.pancake:
            yield from _unless_out_of_reach(tenant, "pos", _pancake(tenant, key))
        # The clients have asked for theirs.
        yield from _missing_secrets([tenant.alerts.webhook] if tenant.alerts else [])
    else:
        yield from _missing_secrets(tenant.secrets)


def _missing_secrets(secrets: Iterable[SecretRef]) -> Iterator[Line]:
    for secret in secrets:
        try:
            secret.resolve(os.environ)
        except MissingSecretError as error:
            # Files are often checked where the secrets are not; a run, or --live, cannot do without.
            yield Line(str(error), warning=True)


def _unless_out_of_reach(tenant: Tenant, source: SourceName, lines: Iterator[Line]) -> Iterator[Line]:
    """The lines up to an error; it is a problem where a workflow needs the source, else a warning."""
    needed = any(source in workflow.sources for workflow in tenant.workflows)
    try:
        yield from lines
    except SyncPipelineError as error:
        yield Line(str(error), warning=not needed, problem=needed)


def _meta(tenant: Tenant) -> Iterator[Line]:
    assert tenant.meta is not None
    secret = tenant.meta.app_secret
    client, probe = (
        MetaClient(
            tenant=tenant.tenant_id,
            graph_url=Settings.from_environment().meta_graph_url,
            api_version=tenant.meta.api_version,
            token=tenant.meta.access_token.resolve(os.environ).reveal(),
            app_secret=secret.resolve(os.environ).reveal() if secret else None,
            pacing=HASTY,
            page_size=page_size,
        )
        for page_size in (500, 1)
    )
    try:
        user = client.me()
        yield Line(f"{tenant.tenant_id}: token of {user.name or 'a nameless user'} ({user.user_id})")
    except (BadRequestError, PermissionDeniedError) as error:
        yield Line(f"{tenant.tenant_id}: whose token it is cannot be told: {error}", warning=True)
    yield from _expiries(tenant, client)
    accounts = visible_ad_accounts(tenant, client)
    if not accounts:
        yield Line(f"{tenant.tenant_id}: the token sees no ad account", problem=True)
    yesterday = today_in(tenant.timezone) - timedelta(days=1)
    for account in accounts:
        yield from _unless_out_of_reach(tenant, "meta", _account(tenant, probe, account, yesterday))
    if len({account.currency for account in accounts if account.currency}) > 1 and tenant.currency is None:
        yield Line(f"{tenant.tenant_id}: its ad accounts are not all in one currency", warning=True)


def _account(tenant: Tenant, probe: MetaClient, account: AdAccount, day: date) -> Iterator[Line]:
    # One page of one row proves that its insights may be read; being listed does not.
    next(probe.insights(account.account_id, day, day), None)
    yield Line(f"{tenant.tenant_id}: ad account {_described(account)}")
    yield from _differences(tenant, account)


def _expiries(tenant: Tenant, client: MetaClient) -> Iterator[Line]:
    """When the token and its access to data end; most tokens may ask that of themselves."""
    assert tenant.meta is not None
    now = datetime.now(UTC)
    try:
        fetched = fetch_expiries(client, tenant.meta.api_version, now)
    except SourceError as error:
        yield Line(f"{tenant.tenant_id}: it cannot be told when the token expires: {error}", warning=True)
        return
    for finding in findings(tenant.meta.api_version, fetched.expiries, now):
        if finding.subject is not Subject.API_VERSION:
            yield _as_line(tenant, finding)
    if fetched.untold:
        said = fetched.untold.api_message or fetched.untold.what
        yield Line(f"{tenant.tenant_id}: Meta's reason: {said} [code {fetched.untold.code}]")


def _as_line(tenant: Tenant, finding: Finding) -> Line:
    text = f"{tenant.tenant_id}: {finding.sentence}"
    return Line(text, warning=finding.is_warning, problem=finding.is_problem)


def _described(account: AdAccount) -> str:
    facts = ", ".join(fact for fact in (account.name, account.currency, account.timezone_name) if fact)
    return f"{account.account_id} ({facts})" if facts else account.account_id


def _differences(tenant: Tenant, account: AdAccount) -> Iterator[Line]:
    if account.timezone_name and account.timezone_name != tenant.timezone:
        yield Line(
            f"{tenant.tenant_id}: days of ad account {account.account_id} are days of {account.timezone_name}, "
            f"not of the tenant's {tenant.timezone}; Meta gives no others",
            warning=True,
        )
    converted = tenant.meta is not None and account.account_id in tenant.meta.spend_multiplier
    if tenant.currency and account.currency and account.currency != tenant.currency and not converted:
        yield Line(
            f"{tenant.tenant_id}: spend of ad account {account.account_id} is in {account.currency}, "
            f"not in the tenant's {tenant.currency}; give it a spend_multiplier",
            warning=True,
        )


def _pancake(tenant: Tenant, key: PancakeKey) -> Iterator[Line]:
    client = PancakeClient(
        tenant=tenant.tenant_id,
        api_url=Settings.from_environment().pancake_api_url,
        api_key=key.api_key.resolve(os.environ).reveal(),
        key_source=key.api_key.source,
        pacing=HASTY,
        page_size=1,
    )
    for shop in visible_shops(tenant, key, client):
        _read_one_order(tenant, client, shop.shop_id, today_in(tenant.timezone))
        yield Line(f"{tenant.tenant_id}: shop {shop.shop_id} ({shop.name or 'nameless'}), key in {key.api_key.source}")


def _read_one_order(tenant: Tenant, client: PancakeClient, shop_id: str, today: date) -> None:
    start, end = day_window(today, tenant.timezone)
    next(iter(client.orders(shop_id, today, today, start, end)), None)
