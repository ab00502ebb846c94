"""The tenant file: its model, and how a folder of tenant files is read.

One YAML file per tenant. An unusable file is set aside with its problems, one line each, and never affects the other
tenants. No message repeats the value of a secret, wherever in the file it was put.
"""

import difflib
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sync_pipeline import cron, plain_yaml, timezones
from sync_pipeline.date_ranges import AbsoluteRange, DateRange, Day, RelativeRange, RollingRange
from sync_pipeline.dated_values import BY_FORM, DATED, DISTINCT_STARTS, PLAIN, Dated
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.files import (
    FileMissingError,
    FileReadError,
    FileTooLargeError,
    read_text_file,
    shown_path,
)
from sync_pipeline.rates import DEFAULT_RETURN_RATE, DatedRates
from sync_pipeline.rows.names import NamingConvention, check_pattern
from sync_pipeline.rules import DEFAULT_AD_ID_FIELDS, AdIdField, LineDiscounts

SourceName = Literal["meta", "pos"]
BadRows = Literal["reject", "fail"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ENV_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_API_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]{1,2}")
_ACCOUNT_ID = re.compile(r"[0-9]{1,30}")
_SHOP_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_OWNER = re.compile(r"team:[A-Za-z0-9_]{1,60}|[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
# What a pasted key hardly ever is: plain words and short numbers, one after the other.
_PLAIN_NAME = re.compile(r"(?:[A-Za-z]+|[0-9]{1,4})(?:[._-]+(?:[A-Za-z]+|[0-9]{1,4}))*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_COMMA_IN_NUMBER = re.compile(r"[+-]?[0-9. ]*,[0-9., ]*")
_NUMBER_FORM = "write numbers without commas, and decimals with a point, such as 12.5"
_EARLIEST_START = date(2000, 1, 1)
_PLACE_FORM = (
    "must be {env: NAME} or {file: PATH}: an environment variable in capitals, or a file named by an absolute path or "
    "from this file's folder, with ./ in front of all but plain words; a secret itself never belongs here"
)
_LONGEST_SECRET = 65_536

# The catalog's group of files that cannot be used, whose assets must not have the names of a tenant's.
BROKEN_GROUP: Final = "broken_tenant_files"

MAX_TENANT_FILE_BYTES: Final = 1_000_000
MAX_PROBLEMS: Final = 20
MAX_NAME_LENGTH: Final = 100
MAX_TEXT_LENGTH: Final = 200
MAX_DESCRIPTION_LENGTH: Final = 2_000
MAX_IDS: Final = 5_000
MAX_WORKFLOWS: Final = 50
MAX_LIST_ENTRIES: Final = 100
MAX_BACKFILL_DAYS: Final = 36_500
MAX_MONEY_DIVISOR: Final = 1_000_000
# Every minute, hour, day, month and weekday written out takes 356 characters, and a field of 60 parts.
MAX_CRON_LENGTH: Final = 400
MAX_CRON_PARTS: Final = 60


class TenantFolderError(SyncPipelineError):
    """The folder of tenant files cannot be read at all."""

    def __init__(self, folder: Path, why: str) -> None:
        self.folder = folder
        self.why = why
        super().__init__(f"{folder}: {why}; create it, or name another in SYNC_PIPELINE_TENANTS")


class MissingSecretError(SyncPipelineError):
    """The variable or file that a tenant file names does not hold a usable secret; `place` says which it is."""

    def __init__(self, tenant: str, field: str, place: str, why: str) -> None:
        self.tenant = tenant
        self.field = field
        self.place = place
        self.why = why
        super().__init__(f"tenant {tenant}: {field}: {place} {why}")


class UnknownWorkflowError(SyncPipelineError):
    """A tenant has no workflow of that name."""

    def __init__(self, tenant: str, workflow: str, existing: tuple[str, ...]) -> None:
        self.tenant = tenant
        self.workflow = workflow
        self.existing = existing
        known = f"it has {', '.join(existing)}" if existing else "it has none"
        super().__init__(f"tenant {tenant} has no workflow {workflow!r}; {known}")


class UnknownTenantError(SyncPipelineError):
    """No file of the folder is of that tenant."""

    def __init__(self, tenant: str, existing: tuple[str, ...]) -> None:
        self.tenant = tenant
        self.existing = existing
        known = f"there are {', '.join(existing)}" if existing else "there is none"
        super().__init__(f"there is no tenant {tenant!r}; {known}")


class BrokenTenantError(SyncPipelineError):
    """The file of the tenant asked for cannot be used."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Secret:
    """A secret's value, shown only by `reveal()`: its text forms hide it, and it cannot be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never written anywhere")


def _shown(value: str) -> str:
    # A long run without blanks may be a key pasted into the wrong field.
    return repr(value) if len(value) <= 24 or (len(value) <= 80 and len(value.split()) > 2) else "this value"


def _name(value: str) -> str:
    if len(value) > MAX_NAME_LENGTH:
        raise ValueError(f"must be at most {MAX_NAME_LENGTH} characters long")
    if not _NAME.fullmatch(value):
        raise ValueError(f"{_shown(value)} must be small letters, digits and _, beginning with a letter")
    return value


def _tenant_id(value: str) -> str:
    if value == BROKEN_GROUP:
        raise ValueError(f"{value} is the group of files that cannot be used; choose another id")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    if len(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"must be at most {MAX_TEXT_LENGTH} characters long")
    if _CONTROL.search(value):
        raise ValueError("must be one line without control characters")
    return value.strip()


def _description(value: str) -> str:
    if _CONTROL.search(value.replace("\n", "").replace("\t", "")):
        raise ValueError("must not hold control characters")
    return value


def _timezone(value: str) -> str:
    if value in timezones.timezone_names():
        return value
    subject = "" if len(value) > timezones.MAX_NAME_LENGTH else f"{_shown(value)} "
    raise ValueError(f"{subject}is not an IANA timezone; {timezones.advice(value)}")


def _cron(value: str) -> str:
    if len(value) > MAX_CRON_LENGTH:
        raise ValueError(f"must be at most {MAX_CRON_LENGTH} characters long")
    expression = " ".join(value.split())
    if any(field.count(",") >= MAX_CRON_PARTS for field in expression.split()):
        raise ValueError(f"must have at most {MAX_CRON_PARTS} parts in each of its fields")
    if problem := cron.problem(expression):
        raise ValueError(f"{_shown(value)} {problem}")
    return expression


def _api_version(value: object) -> object:
    if isinstance(value, str) and _API_VERSION.fullmatch(value):
        return value
    raise ValueError("must look like v26.0")


def _identifier(value: object, *, what: str, prefix: str, pattern: re.Pattern[str]) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise TypeError(f"must be {what}")
    text = text.removeprefix(prefix)
    if not pattern.fullmatch(text):
        raise ValueError(f"must be {what}")
    if text.startswith("0"):
        raise ValueError(f"must be {what}; none begins with 0")
    return text


_account_id = functools.partial(
    _identifier, what="an ad account id, such as 1234567890 or act_1234567890", prefix="act_", pattern=_ACCOUNT_ID
)
_shop_id = functools.partial(_identifier, what="a shop id, such as 100200", prefix="", pattern=_SHOP_ID)


def _all_or_ids(value: object, identifier: "functools.partial[str]") -> object:
    if value == "all":
        return value
    if not isinstance(value, list | tuple):
        raise ValueError("must be all or a list of ids")  # noqa: TRY004 (pydantic reports ValueError by field)
    if not value:
        raise ValueError("must not be an empty list; all stands for every one")
    if len(value) > MAX_IDS:
        raise ValueError(f"must list at most {MAX_IDS:,} ids; all stands for every one")
    ids = []
    for position, item in enumerate(value):
        try:
            ids.append(identifier(item))
        except (TypeError, ValueError) as error:
            raise ValueError(f"entry {position}: {error}") from None
    for repeated in _repeated(ids):
        raise ValueError(f"{_shown_id(repeated)} is listed twice")
    return tuple(ids)


def _shown_id(value: object) -> str:
    # A shop id may hold letters, and so may a key that was pasted in its place.
    return str(value) if str(value).isdecimal() else "an id"


def _keyed_by_id(value: object, identifier: Callable[[object], str], what: str) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"must map {what}")  # noqa: TRY004
    if len(value) > MAX_IDS:
        raise ValueError(f"must map at most {MAX_IDS:,} ids")
    try:
        return {identifier(key): entry for key, entry in value.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"each key {error}") from None


def _repeated(values: Iterable[Hashable]) -> list[Hashable]:
    return [value for value, times in Counter(values).items() if times > 1]


def _currency(value: str) -> str:
    if not _CURRENCY.fullmatch(value):
        raise ValueError(f"{_shown(value)} must be three capitals, such as PHP")
    return value


def _owner(value: str) -> str:
    # What Dagster takes for an asset's owner; one it refuses would take down every tenant's assets with it.
    if not _OWNER.fullmatch(value):
        raise ValueError(f"{_shown(value)} must be team:<name> or an e-mail address")
    return value


def _none_as_empty(value: object) -> object:
    return () if value is None else value


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must not be an empty list")
    for repeated in _repeated(value):
        raise ValueError(f"{repeated} is listed twice")
    return value


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, AfterValidator(_not_blank)]
AccountIds = Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(lambda v: _all_or_ids(v, _account_id))]
ShopIds = Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(lambda v: _all_or_ids(v, _shop_id))]
DaysPerRequest = Annotated[int, Field(ge=1, le=90, strict=True)]
DelayMs = Annotated[int, Field(ge=0, le=3_600_000, strict=True)]
Fee = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=2)]
Percent = Annotated[Decimal, Field(ge=0, le=100, max_digits=20, decimal_places=15)]
RatePercent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=4)]
Multiplier = Annotated[Decimal, Field(gt=0, max_digits=14, decimal_places=6)]
ShareOfOne = Annotated[Decimal, Field(ge=0, le=1, decimal_places=4)]
DatedFee = Annotated[
    Annotated[Fee, Tag(PLAIN)] | Annotated[tuple[Dated[Fee], ...], Tag(DATED)], BY_FORM, DISTINCT_STARTS
]
DatedPercent = Annotated[
    Annotated[RatePercent, Tag(PLAIN)] | Annotated[tuple[Dated[RatePercent], ...], Tag(DATED)], BY_FORM, DISTINCT_STARTS
]
DatedMultiplier = Annotated[
    Annotated[Multiplier, Tag(PLAIN)] | Annotated[tuple[Dated[Multiplier], ...], Tag(DATED)], BY_FORM, DISTINCT_STARTS
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SecretRef(_Section):
    """Where a secret is: in the environment variable `env`, or in the mounted `file`. Here it never is.

    A file's path is taken from the tenant file's folder, and is absolute once loaded.
    """

    env: str | None = None
    file: Path | None = None
    _tenant: str = PrivateAttr(default="")
    _field: str = PrivateAttr(default="")

    @model_validator(mode="before")
    @classmethod
    def _only_a_place(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, SecretRef):
            return value
        match value:
            case {"env": str(name), **rest} if not rest and _ENV_NAME.fullmatch(name):
                return value
            case {"file": str(path), **rest} if not rest and _is_path(path):
                return {"file": ((info.context or {}).get("folder", Path()) / path).absolute()}
        raise ValueError(_PLACE_FORM)

    @property
    def source(self) -> str:
        """The place in one word: the variable's name, or `file:` and the path."""
        return f"file:{self.file}" if self.file else str(self.env)

    @property
    def place(self) -> str:
        """The place as a sentence names it."""
        return f"the file {shown_path(self.file)}" if self.file else f"the environment variable {self.env}"

    def resolve(self, environ: Mapping[str, str]) -> Secret:
        """Read the secret, when a run needs it, from `environ` or the file, so that a changed one counts at once.

        Blanks and line breaks around the value are dropped. Raises MissingSecretError, naming tenant, field and
        place, where there is none, or it holds characters that no HTTP header may carry.
        """
        value, why = _content(self.file) if self.file else (environ.get(str(self.env)), "is not set")
        if value is None:
            self._missing(why)
        value = value.strip()
        if not value:
            self._missing("is empty")
        if not value.isascii() or not value.isprintable() or " " in value:
            self._missing("holds blanks or characters that no key has; was it copied whole?")
        return Secret(value)

    def _missing(self, why: str) -> NoReturn:
        raise MissingSecretError(self._tenant, self._field, self.place, why)

    def _belongs_to(self, tenant: str, field: str) -> None:
        self._tenant, self._field = tenant, field


def _is_path(text: str) -> bool:
    """Whether a text names a file, and is not a key or an address that was pasted where a path belongs."""
    if not text.isprintable() or text != text.strip() or "://" in text:
        return False
    if Path(text).is_absolute() or text.startswith(("./", "../")):
        return Path(text).name not in {"", ".", ".."}
    return all(_PLAIN_NAME.fullmatch(part.removeprefix(".")) for part in text.split("/"))


def _content(file: Path) -> tuple[str | None, str]:
    """A file's text, or None and why there is none."""
    try:
        return read_text_file(file, _LONGEST_SECRET), ""
    except FileMissingError:
        return None, "does not exist"
    except FileTooLargeError:
        return None, "is too long to hold a key"
    except FileReadError as error:
        return None, error.why


class RateLimit(_Section):
    """How fast requests may follow each other: the pause in milliseconds, per source; 0 means none.

    With `pacing: adaptive` Meta's usage headers decide instead, where an answer has them. `max_wait_s` bounds what one
    request waits for a rate limit in all, before it fails with it.
    """

    meta_delay_ms: DelayMs = 3000
    pos_delay_ms: DelayMs = 3000
    pacing: Literal["fixed", "adaptive"] = "fixed"
    max_wait_s: Annotated[int, Field(ge=0, le=86_400, strict=True)] = 1800


def _in_nfc(value: str) -> str:
    # Names are stored in NFC, so that what is searched for in them must be, too.
    return unicodedata.normalize("NFC", value)


def _pattern(group: str) -> Any:
    def checked(value: str) -> str:
        value = _in_nfc(value)
        check_pattern(value, group)
        return value

    return AfterValidator(checked)


Position = Annotated[int, Field(ge=1, le=50, strict=True)]


class Naming(_Section):
    """How the tenant names ads and campaigns. The default is `A_B_C_ASSOCIATE_...` and `A_B_C_D_MAPPING_...`."""

    separator: Annotated[str, AfterValidator(_in_nfc)] = Field(
        default="_", min_length=1, max_length=10, description="What is between the parts of a name."
    )
    associate_position: Position = Field(
        default=4, description="Which part of an ad's name is the marketing associate; empty parts count."
    )
    mapping_position: Position = Field(
        default=5, description="Which part of a campaign's name is the mapping; blank parts do not count."
    )
    associate_pattern: Annotated[str, _pattern("associate")] | None = Field(
        default=None,
        description="In place of associate_position: a regular expression in RE2 syntax, of at most 200 characters, "
        "whose group `associate` is searched for in the first 500 characters of an ad's name.",
    )
    mapping_pattern: Annotated[str, _pattern("mapping")] | None = Field(
        default=None,
        description="In place of mapping_position: a regular expression like associate_pattern, whose group `mapping` "
        "is searched for in a campaign's name.",
    )

    @model_validator(mode="after")
    def _position_or_pattern(self) -> Self:
        for part in ("associate", "mapping"):
            both = {f"{part}_position", f"{part}_pattern"}
            if both <= self.model_fields_set and getattr(self, f"{part}_pattern") is not None:
                raise ValueError(f"{part}_position and {part}_pattern exclude each other; remove one")
        return self

    @property
    def convention(self) -> NamingConvention:
        """The convention that rows are read with."""
        return NamingConvention(**self.model_dump())


class MetaSource(_Section):
    """Where a tenant's ad insights come from: one access token, all or some of the ad accounts it reaches.

    `accounts` are kept as text without `act_`. `lead_action_types`: the first type present in a row counts.
    `spend_multiplier` gives, per account id, what its spend is multiplied by to be in the tenant's currency: a
    number, or a list of dated ones.
    """

    api_version: Annotated[str, BeforeValidator(_api_version)] = "v26.0"
    access_token: SecretRef
    app_secret: SecretRef | None = None
    accounts: AccountIds = "all"
    lead_action_types: tuple[Text, ...] = Field(default=("lead",), min_length=1, max_length=MAX_LIST_ENTRIES)
    days_per_request: DaysPerRequest = 31
    spend_multiplier: dict[str, DatedMultiplier] = {}
    naming: Naming = Naming()

    @field_validator("spend_multiplier", mode="before")
    @classmethod
    def _account_ids_as_text(cls, value: object) -> object:
        return _keyed_by_id(value, _account_id, "account ids to numbers")


class PancakeKey(_Section):
    """One Pancake POS key and all or some of the shops it reaches.

    `money_divisor` gives, per shop id, the number of the shop's minor units in one unit of its currency,
    `line_discounts`, per shop id, whether `total_discount` contains the discounts of an order's lines.
    """

    api_key: SecretRef
    shops: ShopIds = "all"
    money_divisor: dict[str, Annotated[int, Field(ge=1, le=MAX_MONEY_DIVISOR, strict=True)]] = {}
    line_discounts: dict[str, LineDiscounts] = Field(
        default={},
        description="Per shop id: included where an order's total_discount contains the discounts of its lines, "
        "separate where it does not, auto (the default) to decide for each order by what the customer pays.",
    )
    days_per_request: DaysPerRequest = 31

    @field_validator("money_divisor", mode="before")
    @classmethod
    def _divisors_by_shop(cls, value: object) -> object:
        return _keyed_by_id(value, _shop_id, "shop ids to whole numbers")

    @field_validator("line_discounts", mode="before")
    @classmethod
    def _line_discounts_by_shop(cls, value: object) -> object:
        return _keyed_by_id(value, _shop_id, "shop ids to auto, included or separate")

    @model_validator(mode="after")
    def _settings_of_these_shops(self) -> Self:
        if self.shops != "all":
            for setting in ("money_divisor", "line_discounts"):
                for shop in getattr(self, setting).keys() - set(self.shops):
                    raise ValueError(f"{setting} names shop {_shown_id(shop)}, which shops does not list")
        return self

    def names_shop(self, shop_id: str) -> bool:
        """Whether this entry itself names a shop."""
        listed = self.shops != "all" and shop_id in self.shops
        return listed or shop_id in self.money_divisor or shop_id in self.line_discounts

    def divisor_for(self, shop_id: str) -> int:
        """Return what a shop's amounts are divided by, 1 where nothing is said."""
        return self.money_divisor.get(shop_id, 1)


class Workflow(_Section):
    """A named sync: which sources, which days, and when, as cron in the tenant's timezone or by hand only.

    `max_retries` is how often one request is sent again after a transient error. With `on_error: continue` a run goes
    on with the other days and sources, stores days without the accounts and shops that refuse permanently, and still
    ends as failed.
    """

    name: Name
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_LENGTH), AfterValidator(_description)] = ""
    sources: tuple[SourceName, ...] = Field(min_length=1, max_length=MAX_LIST_ENTRIES)
    date_range: DateRange
    schedule: Annotated[str, AfterValidator(_cron)] | None = None
    enabled: bool = True
    rate_limit: RateLimit | None = None
    max_retries: Annotated[int, Field(ge=0, le=20, strict=True)] = 0
    on_error: Literal["stop", "continue"] = "stop"

    @field_validator("sources")
    @classmethod
    def _each_source_once(cls, value: tuple[SourceName, ...]) -> tuple[SourceName, ...]:
        for repeated in _repeated(value):
            raise ValueError(f"{repeated} is listed twice")
        return value


class Fees(_Section):
    """What an order costs beside its goods; each is a number, or a list of dated ones, as product costs are.

    `shipping`, `fulfilment` and `packaging` are per order that is sent, `return_fee` per returned order, all in the
    tenant's currency; `cod_percent` is of the cash on delivery of delivered orders.
    """

    shipping: DatedFee = Decimal(0)
    fulfilment: DatedFee = Decimal(0)
    packaging: DatedFee = Decimal(0)
    return_fee: DatedFee = Decimal(0)
    cod_percent: DatedPercent = Decimal(0)


class AdTaxes(_Section):
    """Taxes that are paid on top of ad spend, in percent of it; each is a number, or a list of dated ones."""

    vat_percent: DatedPercent = Decimal(0)
    tax_percent: DatedPercent = Decimal(0)


class Margins(_Section):
    """Assumptions of the margins, as shares of 1.

    `return_rate` is the rate of returns that `margin_at_return_rate` assumes; `lost_share` is the share of the COGS of
    returned orders that is lost, because the goods cannot be sold again.
    """

    return_rate: ShareOfOne = DEFAULT_RETURN_RATE
    lost_share: ShareOfOne = Decimal(0)


class RestateDays(_Section):
    """How many days up to yesterday every scheduled run of a rolling range fetches, the range itself included.

    Meta restates its figures for up to 28 days (facts on insights).
    """

    meta: Annotated[int, Field(ge=0, le=90, strict=True)] = 7
    pos: Annotated[int, Field(ge=0, le=90, strict=True)] = 0


class LateOrders(_Section):
    """How often Pancake is asked which orders have changed, so that their days are synced again."""

    enabled: Annotated[bool, Field(strict=True)] = True
    every_minutes: Annotated[int, Field(ge=1, le=10_080, strict=True)] = 60


class Checks(_Section):
    """What a tenant's checks put up with: shares in percent, and how long after its schedule a day may be missing."""

    max_spend_without_associate: Percent = Decimal(20)
    max_orders_without_ad: Percent = Decimal(50)
    late_after_minutes: Annotated[int, Field(ge=0, le=10_080, strict=True)] = 120


class Alerts(_Section):
    """Where a failed run of the tenant is told: a webhook that takes JSON with a `text`, as Slack's do.

    Whoever has a webhook's address can post to it, so it is a secret.
    """

    webhook: SecretRef


class Tenant(_Section):
    """One tenant file, validated.

    `start_date` is the first day that can be synced, a day of `timezone`. `product_costs` is an existing file,
    its path resolved from the tenant file's folder. `owners` are shown on the tenant's assets; `currency` is what
    its orders and, multiplied, its spend are in. A backfill of more than `backfill_days_per_run` days is cut into
    several runs; without it, it is one. Customers' names, phones and addresses are stored only with
    `store_customer_data`.
    """

    tenant_id: Annotated[Name, AfterValidator(_tenant_id)] = Field(alias="tenant")
    name: Text
    timezone: Annotated[str, AfterValidator(_timezone)] = "Asia/Manila"
    start_date: Day
    meta: MetaSource | None = None
    pancake: Annotated[tuple[PancakeKey, ...], Field(max_length=MAX_LIST_ENTRIES), BeforeValidator(_none_as_empty)] = ()
    product_costs: Path | None = None
    rate_limit: RateLimit = RateLimit()
    backfill_days_per_run: Annotated[int, Field(ge=1, le=MAX_BACKFILL_DAYS, strict=True)] | None = None
    currency: Annotated[str, AfterValidator(_currency)] | None = None
    owners: Annotated[tuple[Annotated[str, AfterValidator(_owner)], ...], Field(max_length=MAX_LIST_ENTRIES)] = ()
    alerts: Alerts | None = None
    fees: Fees = Fees()
    ad_taxes: AdTaxes = AdTaxes()
    margins: Margins = Margins()
    restate_days: RestateDays = RestateDays()
    late_orders: LateOrders = LateOrders()
    checks: Checks = Checks()
    ad_id_fields: Annotated[tuple[AdIdField, ...], AfterValidator(_each_once)] = Field(
        default=DEFAULT_AD_ID_FIELDS,
        description="The fields of an order that hold the id of the ad it came from, in the order they are tried.",
    )
    store_customer_data: Annotated[bool, Field(strict=True)] = False
    on_bad_row: BadRows = Field(
        default="reject",
        description="What an unreadable row of an API does: reject leaves it out, lists it in rejected_rows and lets a "
        "check fail; fail ends the run, and nothing of the day is stored.",
    )
    workflows: Annotated[tuple[Workflow, ...], Field(max_length=MAX_WORKFLOWS), BeforeValidator(_none_as_empty)] = ()

    @field_validator("start_date")
    @classmethod
    def _plausible_start(cls, value: date) -> date:
        if value < _EARLIEST_START:
            raise ValueError(f"{value} is before {_EARLIEST_START}; check the year")
        return value

    @field_validator("product_costs", mode="before")
    @classmethod
    def _existing_file(cls, value: object, info: ValidationInfo) -> object:
        if value is None:
            return None
        if not isinstance(value, str | Path) or not str(value):
            raise ValueError("must be the name of a CSV file beside this one")
        path = (info.context or {}).get("folder", Path()) / value
        try:
            missing = not path.exists() or path.is_dir()
            regular = path.is_file()
        except OSError:
            missing, regular = True, False
        if missing:
            shown = _shown(str(value)).replace("this value", "of this name")
            raise ValueError(f"there is no file {shown}; the path is taken from this file's folder")
        if not regular:
            raise ValueError("names a pipe, socket or device, not a regular file")
        return path

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_sources()
        self._check_workflows()
        for field, secret in self._secrets():
            secret._belongs_to(self.tenant_id, field)
        return self

    def _check_sources(self) -> None:
        if not self.meta and not self.pancake:
            raise ValueError("neither meta nor pancake is configured; at least one is needed")
        if self.meta and self.meta.accounts != "all":
            for account in self.meta.spend_multiplier.keys() - set(self.meta.accounts):
                raise ValueError(f"meta.spend_multiplier names account {account}, which accounts does not list")
        for place in _repeated(key.api_key.place for key in self.pancake):
            raise ValueError(f"pancake: two keys name the same place, {place}")
        for shop in _repeated(shop for key in self.pancake if key.shops != "all" for shop in key.shops):
            raise ValueError(f"pancake: shop {_shown_id(shop)} is listed under two keys")

    def _check_workflows(self) -> None:
        for name in _repeated(workflow.name for workflow in self.workflows):
            raise ValueError(f"workflows: two are named {name!r}")
        for index, workflow in enumerate(self.workflows):
            for source in workflow.sources:
                if source not in self.sources:
                    section = {"meta": "meta", "pos": "pancake"}[source]
                    raise ValueError(f"workflows.{index}.sources: {source} needs a section {section} in this file")
            if isinstance(workflow.date_range, AbsoluteRange) and workflow.date_range.since < self.start_date:
                since = workflow.date_range.since
                raise ValueError(
                    f"workflows.{index}.date_range.since: {since} is before the tenant's start_date {self.start_date}"
                )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is valid in the file but probably not meant, one sentence each."""
        found = timezones.warning(self.timezone)
        return (f"tenant {self.tenant_id}: timezone: {found}",) if found else ()

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """Every secret that the file names."""
        return tuple(secret for _, secret in self._secrets())

    def _secrets(self) -> Iterator[tuple[str, SecretRef]]:
        if self.meta:
            yield "meta.access_token", self.meta.access_token
            if self.meta.app_secret:
                yield "meta.app_secret", self.meta.app_secret
        for index, key in enumerate(self.pancake):
            yield f"pancake.{index}.api_key", key.api_key
        if self.alerts:
            yield "alerts.webhook", self.alerts.webhook

    @property
    def sources(self) -> tuple[SourceName, ...]:
        """The sources this tenant has configured, in the order they are synced."""
        sources: list[SourceName] = []
        if self.meta:
            sources.append("meta")
        if self.pancake:
            sources.append("pos")
        return tuple(sources)

    @property
    def rates(self) -> DatedRates:
        """The fees, taxes, multipliers and assumptions that the tenant's figures are computed with."""
        return DatedRates(
            outbound_fees=(self.fees.shipping, self.fees.fulfilment, self.fees.packaging),
            return_fee=self.fees.return_fee,
            cod_percent=self.fees.cod_percent,
            ad_taxes=(self.ad_taxes.vat_percent, self.ad_taxes.tax_percent),
            spend_multipliers=self.meta.spend_multiplier if self.meta else {},
            lost_share=self.margins.lost_share,
            return_rate=self.margins.return_rate,
        )

    def pancake_key_of(self, shop_id: str, source: str | None) -> PancakeKey | None:
        """Return the entry of a shop whose key was last read from `source`; None where no entry can be its own."""
        for key in self.pancake:
            if key.api_key.source == source:
                return key
        return next((key for key in self.pancake if key.names_shop(shop_id)), None)

    def workflow(self, name: str) -> Workflow:
        """Return the workflow of that name. Raises UnknownWorkflowError, naming those that exist."""
        for workflow in self.workflows:
            if workflow.name == name:
                return workflow
        raise UnknownWorkflowError(self.tenant_id, name, tuple(workflow.name for workflow in self.workflows))

    def rate_limit_for(self, workflow: Workflow | None) -> RateLimit:
        """Return the rate limit of a workflow, or of a run started without one (None).

        What the workflow leaves unsaid is the tenant's, and what the tenant leaves unsaid the default.
        """
        own = workflow.rate_limit if workflow is not None else None
        if own is None:
            return self.rate_limit
        return self.rate_limit.model_copy(update={field: getattr(own, field) for field in own.model_fields_set})


@dataclass(frozen=True)
class BrokenTenantFile:
    """A tenant file that cannot be used, with all its problems, one line each; `tenant_id` is what it seems to name."""

    file: Path
    tenant_id: str | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class TenantFolder:
    """The tenants of a folder, and the files set aside, both by file name; `files` says whose file is which."""

    tenants: tuple[Tenant, ...]
    broken: tuple[BrokenTenantFile, ...]
    files: Mapping[str, Path]


def find_tenant(folder: TenantFolder, tenant_id: str) -> Tenant:
    """Return the tenant of that id. Raises BrokenTenantError where its file is, UnknownTenantError without one."""
    for tenant in folder.tenants:
        if tenant.tenant_id == tenant_id:
            return tenant
    for broken in folder.broken:
        if tenant_id in (broken.tenant_id, broken.file.stem):
            raise BrokenTenantError(broken.problems)
    raise UnknownTenantError(tenant_id, tuple(tenant.tenant_id for tenant in folder.tenants))


def load_tenant(folder: Path, tenant_id: str) -> Tenant:
    """Return the tenant of that id as `find_tenant` does, but parse no file that plainly names another."""
    try:
        return find_tenant(load_tenants(folder, only=[tenant_id]), tenant_id)
    except UnknownTenantError:
        # To say which tenants there are, or that a file of that name is broken, all have to be read.
        return find_tenant(load_tenants(folder), tenant_id)


def load_tenants(folder: Path, only: Collection[str] | None = None) -> TenantFolder:
    """Read every `*.yaml` and `*.yml` file of a folder, by name; files whose name begins with a dot are left out.

    With `only` files are left out, too, that plainly name another tenant than these: most files need not be parsed.
    A broken file never prevents the others: it is returned as a BrokenTenantFile. Of two files that name the same
    tenant, or whose jobs would get the same name, the second is broken. Raises TenantFolderError where the folder
    is missing or cannot be listed.
    """
    try:
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in {".yaml", ".yml"} and not file.name.startswith(".")
        )
    except FileNotFoundError:
        raise TenantFolderError(folder, "there is no such folder") from None
    except NotADirectoryError:
        raise TenantFolderError(folder, "is not a folder") from None
    except OSError as error:
        raise TenantFolderError(folder, f"cannot be read ({error.strerror})") from None

    tenants: list[Tenant] = []
    broken: list[BrokenTenantFile] = []
    file_of_tenant: dict[str, Path] = {}
    file_of_job: dict[str, Path] = {}
    for file in files:
        if only is not None and _named_tenant(file) not in {None, *only}:
            continue
        loaded = _load_file(file)
        problems = list(loaded.problems) if isinstance(loaded, BrokenTenantFile) else []
        if loaded.tenant_id in file_of_tenant:
            first = file_of_tenant[loaded.tenant_id]
            problems.append(
                f"{shown_path(file)}: tenant: {loaded.tenant_id!r} is already the tenant of {shown_path(first)}; "
                "choose another id"
            )
        elif isinstance(loaded, Tenant):
            problems.extend(
                f"{shown_path(file)}: workflows.{index}.name: its job {job} would have the name of one in "
                f"{shown_path(file_of_job[job])}"
                for index, job in enumerate(_job_names(loaded))
                if job in file_of_job
            )
        if loaded.tenant_id is not None:
            file_of_tenant.setdefault(loaded.tenant_id, file)
        if isinstance(loaded, Tenant) and not problems:
            tenants.append(loaded)
            file_of_job.update(dict.fromkeys(_job_names(loaded), file))
        else:
            broken.append(BrokenTenantFile(file, loaded.tenant_id, tuple(problems)))
    return TenantFolder(tuple(tenants), tuple(broken), file_of_tenant)


def _job_names(tenant: Tenant) -> list[str]:
    return [f"{tenant.tenant_id}__{workflow.name}" for workflow in tenant.workflows]


def _load_file(file: Path) -> Tenant | BrokenTenantFile:
    """Load one file. Whatever goes wrong becomes a problem of this file, so that the other tenants load."""
    try:
        return _parse_file(file)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (one file must not stop the others)
        return _broken(file, None, unexpected(error))


def unexpected(error: Exception) -> str:
    """Describe an exception that no code foresaw, by its type alone: its text may quote the file."""
    return f"cannot be loaded (unexpected {type(error).__name__}); report this as a bug"


def _broken(file: Path, tenant_id: str | None, *problems: str) -> BrokenTenantFile:
    return BrokenTenantFile(file, tenant_id, tuple(f"{shown_path(file)}: {problem}" for problem in problems))


def _parse_file(file: Path) -> Tenant | BrokenTenantFile:
    if not _is_text(file.name):
        return _broken(file, None, "has a name that is not UTF-8 text; rename it")
    try:
        text = read_text_file(file, MAX_TENANT_FILE_BYTES)
    except FileReadError as error:
        return _broken(file, None, error.why)
    try:
        data = plain_yaml.read(text)
    except yaml.YAMLError as error:
        return _broken(file, _guess_tenant(text), plain_yaml.problem_of(error))
    if data is None:
        return _broken(file, None, "is empty; a tenant file begins with tenant: <id>")
    if not isinstance(data, dict):
        return _broken(file, None, "must be a mapping of keys, beginning with tenant: <id>")
    try:
        return Tenant.model_validate(data, context={"folder": file.parent})
    except ValidationError as error:
        named = data.get("tenant")
        tenant_id = named if isinstance(named, str) and _NAME.fullmatch(named) else None
        return _broken(file, tenant_id, *_problems(error))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problems(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False)
    problems = dict.fromkeys(map(_field_problem, details[:MAX_PROBLEMS]))
    left_out = len(details) - MAX_PROBLEMS
    return [*problems, *([f"{left_out:,} more problems are not listed"] if left_out > 0 else [])]


def _named_tenant(file: Path) -> str | None:
    try:
        return _guess_tenant(read_text_file(file, MAX_TENANT_FILE_BYTES))
    except FileReadError:
        return None


def _guess_tenant(text: str) -> str | None:
    found = re.search(r"""^["']?tenant["']?[ ]*:[ ]*["']?([a-z][a-z0-9_]*)["']?[ ]*\r?(?:\#.*)?$""", text, re.MULTILINE)
    return found[1] if found else None


_DATED_FIELDS: Final = frozenset({*Fees.model_fields, *AdTaxes.model_fields})
_RANGES: dict[str, type[BaseModel]] = {"rolling": RollingRange, "relative": RelativeRange, "absolute": AbsoluteRange}
_SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Tenant,
    ("meta",): MetaSource,
    ("meta", "naming"): Naming,
    ("pancake",): PancakeKey,
    ("rate_limit",): RateLimit,
    ("alerts",): Alerts,
    ("fees",): Fees,
    ("ad_taxes",): AdTaxes,
    ("margins",): Margins,
    ("restate_days",): RestateDays,
    ("late_orders",): LateOrders,
    ("checks",): Checks,
    ("workflows",): Workflow,
    ("workflows", "rate_limit"): RateLimit,
    **{("workflows", "date_range", kind): model for kind, model in _RANGES.items()},
}


def _field_problem(detail: Any) -> str:
    location: tuple[int | str, ...] = detail["loc"]
    kind: str = detail["type"]
    if kind == "missing":
        message = "is missing"
    elif kind in {"extra_forbidden", "invalid_key"}:
        message = f"is not a known key; {_key_advice(location)}"
    elif kind == "string_type":
        message = "must be text; put it in quotes"
    elif kind == "decimal_type" and location[-1] == PLAIN:
        message = "must be a number, or a list of {value, start_date, end_date}"
    elif kind in {"model_type", "model_attributes_type", "dict_type"}:
        message = "must be a mapping of keys"
    elif kind in {"tuple_type", "list_type"}:
        message = "must be a list"
    elif kind == "too_long":
        message = f"must have at most {detail['ctx']['max_length']} entries"
    elif kind == "string_too_long":
        message = f"must be at most {detail['ctx']['max_length']} characters long"
    elif kind == "too_short":
        message = "must not be an empty list"
    elif kind in {"union_tag_invalid", "union_tag_not_found"}:
        message = f"type must be one of {', '.join(_RANGES)}"
    else:
        message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if advice := _value_advice(kind, detail.get("input")):
            message += f" {advice[0].upper()}{advice[1:]}" if message.endswith("?") else f"; {advice}"
    path = ".".join(plain_yaml.shown_key(str(part)) for part in _without_union_tag(location))
    return f"{path}: {message}" if path else message


def _value_advice(kind: str, value: object) -> str:
    """Return advice about a likely typing mistake in a value, without quoting the value."""
    if not isinstance(value, str):
        return ""
    if kind.startswith(("decimal_", "int_", "float_")) and _COMMA_IN_NUMBER.fullmatch(value):
        return "write it without commas and decimals" if kind.startswith("int_") else _NUMBER_FORM
    blank = plain_yaml.odd_blank(value)
    return f"the value holds {blank}" if blank else ""


def _without_union_tag(location: tuple[int | str, ...]) -> list[int | str]:
    return [part for i, part in enumerate(location) if not _is_tag(location, i)]


def _is_tag(location: tuple[int | str, ...], place: int) -> bool:
    """Whether a part of a location is no key of the file, but the form that pydantic took a value for."""
    part, before = location[place], location[max(place - 2, 0) : place]
    if part in {PLAIN, DATED}:
        return "spend_multiplier" in before[:1] or not _DATED_FIELDS.isdisjoint(map(str, before[1:]))
    return "date_range" in before[-1:] and part in _RANGES


def _key_advice(location: tuple[int | str, ...]) -> str:
    if str(location[-1]).isdecimal() and len(location) > 1:
        # YAML reads {value: 12,5} as two keys.
        return _NUMBER_FORM
    keys = tuple(part for part in location[:-1] if isinstance(part, str))
    section = Dated if keys[-1:] == (DATED,) else _SECTIONS[keys]
    known = [field.alias or name for name, field in section.model_fields.items()]
    near = difflib.get_close_matches(str(location[-1])[:MAX_NAME_LENGTH], known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
