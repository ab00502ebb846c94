"""Meta insight rows: one ad, or an account as a whole, on one day of the account's timezone."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from sync_pipeline.rows import values
from sync_pipeline.rows.errors import (
    FieldError,
    RowError,
    UnrequestedError,
    UnrequestedRowError,
    key_of,
    label,
    part_of,
    require_object,
)
from sync_pipeline.rows.names import DEFAULT_NAMING, NamingConvention


class InsightRow(NamedTuple):
    """A row of `meta_ad_insights`. Money in the account's currency, major units; `account_id` without `act_`.

    An ad may have several rows of a day, in different ad sets or campaigns: see `insight_part`.
    """

    account_id: str
    ad_id: str
    date: date
    campaign_id: str | None
    campaign_name: str | None
    adset_id: str | None
    adset_name: str | None
    ad_name: str | None
    marketing_associate: str | None
    spend: Decimal
    impressions: int
    clicks: int
    link_clicks: int
    leads: int
    mapping: str | None
    currency: str | None
    rules: str | None = None


# Campaign and ad set.
InsightPart = tuple[str | None, str | None]


def insight_part(row: InsightRow) -> InsightPart:
    """Return what distinguishes the rows of one ad and day: the ids of campaign and ad set, never their names."""
    return row.campaign_id, row.adset_id


def insight_row(
    raw: values.Raw,
    *,
    account_id: str,
    lead_action_types: Sequence[str],
    naming: NamingConvention = DEFAULT_NAMING,
    rules: str | None = None,
) -> InsightRow:
    """Read one ad-level, one-day insight of the account asked for (`account_id` without `act_`).

    Metrics Meta leaves out are 0; link clicks are `inline_link_clicks`. `rules` is the fingerprint of the settings,
    stored with the row. Raises RowError for an unreadable value, and UnrequestedRowError for a row of several days or
    of another account.
    """
    try:
        require_object(raw)
        date_start = _single_day(raw, account_id)
        ad_name = values.optional_name(raw, "ad_name")
        campaign_name = values.optional_name(raw, "campaign_name")
        return InsightRow(
            account_id,
            values.identifier(raw, "ad_id"),
            date_start,
            values.optional_text(raw, "campaign_id"),
            campaign_name,
            values.optional_text(raw, "adset_id"),
            values.optional_name(raw, "adset_name"),
            ad_name,
            marketing_associate(ad_name, naming),
            values.money(raw, "spend"),
            values.counter(raw, "impressions"),
            values.counter(raw, "clicks"),
            values.counter(raw, "inline_link_clicks"),
            leads(raw.get("actions"), lead_action_types),
            campaign_mapping(campaign_name, naming),
            values.optional_text(raw, "account_currency"),
            rules,
        )
    except FieldError as error:
        ad_id, day = part_of(raw, "ad_id"), part_of(raw, "date_start")
        row_id = f"{label(ad_id)} of account {account_id} on {label(day)}"
        raise _row_error(error, "insight", row_id, key_of(ad_id), raw, _readable_part(raw)) from None


def account_spend(raw: values.Raw, *, account_id: str) -> tuple[date, Decimal]:
    """Read one account-level, one-day insight of the account asked for (`account_id` without `act_`): day and spend.

    The spend is in the account's currency, major units, 0 where Meta leaves it out. Raises RowError and
    UnrequestedRowError like `insight_row`.
    """
    try:
        require_object(raw)
        return _single_day(raw, account_id), values.money(raw, "spend")
    except FieldError as error:
        row_id = f"{label(part_of(raw, 'date_start'))} of account {account_id}"
        raise _row_error(error, "account day", row_id, None, raw) from None


def _readable_part(raw: object) -> InsightPart | None:
    ids = {name: part_of(raw, name) for name in ("campaign_id", "adset_id")}
    try:
        return values.optional_text(ids, "campaign_id"), values.optional_text(ids, "adset_id")
    except FieldError:
        return None


def _row_error(
    error: FieldError, kind: str, row_id: str, key: str | None, raw: object, part: InsightPart | None = None
) -> RowError:
    day = None
    with suppress(FieldError):
        day = values.day({"date_start": part_of(raw, "date_start")}, "date_start")
    error_type = UnrequestedRowError if isinstance(error, UnrequestedError) else RowError
    return error_type(
        kind=kind, row_id=row_id, field=error.field, value=error.value, why=error.why, key=key, day=day, part=part
    )


def _single_day(raw: values.Raw, account_id: str) -> date:
    date_start = values.day(raw, "date_start")
    if raw.get("date_stop") is not None and values.day(raw, "date_stop") != date_start:
        raise UnrequestedError("date_stop", raw["date_stop"], f"differs from date_start {date_start}")
    if raw.get("account_id") is not None and values.identifier(raw, "account_id").removeprefix("act_") != account_id:
        raise UnrequestedError("account_id", raw["account_id"], f"is not the account asked for, {account_id}")
    return date_start


def marketing_associate(ad_name: str | None, naming: NamingConvention = DEFAULT_NAMING) -> str | None:
    """Return the marketing associate in an ad's name: by default the 4th part split on `_`, trimmed, its case kept.

    Empty parts count: `EVIL EYE_UGC_1001_ALY_001` gives `ALY`, `A__C_` gives None.
    """
    return None if ad_name is None else naming.associate(ad_name)


def campaign_mapping(campaign_name: str | None, naming: NamingConvention = DEFAULT_NAMING) -> str | None:
    """Return the mapping in a campaign's name: by default the 5th part split on `_`, in lower case; None where absent.

    Parts are trimmed before blank ones are dropped: `MKT _ CBO _ PH _ 0412 _ Agriblast` gives `agriblast`.
    """
    found = None if campaign_name is None else naming.mapping(campaign_name)
    return None if found is None else values.nfc(found.lower())


def leads(actions: Any, lead_action_types: Sequence[str]) -> int:
    """Count the leads among a row's `actions`: the value of the first of `lead_action_types` present in them.

    Types are never added up, as `lead` is already Meta's sum of its parts. A fraction is rounded half up; an entry
    without a value counts 0. None present, or no actions: 0.
    """
    if actions is None:
        return 0
    if not isinstance(actions, list):
        raise FieldError("actions", actions, "is not a list")
    for wanted in lead_action_types:
        for action in actions:
            if action is None:
                continue
            if not isinstance(action, dict):
                raise FieldError("actions", action, "holds something other than an action")
            if action.get("action_type") == wanted:
                return _action_count(action.get("value"), wanted)
    return 0


def _action_count(value: Any, action_type: str) -> int:
    # A list that holds nothing is no value either.
    if isinstance(value, list) and all(part is None for part in value):
        return 0
    field = f"actions.{action_type}"
    return values.rounded_counter({field: value}, field)
