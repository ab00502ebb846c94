"""The warehouse's tables as SQLAlchemy Core: what the migrations create and what every query is built from.

Every table carries `tenant_id` and is under row-level security (see `warehouse.access`); deleting a tenant deletes its
rows with it. Money is `numeric(14,2)` in the currency's major unit; `date` and `date_local` are days, the others
instants with timezone.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from sync_pipeline.warehouse.figures import DERIVED, STORED, Derived, Figure, comment

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

MONEY = sa.Numeric(14, 2)
INSTANT = sa.DateTime(timezone=True)


def _tenant(*, primary_key: bool = True) -> sa.Column[str]:
    return sa.Column(
        "tenant_id",
        sa.Text,
        sa.ForeignKey("tenants.tenant_id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def _exclusion_columns() -> tuple[sa.Column[Any], sa.Column[Any]]:
    """Return the columns that a trigger keeps in step with `enabled`; see migration 0010."""
    return (
        sa.Column(
            "disabled_from",
            sa.Date,
            comment="first day that figures exclude; null while enabled; -infinity: every day",
        ),
        sa.Column(
            "recompute_from",
            sa.Date,
            comment="first day whose figures are to be recomputed; null: none",
        ),
    )


tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("timezone", sa.Text, nullable=False),
)

tenant_readers = sa.Table(
    "tenant_readers",
    metadata,
    sa.Column("role_name", sa.Text, primary_key=True, comment="a role of Postgres that may read this tenant alone"),
    _tenant(primary_key=False),
    sa.Column("made", sa.Boolean, nullable=False, comment="whether the role was made for this, and goes with it"),
    sa.Column("granted_at", INSTANT, nullable=False, server_default=sa.func.now()),
)

meta_ad_accounts = sa.Table(
    "meta_ad_accounts",
    metadata,
    _tenant(),
    sa.Column("account_id", sa.Text, primary_key=True, comment="without the act_ prefix"),
    sa.Column("name", sa.Text),
    sa.Column("currency", sa.Text),
    sa.Column("timezone_name", sa.Text, comment="Meta's insight days are days of this timezone"),
    sa.Column("account_status", sa.Integer),
    sa.Column(
        "enabled",
        sa.Boolean,
        nullable=False,
        server_default=sa.true(),
        comment="set to false to exclude the ad account from syncs, and from figures from disabled_from on",
    ),
    sa.Column("listed_at", INSTANT, comment="when discovery last saw it"),
    sa.Column("listed_run_id", sa.Text, comment="the run whose discovery last saw it"),
    *_exclusion_columns(),
    sa.CheckConstraint("enabled = (disabled_from IS NULL)", name="meta_ad_accounts_disabled_from_check"),
)

pos_shops = sa.Table(
    "pos_shops",
    metadata,
    _tenant(),
    sa.Column("shop_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("api_key_variable", sa.Text, comment="name of the environment variable whose key sees the shop"),
    sa.Column(
        "enabled",
        sa.Boolean,
        nullable=False,
        server_default=sa.true(),
        comment="set to false to exclude the shop from syncs, and from figures from disabled_from on",
    ),
    sa.Column("listed_at", INSTANT, comment="when discovery last saw it"),
    sa.Column("listed_run_id", sa.Text, comment="the run whose discovery last saw it"),
    *_exclusion_columns(),
    sa.CheckConstraint("enabled = (disabled_from IS NULL)", name="pos_shops_disabled_from_check"),
)

product_costs = sa.Table(
    "product_costs",
    metadata,
    _tenant(),
    sa.Column("line", sa.Integer, primary_key=True, autoincrement=False, comment="line of the tenant's CSV"),
    sa.Column("shop_id", sa.Text, comment="null: every shop of the tenant"),
    sa.Column("product_id", sa.Text, nullable=False, comment="product id, display id or custom id"),
    sa.Column("mapping", sa.Text),
    sa.Column("cogs", MONEY, comment="cost of one unit"),
    sa.Column("start_date", sa.Date, comment="null: since ever"),
    sa.Column("end_date", sa.Date, comment="last day, inclusive; null: still valid"),
)

pos_products = sa.Table(
    "pos_products",
    metadata,
    _tenant(),
    sa.Column("shop_id", sa.Text, primary_key=True),
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("variation_id", sa.Text, primary_key=True, comment="blank for a product without variations"),
    sa.Column("custom_id", sa.Text, comment="the product's own code"),
    sa.Column("display_id", sa.Text, comment="the variation's own code"),
    sa.Column("name", sa.Text, comment="the product's name"),
    sa.Column("retail_price", MONEY, nullable=False, comment="often 0 in Pancake"),
    sa.Column("listed_at", INSTANT, nullable=False, comment="when the catalogue last had it"),
    sa.Column("variation_custom_id", sa.Text, comment="the variation's own SKU"),
)

meta_ad_insights = sa.Table(
    "meta_ad_insights",
    metadata,
    _tenant(),
    sa.Column("account_id", sa.Text, primary_key=True, comment="without the act_ prefix"),
    sa.Column("ad_id", sa.Text, primary_key=True),
    sa.Column("date", sa.Date, primary_key=True, comment="day in the ad account's timezone"),
    sa.Column("campaign_id", sa.Text),
    sa.Column("campaign_name", sa.Text),
    sa.Column("adset_id", sa.Text),
    sa.Column("adset_name", sa.Text),
    sa.Column("ad_name", sa.Text),
    sa.Column("marketing_associate", sa.Text, comment="fourth part of the ad name, split at underscores"),
    sa.Column("spend", MONEY, nullable=False, comment="in the ad account's currency"),
    sa.Column("impressions", sa.BigInteger, nullable=False),
    sa.Column("clicks", sa.BigInteger, nullable=False, comment="all clicks"),
    sa.Column("link_clicks", sa.BigInteger, nullable=False, comment="Meta's inline_link_clicks"),
    sa.Column("leads", sa.BigInteger, nullable=False, comment="first of the tenant's lead action types in the row"),
    sa.Column("mapping", sa.Text, comment="fifth non-empty part of the campaign name, in lower case"),
    sa.Column("currency", sa.Text, comment="the ad account's, which spend is in"),
    sa.Column("status", sa.Text, comment="the ad's own status at the time of the sync"),
    sa.Column("effective_status", sa.Text, comment="the ad's status with its ad set's and campaign's"),
    sa.Column(
        "rules",
        sa.Text,
        comment="fingerprint of rules and settings that associate and mapping, and leads, come from; "
        "null: computed before version 0.2",
    ),
    sa.Index(None, "tenant_id", "date"),
    # Which fingerprints there are.
    sa.Index(None, "tenant_id", "rules"),
    # An ad's history, and whether an order's ad is known.
    sa.Index(None, "tenant_id", "ad_id", "date"),
)

pos_orders = sa.Table(
    "pos_orders",
    metadata,
    _tenant(),
    sa.Column("shop_id", sa.Text, primary_key=True),
    sa.Column("pos_order_id", sa.Text, primary_key=True, comment="numbered per shop"),
    sa.Column("inserted_at", INSTANT, nullable=False),
    sa.Column("updated_at", INSTANT),
    sa.Column("date_local", sa.Date, nullable=False, comment="day of inserted_at in the tenant's timezone"),
    sa.Column("status", sa.Integer, comment="Pancake's number; unknown ones are kept as they are"),
    sa.Column("status_name", sa.Text),
    sa.Column("total", MONEY, nullable=False, comment="after discount, else before it, else cash on delivery"),
    sa.Column("cod", MONEY, nullable=False),
    sa.Column("currency", sa.Text),
    sa.Column("cogs", MONEY, nullable=False, comment="dated unit cost x quantity; uncosted items count 0"),
    sa.Column("uncosted_quantity", sa.Numeric, nullable=False, comment="units for which no cost was found"),
    sa.Column("total_quantity", sa.Numeric, nullable=False, comment="with a fraction where goods are weighed"),
    sa.Column("mapping", sa.Text),
    sa.Column("p_utm_source", sa.Text),
    sa.Column("p_utm_medium", sa.Text),
    sa.Column("p_utm_campaign", sa.Text),
    sa.Column("p_utm_content", sa.Text),
    sa.Column("p_utm_term", sa.Text),
    sa.Column("p_utm_id", sa.Text),
    sa.Column("ad_id", sa.Text, comment="Pancake's own attribution"),
    sa.Column("utm_ad_id", sa.Text, comment="the ad id in p_utm_content, if there is one"),
    sa.Column("tracking", sa.Text),
    sa.Column(
        "data",
        JSONB,
        nullable=False,
        comment="the order as Pancake sent it, with the listed fields only unless the tenant stores customer data",
    ),
    sa.Column(
        "rules",
        sa.Text,
        comment="fingerprint of rules and settings that the other columns come from; null: computed before version 0.2",
    ),
    sa.Column(
        "ad_candidates",
        JSONB,
        comment="the ad ids found, in the order of the tenant's ad_id_fields; null: utm_ad_id, then ad_id",
    ),
    sa.Index(None, "tenant_id", "date_local"),
    sa.Index(None, "tenant_id", "rules"),
)

sync_log = sa.Table(
    "sync_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _tenant(primary_key=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False, comment="the Dagster run that committed the day"),
    sa.Column("rows", sa.BigInteger, nullable=False, comment="rows of that day fetched and stored"),
    sa.Column("changed", sa.BigInteger, nullable=False, comment="of these, new or different from what was stored"),
    sa.Column("removed", sa.BigInteger, nullable=False, comment="rows deleted because the API no longer returns them"),
    sa.Column("excluded", sa.BigInteger, nullable=False, comment="fetched but left out by rule"),
    sa.Column("amount", sa.Numeric(18, 2), nullable=False, comment="sum of spend, or of order totals"),
    sa.Column(
        "requests",
        sa.Integer,
        nullable=False,
        comment="HTTP requests; those of a window of days are counted on its first",
    ),
    sa.Column("complete", sa.Boolean, nullable=False, comment="false: more upstream than could be read; none removed"),
    sa.Column(
        "reported",
        JSONB,
        comment="what the API itself says: per ad account the day's spend, per shop the count of its window",
    ),
    sa.Column("started", INSTANT, nullable=False),
    sa.Column("finished", INSTANT, nullable=False),
    sa.Column(
        "rejected",
        sa.BigInteger,
        nullable=False,
        server_default=sa.text("0"),
        comment="fetched but unreadable, and so listed in rejected_rows",
    ),
    sa.Column(
        "missing",
        ARRAY(sa.Text),
        nullable=False,
        server_default=sa.text("'{}'"),
        comment="ad accounts and shops that refused, whose rows are those of an earlier sync; see sync_refusals",
    ),
    sa.Column(
        "fetched_at",
        INSTANT,
        comment="when the requests for the day began, those of a window of days with its first; null: at started",
    ),
    sa.Column(
        "over_at",
        INSTANT,
        comment="when the day is over in the tenant's timezone and in those of the ad accounts fetched; a day that was "
        "fetched earlier is not complete; null: when it is over in the tenant's timezone",
    ),
    sa.Index(None, "tenant_id", "source", "day"),
    sa.Index(None, "run_id"),
)

# What could not be read of the last fetch of each day. It never holds what was sent, which may be a customer's.
rejected_rows = sa.Table(
    "rejected_rows",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _tenant(primary_key=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("day", sa.Date, comment="the day that the row was listed in; null: a product, which has no day"),
    sa.Column("kind", sa.Text, nullable=False, comment="insight, account day, order or product"),
    sa.Column("account_id", sa.Text, comment="ad account of a row of Meta"),
    sa.Column("shop_id", sa.Text, comment="shop of a row of Pancake"),
    sa.Column("row_id", sa.Text, comment="id of the ad, order or product; null: it has no readable id"),
    sa.Column("field", sa.Text, nullable=False, comment="the field that cannot be read"),
    sa.Column("reason", sa.Text, nullable=False, comment="why it cannot be read; no text of the row is quoted"),
    sa.Column("run_id", sa.Text, nullable=False, comment="the Dagster run that fetched it"),
    sa.Column("at", INSTANT, nullable=False, server_default=sa.func.now()),
    sa.Index(None, "tenant_id", "source", "day"),
)

# The last error of each source; the others are in Dagster's event log.
sync_errors = sa.Table(
    "sync_errors",
    metadata,
    _tenant(),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, comment="the day that could not be stored"),
    sa.Column("account_id", sa.Text),
    sa.Column("shop_id", sa.Text),
    sa.Column("code", sa.Text, comment="the API's own"),
    sa.Column("message", sa.Text, nullable=False, comment="in one sentence, as the run's failure has it"),
    sa.Column("run_id", sa.Text, nullable=False, comment="the Dagster run that failed"),
    sa.Column("at", INSTANT, nullable=False),
    sa.Column("after_line", sa.BigInteger, nullable=False, comment="the last line of the sync log when it failed"),
)

# Why an account or shop was last refused. A run asks each once, and goes on without it.
sync_refusals = sa.Table(
    "sync_refusals",
    metadata,
    _tenant(),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column(
        "scope", sa.Text, primary_key=True, comment="ad account or shop; 'key in ...': the unknown shops of a key"
    ),
    sa.Column("message", sa.Text, nullable=False, comment="in one sentence, as the run's failure has it"),
    sa.Column("facts", JSONB, nullable=False, comment="the error's type, codes and message"),
    sa.Column("run_id", sa.Text, nullable=False, comment="the Dagster run that was refused"),
    sa.Column("after_line", sa.BigInteger, nullable=False, comment="the last line of the sync log when it was refused"),
    sa.Column("at", INSTANT, nullable=False, server_default=sa.func.now()),
)

# What the daily check found last about the API version and the credentials of each source; never a secret itself.
credential_expiries = sa.Table(
    "credential_expiries",
    metadata,
    _tenant(),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True, comment="api_version, token or data_access"),
    sa.Column("version", sa.Text, comment="the API version, of the subject api_version"),
    sa.Column(
        "state",
        sa.Text,
        nullable=False,
        comment="valid; refused by the API; unknown where the API does not tell when it ends",
    ),
    sa.Column("ends_at", INSTANT, comment="the instant it ends; null: no end, unless the state is refused or unknown"),
    sa.Column("checked_at", INSTANT, nullable=False, comment="when this was last found"),
)

# Metrics are read from it: adding up the sync log of all tenants would take seconds.
sync_counters = sa.Table(
    "sync_counters",
    metadata,
    _tenant(),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column(
        "counter",
        sa.Text,
        primary_key=True,
        comment="rows, days, requests, waits, wait_seconds or errors",
    ),
    sa.Column("class", sa.Text, primary_key=True, comment="kind of rows, waits or errors; blank: it has none"),
    sa.Column("total", sa.Double, nullable=False, comment="since the first sync; it only grows"),
)

figure_settings = sa.Table(
    "figure_settings",
    metadata,
    _tenant(),
    sa.Column("date", sa.Date, primary_key=True, comment="the day whose figures were computed with these settings"),
    sa.Column("outbound_fee", MONEY, nullable=False, comment="shipping, fulfilment and packaging of one order"),
    sa.Column("return_fee", MONEY, nullable=False, comment="per returned order"),
    sa.Column("cod_percent", sa.Numeric(7, 4), nullable=False, comment="of collected cash on delivery"),
    sa.Column("lost_share", sa.Numeric(5, 4), nullable=False, comment="of the COGS of returned orders; 1 is all"),
    sa.Column("ad_tax_percent", sa.Numeric(7, 4), nullable=False, comment="VAT and tax on ads, of ad_cost"),
    sa.Column("return_rate", sa.Numeric(5, 4), nullable=False, comment="assumed by margin_at_return_rate; 1 is all"),
)

delivery_rates = sa.Table(
    "delivery_rates",
    metadata,
    _tenant(),
    sa.Column("shop_id", sa.Text, primary_key=True),
    sa.Column("as_of", sa.Date, primary_key=True, comment="the day on which the rate was computed"),
    sa.Column(
        "delivery_rate",
        sa.Numeric(5, 4),
        nullable=False,
        comment="p: delivered orders among settled ones of the shop's last 60 settled days",
    ),
    sa.Column(
        "source",
        sa.Text,
        nullable=False,
        comment="shop; tenant where the shop has no settled day: the rate of all shops together; return_rate where no "
        "shop has one: 1 - the return_rate of the tenant file",
    ),
    sa.Column("settled_days", sa.Integer, nullable=False, comment="days that the rate is taken of"),
    sa.Column("settled_orders", sa.BigInteger, nullable=False),
    sa.Column("delivered_orders", sa.BigInteger, nullable=False),
)


def _figure(figure: Figure) -> sa.Column[Any]:
    if isinstance(figure, Derived):
        computed = sa.Computed(figure.expression, persisted=True)
        return sa.Column(figure.name, sa.Numeric(18, figure.scale), computed, comment=comment(figure))
    # Pieces of goods that are weighed have a fraction.
    kind = MONEY if figure.unit.is_money else sa.BigInteger() if figure.unit.is_count else sa.Numeric()
    return sa.Column(figure.name, kind, nullable=figure.needs_rates, comment=comment(figure))


ad_performance = sa.Table(
    "ad_performance",
    metadata,
    _tenant(primary_key=False),
    sa.Column("date", sa.Date, nullable=False),
    sa.Column("ad_id", sa.Text, comment="null: orders that matched no ad"),
    sa.Column("shop_id", sa.Text, comment="of orders that matched no ad"),
    sa.Column("mapping", sa.Text, comment="the campaign's; of orders without ad their own"),
    sa.Column("account_id", sa.Text),
    sa.Column("campaign_id", sa.Text),
    sa.Column("campaign_name", sa.Text),
    sa.Column("adset_id", sa.Text),
    sa.Column("adset_name", sa.Text),
    sa.Column("ad_name", sa.Text),
    sa.Column("marketing_associate", sa.Text),
    sa.Column("matched_by", sa.Text, comment="how orders were matched: the names of the fields, joined by +"),
    *map(_figure, STORED),
    *map(_figure, DERIVED),
    sa.Column(
        "projection_date", sa.Date, comment="as_of of the delivery_rates that open_margin was computed with, the latest"
    ),
    sa.Column(
        "rules", sa.Text, comment="fingerprint of rules and settings of the row's day; null: the next run recomputes it"
    ),
    # One row per ad and day, and one per shop and mapping of what matched no ad.
    sa.Index(
        "ad_performance_ad_key",
        "tenant_id",
        "date",
        "ad_id",
        unique=True,
        postgresql_where=sa.text("ad_id IS NOT NULL"),
    ),
    sa.Index(
        "ad_performance_unmatched_key",
        "tenant_id",
        "date",
        "shop_id",
        "mapping",
        unique=True,
        postgresql_where=sa.text("ad_id IS NULL"),
        postgresql_nulls_not_distinct=True,
    ),
)


@dataclass(frozen=True, slots=True)
class DailyTable:
    """A table that is synced day by day: which column is the day, which the account or shop, which the money.

    `row_id` is the column of the API's own id, and `kind` what `rejected_rows` calls a row. `instant`, where there is
    one, is what the day is derived from. Where the API may give several rows of one key, `part` are the columns that
    tell them apart, and `figures` those that are added up.
    """

    table: sa.Table
    day: str
    scope: str
    amount: str
    row_id: str
    kind: str
    instant: str | None = None
    part: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


INSIGHTS = DailyTable(
    meta_ad_insights,
    day="date",
    scope="account_id",
    amount="spend",
    row_id="ad_id",
    kind="insight",
    part=("campaign_id", "adset_id"),
    figures=("spend", "impressions", "clicks", "link_clicks", "leads"),
)
ORDERS = DailyTable(
    pos_orders,
    day="date_local",
    scope="shop_id",
    amount="total",
    row_id="pos_order_id",
    kind="order",
    instant="inserted_at",
)
