"""The unpartitioned assets that APIs list: which ad accounts, shops and products a tenant has now."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from sync_pipeline.assets.runs import RunOf
from sync_pipeline.assets.specs import (
    META_AD_ACCOUNTS,
    POS_PRODUCTS,
    POS_SHOPS,
    TABLES,
    asset_key,
    attributes,
    pool,
    read_once,
)
from sync_pipeline.resources import MetaGraph, PancakePos, PostgresWarehouse
from sync_pipeline.run_config import NO_CONFIG
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.costs import version_of
from sync_pipeline.sync.errors import PlacedError, SyncError
from sync_pipeline.sync.meta import discover_ad_accounts
from sync_pipeline.sync.pos import discover_shops, refresh_products, shops_of_run
from sync_pipeline.sync.refusals import Refusal
from sync_pipeline.tenants import Tenant
from sync_pipeline.text_safety import escape_markdown
from sync_pipeline.warehouse.rejected import sentence
from sync_pipeline.warehouse.tenancy import Listing


def meta_ad_accounts_asset(tenant: Tenant) -> dg.AssetsDefinition:
    """The tenant's ad accounts, as its token sees them now."""

    @dg.asset(
        key=asset_key(tenant, META_AD_ACCOUNTS),
        description=f"Ad accounts that {escape_markdown(tenant.name)}'s Meta token sees. Exclude one from syncs "
        "and figures with `sync-pipeline accounts disable`.",
        pool=pool(tenant),
        config_schema=NO_CONFIG,
        **attributes(tenant, TABLES[META_AD_ACCOUNTS], "meta"),
    )
    @read_once
    def meta_ad_accounts(
        context: dg.AssetExecutionContext, meta_graph: MetaGraph, warehouse: PostgresWarehouse
    ) -> dg.MaterializeResult[Any]:
        run = RunOf(tenant, context)
        with run.failing({"source": META, "date": run.first_day}), run.hold(warehouse) as held:
            run.warn_of_expiries(held)
            try:
                client = run.meta_client(meta_graph)
                listing = discover_ad_accounts(tenant, client, held, context.run.run_id, go_on=run.go_on)
            except (SourceError, SyncError) as error:
                return _left_to_the_days(context, run, error)
        return _listed(context, listing, client.requests_made)

    return meta_ad_accounts


def pos_shops_asset(tenant: Tenant) -> dg.AssetsDefinition:
    """The tenant's shops, as its keys see them now."""

    @dg.asset(
        key=asset_key(tenant, POS_SHOPS),
        description=f"Shops that {escape_markdown(tenant.name)}'s Pancake keys see. Exclude one from syncs and "
        "figures with `sync-pipeline shops disable`.",
        pool=pool(tenant),
        config_schema=NO_CONFIG,
        **attributes(tenant, TABLES[POS_SHOPS], "pancake"),
    )
    @read_once
    def pos_shops(
        context: dg.AssetExecutionContext, pancake_pos: PancakePos, warehouse: PostgresWarehouse
    ) -> dg.MaterializeResult[Any]:
        run = RunOf(tenant, context)
        with run.failing({"source": POS, "date": run.first_day}), run.hold(warehouse) as held:
            clients = run.pancake_clients(pancake_pos)
            try:
                found = discover_shops(
                    tenant, clients, held, context.run.run_id, go_on=run.go_on, unusable=run.unusable_keys
                )
            except (SourceError, SyncError) as error:
                return _left_to_the_days(context, run, error)
        requests = sum(client.requests_made for client in clients.values())
        return _listed(context, found.listing, requests, found.refusals)

    return pos_shops


def pos_products_asset(tenant: Tenant) -> dg.AssetsDefinition:
    """The catalogues of the tenant's shops, as Pancake lists them now."""

    @dg.asset(
        key=asset_key(tenant, POS_PRODUCTS),
        deps=[asset_key(tenant, POS_SHOPS)],
        description="Products and variations of the shops, which orders' items and product costs name. The view "
        "`pos_product_costs` has each with the cost that is valid today.",
        pool=pool(tenant),
        config_schema=NO_CONFIG,
        **attributes(tenant, TABLES[POS_PRODUCTS], "pancake"),
    )
    @read_once
    def pos_products(
        context: dg.AssetExecutionContext, pancake_pos: PancakePos, warehouse: PostgresWarehouse
    ) -> dg.MaterializeResult[Any]:
        run = RunOf(tenant, context)
        with run.failing({"source": POS, "date": run.first_day}), run.hold(warehouse) as held:
            clients = run.pancake_clients(pancake_pos)
            try:
                shops = shops_of_run(
                    tenant, clients, held, context.run.run_id, go_on=run.go_on, unusable=run.unusable_keys
                )
                if shops.refusals and not shops.shops:
                    raise shops.refusals[0].error
                listed = refresh_products(tenant, clients, held, shops.shops, context.run.run_id, go_on=run.go_on)
            except (SourceError, SyncError) as error:
                return _left_to_the_days(context, run, error)
            catalogue = held.products()
        for refused in listed.refused.values():
            context.log.error(f"the stored catalogue stays as it is: {refused}")
        if listed.rejected:
            context.log.warning(f"{sentence(listed.rejected, 'product')}; see the table rejected_rows")
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": len(catalogue),
                "listed": len(listed.rows),
                "rejected": len(listed.rejected),
                "refused": sorted(listed.refused),
                "requests": sum(client.requests_made for client in clients.values()),
            },
            # The same catalogue makes nothing downstream stale.
            data_version=dg.DataVersion(version_of(catalogue)),
        )

    return pos_products


def _left_to_the_days(context: dg.AssetExecutionContext, run: RunOf, error: PlacedError) -> dg.MaterializeResult[Any]:
    """With `on_error: continue` the other source goes on: the step of the days fails for this one.

    It sends the request again, unless the API has refused it permanently.
    """
    if not run.go_on:
        raise error
    context.log.error(f"not refreshed: {error}")
    return dg.MaterializeResult(metadata={"error": str(error)})


def _listed(
    context: dg.AssetExecutionContext, listing: Listing, requests: int, refusals: Sequence[Refusal] = ()
) -> dg.MaterializeResult[Any]:
    if listing.new:
        context.log.info(f"new: {', '.join(listing.new)}")
    for refusal in refusals:
        context.log.error(f"not listed: {refusal.error}")
        for one in refusal.missing:
            context.log.error(one.sentence)
    refused = {scope for refusal in refusals for scope in refusal.scopes}
    missing = [one for one in listing.missing if one not in refused]
    if missing:
        context.log.warning(
            f"no longer listed, and so no longer synced: {', '.join(missing)}. "
            "Stored rows stay; if this is not meant, give the token or key access again."
        )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": listing.listed,
            "new": list(listing.new),
            "no_longer_listed": missing,
            "refused": sorted(refused),
            "requests": requests,
        }
    )
