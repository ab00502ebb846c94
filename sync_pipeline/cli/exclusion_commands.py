"""The commands `accounts` and `shops`; like all commands they import what they need when they are called."""

from datetime import date, datetime

import click

from sync_pipeline.cli.groups import ListGroup
from sync_pipeline.terminal import say

_DAY = click.DateTime(formats=["%Y-%m-%d"])
_from_option = click.option("--from", "first_day", type=_DAY, help="First day that figures exclude. Default: today.")
_always_option = click.option("--always", is_flag=True, help="Exclude every day from figures.")


@click.group("accounts", cls=ListGroup)
def account_commands() -> None:
    """List ad accounts, disable one, enable one.

    Without a command: list.
    """


@account_commands.command("list")
@click.argument("tenant", required=False)
def list_accounts(tenant: str | None) -> None:
    """List the ad accounts of all tenants, or of TENANT.

    STATUS is Meta's number. Figures exclude an account from the day EXCLUDED FROM on.
    """
    from sync_pipeline.cli import exclusions

    say(exclusions.listed_accounts(tenant))


@account_commands.command("disable")
@click.argument("tenant")
@click.argument("account_id")
@_from_option
@_always_option
def disable_account(tenant: str, account_id: str, first_day: datetime | None, always: bool) -> None:  # noqa: FBT001
    """Exclude an ad account of TENANT from syncs, and from figures from today on.

    Figures of earlier days stay, unless --from names an earlier day or --always is given. They are recomputed at once.
    Orders that came through the account's ads still count.
    """
    from sync_pipeline.cli import exclusions
    from sync_pipeline.warehouse.exclusions import AD_ACCOUNTS

    day = _first_day(first_day, always=always)
    exclusions.disable(tenant, AD_ACCOUNTS, account_id.removeprefix("act_"), day)


@account_commands.command("enable")
@click.argument("tenant")
@click.argument("account_id")
def enable_account(tenant: str, account_id: str) -> None:
    """Include an ad account of TENANT in syncs and figures again."""
    from sync_pipeline.cli import exclusions
    from sync_pipeline.warehouse.exclusions import AD_ACCOUNTS

    exclusions.enable(tenant, AD_ACCOUNTS, account_id.removeprefix("act_"))


@click.group("shops", cls=ListGroup)
def shop_commands() -> None:
    """List shops, disable one, enable one.

    Without a command: list.
    """


@shop_commands.command("list")
@click.argument("tenant", required=False)
def list_shops(tenant: str | None) -> None:
    """List the shops of all tenants, or of TENANT.

    Figures exclude a shop from the day EXCLUDED FROM on.
    """
    from sync_pipeline.cli import exclusions

    say(exclusions.listed_shops(tenant))


@shop_commands.command("disable")
@click.argument("tenant")
@click.argument("shop_id")
@_from_option
@_always_option
def disable_shop(tenant: str, shop_id: str, first_day: datetime | None, always: bool) -> None:  # noqa: FBT001
    """Exclude a shop of TENANT from syncs, and its orders from figures from today on.

    Figures of earlier days stay, unless --from names an earlier day or --always is given. They are recomputed at once.
    """
    from sync_pipeline.cli import exclusions
    from sync_pipeline.warehouse.exclusions import SHOPS

    exclusions.disable(tenant, SHOPS, shop_id, _first_day(first_day, always=always))


@shop_commands.command("enable")
@click.argument("tenant")
@click.argument("shop_id")
def enable_shop(tenant: str, shop_id: str) -> None:
    """Include a shop of TENANT in syncs and figures again."""
    from sync_pipeline.cli import exclusions
    from sync_pipeline.warehouse.exclusions import SHOPS

    exclusions.enable(tenant, SHOPS, shop_id)


def _first_day(first_day: datetime | None, *, always: bool) -> date | None:
    from sync_pipeline.warehouse.exclusions import ALWAYS

    if always and first_day:
        raise click.UsageError("use either --from or --always, not both")
    return ALWAYS if always else first_day and first_day.date()
