import copy
import pickle
import subprocess
import sys
import traceback
import unicodedata
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.date_ranges import AbsoluteRange, RelativeRange, RollingRange
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.last_good import load_tenants_in_use
from sync_pipeline.rates import Rates
from sync_pipeline.rows.names import NamingConvention
from sync_pipeline.tenants import (
    BrokenTenantFile,
    MissingSecretError,
    Naming,
    PancakeKey,
    RateLimit,
    Secret,
    Tenant,
    TenantFolderError,
    UnknownWorkflowError,
    find_tenant,
    load_tenant,
    load_tenants,
)

ACME = """
tenant: acme
name: Acme Trading
timezone: Asia/Manila
start_date: 2024-11-01
meta:
  api_version: v26.0
  access_token: {env: ACME_META_TOKEN}
  accounts: all
  lead_action_types: [lead]
pancake:
  - api_key: {env: ACME_PANCAKE_KEY}
    shops: all
product_costs: acme_costs.csv
workflows:
  - name: daily_sync
    description: Yesterday, every night
    sources: [meta, pos]
    date_range: {type: rolling, offset_days: 1}
    schedule: "0 2 * * *"
    enabled: true
    rate_limit: {meta_delay_ms: 3000, pos_delay_ms: 3000}
"""

SMALL: dict[str, Any] = {
    "tenant": "acme",
    "name": "Acme",
    "start_date": "2024-11-01",
    "meta": {"access_token": {"env": "ACME_META_TOKEN"}},
    "pancake": [{"api_key": {"env": "ACME_PANCAKE_KEY"}}],
    "workflows": [{"name": "nightly", "sources": ["meta"], "date_range": {"type": "rolling"}}],
}

CRON_RANGES = (range(60), range(24), range(1, 32), range(1, 13), range(7))

TOKEN = "EAABwzLixnjYBO7kZCq0Zb1vS9token"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tenants").mkdir()
    return tmp_path / "tenants"


def write(folder: Path, content: str | bytes | dict[str, Any], name: str = "acme.yaml") -> None:
    if isinstance(content, dict):
        content = yaml.safe_dump(content, sort_keys=False)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def changed(path: str, value: Any) -> dict[str, Any]:
    """SMALL with one value set, the path written like in the messages: `workflows.0.schedule`."""
    data = copy.deepcopy(SMALL)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = data
    for part in parents:
        place = place[part]
    place[last] = value
    return data


def only_tenant(folder: Path) -> Tenant:
    loaded = load_tenants(folder)
    assert loaded.broken == ()
    (tenant,) = loaded.tenants
    return tenant


def only_broken(folder: Path) -> BrokenTenantFile:
    loaded = load_tenants(folder)
    assert loaded.tenants == ()
    (broken,) = loaded.broken
    return broken


def only_problem(folder: Path, content: str | bytes | dict[str, Any]) -> str:
    write(folder, content)
    (problem,) = only_broken(folder).problems
    assert "\n" not in problem
    return problem.removeprefix(f"{folder}/acme.yaml: ")


class TestAGoodFile:
    def test_is_read_as_the_contract_shows_it(self, folder: Path) -> None:
        write(folder, ACME)
        (folder / "acme_costs.csv").write_text("")
        tenant = only_tenant(folder)
        assert (tenant.tenant_id, tenant.name, tenant.timezone) == ("acme", "Acme Trading", "Asia/Manila")
        assert tenant.start_date == date(2024, 11, 1)
        assert tenant.sources == ("meta", "pos")
        assert tenant.meta
        assert tenant.meta.access_token.source == "ACME_META_TOKEN"
        assert (tenant.meta.api_version, tenant.meta.accounts) == ("v26.0", "all")
        assert tenant.pancake[0].shops == "all"
        assert tenant.product_costs == folder / "acme_costs.csv"
        workflow = tenant.workflow("daily_sync")
        assert workflow.sources == ("meta", "pos")
        assert workflow.date_range == RollingRange(offset_days=1)
        assert (workflow.schedule, workflow.enabled) == ("0 2 * * *", True)
        assert workflow.rate_limit == RateLimit(meta_delay_ms=3000, pos_delay_ms=3000)

    def test_may_leave_out_what_has_a_default(self, folder: Path) -> None:
        write(folder, SMALL)
        tenant = only_tenant(folder)
        assert tenant.timezone == "Asia/Manila"
        assert tenant.meta
        assert tenant.meta.api_version == "v26.0"
        assert tenant.meta.lead_action_types == ("lead",)
        assert tenant.meta.app_secret is None
        assert tenant.pancake[0].divisor_for("100200") == 1
        assert tenant.product_costs is None
        workflow = tenant.workflow("nightly")
        assert (workflow.description, workflow.schedule, workflow.enabled) == ("", None, True)
        assert workflow.date_range == RollingRange(offset_days=1)

    @pytest.mark.parametrize(("section", "source"), [("meta", "pos"), ("pancake", "meta")])
    def test_needs_only_one_of_the_two_sources(self, folder: Path, section: str, source: str) -> None:
        data = changed("workflows", [])
        del data[section]
        write(folder, data)
        assert only_tenant(folder).sources == (source,)

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ({"type": "rolling", "offset_days": 0}, RollingRange(offset_days=0)),
            ({"type": "relative", "days": 7}, RelativeRange(days=7)),
            (
                {"type": "absolute", "since": "2024-11-01", "until": "2024-11-30"},
                AbsoluteRange(since=date(2024, 11, 1), until=date(2024, 11, 30)),
            ),
        ],
    )
    def test_has_three_kinds_of_date_range(self, folder: Path, written: dict[str, Any], read: object) -> None:
        write(folder, changed("workflows.0.date_range", written))
        assert only_tenant(folder).workflow("nightly").date_range == read

    def test_may_write_dates_without_quotes(self, folder: Path) -> None:
        lines = yaml.safe_dump(SMALL).replace("'2024-11-01'", "2024-11-01")
        assert "start_date: 2024-11-01\n" in lines
        write(folder, lines)
        assert only_tenant(folder).start_date == date(2024, 11, 1)

    def test_keeps_ad_accounts_as_text_without_act(self, folder: Path) -> None:
        write(folder, changed("meta.accounts", ["act_123", "456", 12345678901234567890]))
        tenant = only_tenant(folder)
        assert tenant.meta
        assert tenant.meta.accounts == ("123", "456", "12345678901234567890")

    def test_keeps_shops_as_text_and_knows_their_money_divisor(self, folder: Path) -> None:
        key = {"api_key": {"env": "KEY"}, "shops": [100200, "7"], "money_divisor": {100200: 100}}
        write(folder, changed("pancake", [key]))
        (pancake,) = only_tenant(folder).pancake
        assert pancake.shops == ("100200", "7")
        assert (pancake.divisor_for("100200"), pancake.divisor_for("7")) == (100, 1)

    def test_settings_of_rows_have_documented_defaults(self, folder: Path) -> None:
        write(folder, SMALL)
        tenant = only_tenant(folder)
        assert tenant.ad_id_fields == ("p_utm_content", "ad_id")
        assert tenant.on_bad_row == "reject"
        assert tenant.meta
        assert tenant.meta.naming.convention == NamingConvention()
        assert tenant.pancake[0].line_discounts == {}
        for model, fields in {
            Tenant: ["ad_id_fields", "on_bad_row"],
            PancakeKey: ["line_discounts"],
            Naming: list(Naming.model_fields),
        }.items():
            assert all(model.model_fields[field].description for field in fields)

    def test_may_let_an_unreadable_row_fail(self, folder: Path) -> None:
        write(folder, changed("on_bad_row", "fail"))
        assert only_tenant(folder).on_bad_row == "fail"

    def test_may_say_how_ads_and_campaigns_are_named(self, folder: Path) -> None:
        decomposed = unicodedata.normalize("NFD", "Đà")
        naming = {"separator": f" {decomposed} ", "mapping_pattern": f"{decomposed}(?P<mapping>.*)"}
        write(folder, changed("meta.naming", {**naming, "associate_position": 1}))
        tenant = only_tenant(folder)
        assert tenant.meta
        assert tenant.meta.naming.convention == NamingConvention(" Đà ", 1, 5, None, "Đà(?P<mapping>.*)")

    def test_finds_the_key_of_a_shop(self, folder: Path) -> None:
        keys = [
            {"api_key": {"env": "ONE"}, "line_discounts": {7: "included"}},
            {"api_key": {"env": "TWO"}, "shops": [8]},
        ]
        write(folder, changed("pancake", keys))
        tenant = only_tenant(folder)
        first, second = tenant.pancake
        assert tenant.pancake_key_of("8", "ONE") is first
        assert (tenant.pancake_key_of("7", "GONE"), tenant.pancake_key_of("8", None)) == (first, second)
        assert tenant.pancake_key_of("a", "GONE") is None

    def test_may_begin_with_a_byte_order_mark(self, folder: Path) -> None:
        write(folder, b"\xef\xbb\xbf" + yaml.safe_dump(SMALL).encode())
        assert only_tenant(folder).tenant_id == "acme"

    def test_may_share_values_by_anchor(self, folder: Path) -> None:
        text = yaml.safe_dump({**SMALL, "workflows": []}).replace("workflows: []\n", "")
        write(
            folder,
            text
            + "workflows:\n"
            + "  - &nightly {name: nightly, sources: [meta], date_range: {type: rolling}}\n"
            + "  - {<<: *nightly, name: weekly}\n",
        )
        assert [workflow.name for workflow in only_tenant(folder).workflows] == ["nightly", "weekly"]

    def test_means_a_tenant_named_no_when_it_says_no(self, folder: Path) -> None:
        write(folder, yaml.safe_dump(SMALL).replace("tenant: acme", "tenant: no"))
        assert only_tenant(folder).tenant_id == "no"

    def test_takes_an_empty_section_as_absent(self, folder: Path) -> None:
        write(folder, {**SMALL, "pancake": None, "product_costs": None})
        assert only_tenant(folder).sources == ("meta",)

    def test_cannot_be_changed_once_loaded(self, folder: Path) -> None:
        write(folder, SMALL)
        tenant = only_tenant(folder)
        with pytest.raises(ValueError, match="frozen"):
            tenant.name = "Other"  # type: ignore[misc]

    @pytest.mark.parametrize(
        "cron",
        [
            *["0 2 * * *", "*/30 * * * *", "0 3 * * 1", "0 3 * * MON-FRI", " 0  2 * * * ", "0 0 * * 5#2"],
            " ".join(",".join(map(str, values)) for values in CRON_RANGES),
        ],
    )
    def test_may_have_any_five_field_schedule(self, folder: Path, cron: str) -> None:
        write(folder, changed("workflows.0.schedule", cron))
        assert only_tenant(folder).workflow("nightly").schedule == " ".join(cron.split())


class TestRateLimit:
    def test_of_a_workflow_wins_over_the_tenant_s_which_wins_over_the_default(self, folder: Path) -> None:
        workflow = SMALL["workflows"][0]
        data = {
            **SMALL,
            "rate_limit": {"pos_delay_ms": 50},
            "workflows": [
                workflow,
                {**workflow, "name": "gentle", "rate_limit": {"meta_delay_ms": 9000}},
                {**workflow, "name": "eager", "rate_limit": {"meta_delay_ms": 0, "pos_delay_ms": 0}},
            ],
        }
        write(folder, data)
        tenant = only_tenant(folder)
        assert tenant.rate_limit_for(None) == RateLimit(meta_delay_ms=3000, pos_delay_ms=50)
        assert tenant.rate_limit_for(tenant.workflow("nightly")) == RateLimit(meta_delay_ms=3000, pos_delay_ms=50)
        assert tenant.rate_limit_for(tenant.workflow("gentle")) == RateLimit(meta_delay_ms=9000, pos_delay_ms=50)
        assert tenant.rate_limit_for(tenant.workflow("eager")) == RateLimit(meta_delay_ms=0, pos_delay_ms=0)


class TestRates:
    def test_may_be_plain_numbers(self, folder: Path) -> None:
        write(folder, {**SMALL, "fees": {"shipping": 55, "packaging": 8.5, "cod_percent": 2.5}})
        assert only_tenant(folder).rates.on(date(2026, 1, 1)) == Rates(
            per_order=Decimal("63.5"), cod_percent=Decimal("2.5")
        )

    def test_may_change_with_the_day(self, folder: Path) -> None:
        data = changed("meta.spend_multiplier", {"act_7": [{"value": 58.5, "end_date": "2026-01-31"}], 8: 2})
        data["fees"] = {
            "shipping": [{"value": 50}, {"value": 55, "start_date": "2026-02-01", "end_date": "2026-02-28"}],
            "return_fee": [{"value": 40, "start_date": "2026-02-01"}],
        }
        data["ad_taxes"] = {"vat_percent": [{"value": 12, "start_date": "2026-02-01"}], "tax_percent": 1}
        data["margins"] = {"return_rate": 0.3, "lost_share": 0.05}
        write(folder, data)
        rates = only_tenant(folder).rates
        assumed = {"lost_share": Decimal("0.05"), "return_rate": Decimal("0.3")}
        assert rates.on(date(2026, 1, 31)) == Rates(
            per_order=Decimal(50),
            spend_multipliers={"7": Decimal("58.5"), "8": Decimal(2)},
            ad_tax_percent=Decimal(1),
            **assumed,
        )
        assert rates.on(date(2026, 2, 1)) == Rates(
            per_order=Decimal(55),
            return_fee=Decimal(40),
            spend_multipliers={"8": Decimal(2)},
            ad_tax_percent=Decimal(13),
            **assumed,
        )
        assert rates.on(date(2026, 3, 1)).per_order == 50


class TestWorkflow:
    def test_that_is_unknown_names_those_that_exist(self, folder: Path) -> None:
        write(folder, SMALL)
        with pytest.raises(UnknownWorkflowError, match="no workflow 'weekly'; it has nightly") as raised:
            only_tenant(folder).workflow("weekly")
        assert (raised.value.tenant, raised.value.workflow, raised.value.existing) == ("acme", "weekly", ("nightly",))


NUMBER_FORM = "write numbers without commas, and decimals with a point, such as 12.5"
WHOLE_NUMBER_FORM = "write it without commas and decimals"
PROBLEMS = [
    ("tenant", "Acme", "tenant: 'Acme' must be small letters, digits and _, beginning with a letter"),
    ("tenant", "9lives", "tenant: '9lives' must be small letters, digits and _, beginning with a letter"),
    ("tenant", 12, "tenant: must be text; put it in quotes"),
    ("tenant", True, "tenant: must be text; put it in quotes"),
    ("name", "  ", "name: must not be blank"),
    ("timezone", "Asia/Manilla", "timezone: 'Asia/Manilla' is not an IANA timezone; did you mean Asia/Manila?"),
    ("timezone", "../etc/passwd", "timezone: '../etc/passwd' is not an IANA timezone; use a name such as Asia/Manila"),
    (
        "timezone",
        "GMT+8",
        "timezone: 'GMT+8' is not an IANA timezone; an offset is not a timezone; did you mean ",
    ),
    ("timezone", "localtime", "timezone: 'localtime' is not an IANA timezone; use a name such as Asia/Manila"),
    (
        "timezone",
        "Asia/Manila\u00a0",
        "timezone: 'Asia/Manila\\xa0' is not an IANA timezone; did you mean Asia/Manila? The value holds a no-",
    ),
    ("margins", {"return_rate": "0,2"}, f"margins.return_rate: must be a valid decimal; {NUMBER_FORM}"),
    ("rate_limit", {"pos_delay_ms": "3,000"}, f"rate_limit.pos_delay_ms: must be a valid integer; {WHOLE_NUMBER_FORM}"),
    ("start_date", 20241101, "start_date: must be a day written YYYY-MM-DD, such as 2024-11-01"),
    ("start_date", "01/11/2024", "start_date: must be a day written YYYY-MM-DD, such as 2024-11-01"),
    ("start_date", "2024-02-30", "start_date: 2024-02-30 is not a day of the calendar"),
    ("start_date", "0024-11-01", "start_date: 0024-11-01 is before 2000-01-01; check the year"),
    ("metta", {}, "metta: is not a known key; did you mean meta?"),
    ("meta.api_version", "26.0", "meta.api_version: must look like v26.0"),
    ("meta.accounts", [], "meta.accounts: must not be an empty list; all stands for every one"),
    ("meta.accounts", "some", "meta.accounts: must be all or a list of ids"),
    ("meta.accounts", ["1", "act_1"], "meta.accounts: 1 is listed twice"),
    ("meta.lead_action_types", [], "meta.lead_action_types: must not be an empty list"),
    ("pancake.0.shops", [True], "pancake.0.shops: entry 0: must be a shop id, such as 100200"),
    ("pancake.0.shops", ["../1"], "pancake.0.shops: entry 0: must be a shop id, such as 100200"),
    ("pancake.0.money_divisor", {"1": 0}, "pancake.0.money_divisor.1: must be greater than or equal to 1"),
    ("pancake.0.money_divisor", {"1": 2.5}, "pancake.0.money_divisor.1: must be a valid integer"),
    (
        "pancake.0.line_discounts",
        {"1": "twice"},
        "pancake.0.line_discounts.1: must be 'auto', 'included' or 'separate'",
    ),
    ("pancake.0.line_discounts", "auto", "pancake.0.line_discounts: must map shop ids to auto, included or separate"),
    ("on_bad_row", "skip", "on_bad_row: must be 'reject' or 'fail'"),
    ("on_bad_row", True, "on_bad_row: must be 'reject' or 'fail'"),
    ("ad_id_fields", [], "ad_id_fields: must not be an empty list"),
    ("ad_id_fields", ["utm_content"], "ad_id_fields.0: must be 'p_utm_source', 'p_utm_medium', 'p_utm_campaign'"),
    ("ad_id_fields", ["ad_id", "ad_id"], "ad_id_fields: ad_id is listed twice"),
    ("meta.naming", {"seperator": "-"}, "meta.naming.seperator: is not a known key; did you mean separator?"),
    ("meta.naming", {"separator": ""}, "meta.naming.separator: "),
    ("meta.naming", {"associate_position": 0}, "meta.naming.associate_position: must be greater than or equal to 1"),
    (
        "meta.naming",
        {"mapping_pattern": "(?P<mapping>marker-secret"},
        "meta.naming.mapping_pattern: is not a regular expression in RE2 syntax: missing )",
    ),
    (
        "meta.naming",
        {"associate_pattern": "(?P<associate>a)(?=b)"},
        "meta.naming.associate_pattern: is not a regular expression in RE2 syntax: invalid perl operator",
    ),
    (
        "meta.naming",
        {"associate_pattern": "(?P<mapping>a)"},
        "meta.naming.associate_pattern: must have a group named associate: (?P<associate>...)",
    ),
    (
        "meta.naming",
        {"mapping_pattern": "(?P<mapping>" + "a" * 188 + ")"},
        "meta.naming.mapping_pattern: must have at most 200 characters, has 201",
    ),
    (
        "meta.naming",
        {"mapping_position": 5, "mapping_pattern": "(?P<mapping>a)"},
        "meta.naming: mapping_position and mapping_pattern exclude each other; remove one",
    ),
    ("pancake", {}, "pancake: must be a list"),
    ("product_costs", "costs.csv", "product_costs: there is no file 'costs.csv'; the path is taken from this file's"),
    ("product_costs", ".", "product_costs: there is no file '.'; the path is taken from this file's folder"),
    ("workflows.0.name", "Nightly-1", "workflows.0.name: 'Nightly-1' must be small letters, digits and _"),
    ("workflows.0.sources", [], "workflows.0.sources: must not be an empty list"),
    ("workflows.0.sources", ["meta", "meta"], "workflows.0.sources: meta is listed twice"),
    ("workflows.0.sources", ["meta", "tiktok"], "workflows.0.sources.1: must be 'meta' or 'pos'"),
    ("workflows.0.shedule", "0 2 * * *", "workflows.0.shedule: is not a known key; did you mean schedule?"),
    (
        "workflows.0.schedule",
        "99 2 * * *",
        "workflows.0.schedule: '99 2 * * *' has the minute 99, which must be from 0 to 59",
    ),
    (
        "workflows.0.schedule",
        "0 2 * * 8",
        "workflows.0.schedule: '0 2 * * 8' has the day of the week 8, which must be from 0 to 7 (0 and 7 are Sunday)",
    ),
    ("workflows.0.schedule", "@daily", "workflows.0.schedule: '@daily' is not a 5-field cron expression"),
    ("workflows.0.schedule", "0 0 2 * * *", "workflows.0.schedule: '0 0 2 * * *' is not a 5-field cron expression"),
    ("workflows.0.schedule", "R 2 * * *", "workflows.0.schedule: 'R 2 * * *' is not a 5-field cron expression"),
    ("workflows.0.schedule", "0 0 31 2,4 *", "workflows.0.schedule: '0 0 31 2,4 *' never occurs: those months have no"),
    (
        "workflows.0.schedule",
        "\uff19 2 * * *",
        "workflows.0.schedule: '\uff19 2 * * *' is not a 5-field cron",
    ),
    (
        "workflows.0.schedule",
        ",".join(["*/1"] * 2000) + " 2 * * *",
        "workflows.0.schedule: must be at most 400 characters long",
    ),
    (
        "workflows.0.schedule",
        ",".join(["0"] * 61) + " 2 * * *",
        "workflows.0.schedule: must have at most 60 parts in each of its fields",
    ),
    ("tenant", "a" * 101, "tenant: must be at most 100 characters long"),
    ("name", "a" * 201, "name: must be at most 200 characters long"),
    ("name", "two\nlines", "name: must be one line without control characters"),
    ("name", "\x00", "name: must be one line without control characters"),
    ("timezone", "x" * 101, "timezone: is not an IANA timezone; use a name such as Asia/Manila"),
    ("workflows.0.description", "x" * 2001, "workflows.0.description: must be at most 2000 characters long"),
    ("workflows.0.description", "\x1b[2J", "workflows.0.description: must not hold control characters"),
    ("workflows", SMALL["workflows"] * 51, "workflows: must have at most 50 entries"),
    ("owners", ["team:x"] * 101, "owners: must have at most 100 entries"),
    ("meta.accounts", list(range(1, 5002)), "meta.accounts: must list at most 5,000 ids; all stands for every one"),
    ("meta.spend_multiplier", dict.fromkeys(range(1, 5002), 1), "meta.spend_multiplier: must map at most 5,000 ids"),
    (
        "meta.spend_multiplier",
        {"act_7": [{"value": 0, "start_date": "2026-01-01"}]},
        "meta.spend_multiplier.7.0.value: must be greater than 0",
    ),
    ("meta.spend_multiplier", {7: 0}, "meta.spend_multiplier.7: must be greater than 0"),
    ("fees", {"shipping": -1}, "fees.shipping: must be greater than or equal to 0"),
    ("fees", {"shipping": {"value": 1}}, "fees.shipping: must be a number, or a list of {value, start_date, end_date}"),
    ("fees", {"shipping": []}, "fees.shipping: must not be an empty list"),
    ("fees", {"shipping": [5]}, "fees.shipping.0: must be a mapping of keys"),
    ("fees", {"shipping": [{}]}, "fees.shipping.0.value: is missing"),
    (
        "fees",
        {"return_fee": [{"value": 1, "start": "2026-01-01"}]},
        "fees.return_fee.0.start: is not a known key; did you mean start_date?",
    ),
    (
        "fees",
        {"cod_percent": [{"value": 1}, {"value": 101, "start_date": "2026-01-01"}]},
        "fees.cod_percent.1.value: must be less than or equal to 100",
    ),
    (
        "fees",
        {"packaging": [{"value": 1, "start_date": "2026-02-01", "end_date": "2026-01-31"}]},
        "fees.packaging.0: start_date 2026-02-01 is after end_date 2026-01-31",
    ),
    (
        "fees",
        {
            "packaging": [
                {"value": 1, "start_date": "2026-02-01"},
                {"value": 2},
                {"value": 3, "start_date": "2026-02-01"},
            ]
        },
        "fees.packaging: entries 0 and 2 both have start_date 2026-02-01; change or remove one",
    ),
    (
        "fees",
        {"packaging": [{"value": 1}, {"value": 2, "end_date": "2026-02-01"}]},
        "fees.packaging: entries 0 and 1 both have no start_date; change or remove one",
    ),
    ("fees", {"packaging": [{"value": 1}] * 101}, "fees.packaging: must have at most 100 entries"),
    ("fees", {"plain": 1}, "fees.plain: is not a known key; known here: shipping, fulfilment, packaging, return_fee"),
    ("fees", {"dated": []}, "fees.dated: is not a known key"),
    ("ad_taxes", {"vat_percent": 101}, "ad_taxes.vat_percent: must be less than or equal to 100"),
    ("ad_taxes", {"vat": 12}, "ad_taxes.vat: is not a known key; known here: vat_percent, tax_percent"),
    ("margins", {"return_rate": 20}, "margins.return_rate: must be less than or equal to 1"),
    ("margins", {"lost_share": -0.1}, "margins.lost_share: must be greater than or equal to 0"),
    ("meta.lead_action_types", ["lead"] * 101, "meta.lead_action_types: must have at most 100 entries"),
    ("pancake.0.money_divisor", {"1": 10**7}, "pancake.0.money_divisor.1: must be less than or equal to 1000000"),
    ("pancake.0.shops", ["token1token", "token1token"], "pancake.0.shops: an id is listed twice"),
    ("backfill_days_per_run", 10**6, "backfill_days_per_run: must be less than or equal to 36500"),
    ("checks", {"max_orders_without_ad": "1E-999999"}, "checks.max_orders_without_ad: Decimal input should have no"),
    ("product_costs", "/dev/zero", "product_costs: names a pipe, socket or device, not a regular file"),
    ("product_costs", "a\x00b", "product_costs: there is no file 'a\\x00b'; the path is taken from this file's"),
    ("workflows.0.date_range", {"type": "rolling", "offset_days": -1}, "workflows.0.date_range.offset_days: must be"),
    ("workflows.0.date_range", {"type": "rolling", "offset_days": True}, "workflows.0.date_range.offset_days: must be"),
    ("workflows.0.date_range", {"type": "relative", "days": 0}, "workflows.0.date_range.days: must be greater than"),
    ("workflows.0.date_range", {"type": "relative"}, "workflows.0.date_range.days: is missing"),
    ("workflows.0.date_range", {"type": "rolling", "days": 7}, "workflows.0.date_range.days: is not a known key"),
    ("workflows.0.date_range", {"days": 7}, "workflows.0.date_range: type must be one of rolling, relative, absolute"),
    (
        "workflows.0.date_range",
        {"type": "absolute", "since": "2024-11-05", "until": "2024-11-01"},
        "workflows.0.date_range: since 2024-11-05 is after until 2024-11-01",
    ),
    (
        "workflows.0.date_range",
        {"type": "absolute", "since": "2024-10-31", "until": "2024-11-01"},
        "workflows.0.date_range.since: 2024-10-31 is before the tenant's start_date 2024-11-01",
    ),
    ("workflows.0.rate_limit", {"meta_delay_ms": -1}, "workflows.0.rate_limit.meta_delay_ms: must be greater than or"),
    ("workflows.0.rate_limit", {"meta_delay": 1}, "workflows.0.rate_limit.meta_delay: is not a known key; did you"),
    ("workflows.0", "nightly", "workflows.0: must be a mapping of keys"),
    ("workflows", SMALL["workflows"] * 2, "workflows: two are named 'nightly'"),
    (
        "pancake",
        SMALL["pancake"] * 2,
        "pancake: two keys name the same place, the environment variable ACME_PANCAKE_KEY",
    ),
    ("pancake", None, "workflows.0.sources: pos needs a section pancake in this file"),
    ("meta", None, "neither meta nor pancake is configured; at least one is needed"),
]


class TestWarnings:
    def test_of_a_timezone_with_a_reversed_sign(self, folder: Path) -> None:
        write(folder, changed("timezone", "Etc/GMT+8"))
        assert only_tenant(folder).warnings == (
            "tenant acme: timezone: Etc/GMT+8 is UTC-8, because names that begin with Etc/GMT have the sign reversed; "
            "for UTC+8 write a city, such as Asia/Manila",
        )

    def test_of_an_ordinary_file_are_none(self, folder: Path) -> None:
        write(folder, SMALL)
        assert only_tenant(folder).warnings == ()


class TestAProblem:
    @pytest.mark.parametrize(("path", "value", "expected"), PROBLEMS)
    def test_names_file_and_field_in_one_line(self, folder: Path, path: str, value: Any, expected: str) -> None:
        data = changed(path, value)
        if path == "pancake" and value is None:
            data["workflows"][0]["sources"] = ["pos"]
        if path == "meta":
            data.update(pancake=[], workflows=[])
        assert only_problem(folder, data).startswith(expected)

    def test_is_reported_together_with_the_others(self, folder: Path) -> None:
        data = changed("timezone", "Manila")
        del data["name"]
        data["workflows"][0]["schedule"] = "soon"
        write(folder, data)
        problems = only_broken(folder).problems
        assert [problem.split(": ")[1] for problem in problems] == ["name", "timezone", "workflows.0.schedule"]

    def test_of_a_shop_under_two_keys_is_found(self, folder: Path) -> None:
        keys = [{"api_key": {"env": name}, "shops": [7]} for name in ("ONE", "TWO")]
        assert only_problem(folder, changed("pancake", keys)) == "pancake: shop 7 is listed under two keys"

    @pytest.mark.parametrize(("setting", "value"), [("money_divisor", 100), ("line_discounts", "included")])
    def test_of_a_setting_for_a_shop_not_listed_is_found(self, folder: Path, setting: str, value: Any) -> None:
        key = {"api_key": {"env": "KEY"}, "shops": [7], setting: {8: value}}
        assert only_problem(folder, changed("pancake", [key])).startswith(f"pancake.0: {setting} names shop 8")


YAML_PROBLEMS = [
    ("name:\u00a0Acme", "line 4, column 6: holds a no-break space (U+00A0); write an ordinary space"),
    ("meta:\n\u00a0 accounts: all", "line 5, column 1: holds a no-break space (U+00A0); write an ordinary space"),
    ("name\u00a0: Acme", "line 4, column 1: holds a no-break space (U+00A0); write an ordinary space"),
    ("# a\u00a0b\nname: [a", "line 6, column 1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ("name: a\nname: b", "line 5, column 1: name is given twice"),
    ("meta:\n  accounts: all\n  accounts: [1]", "line 6, column 3: accounts is given twice"),
    ("workflows:\n  - schedule: * 2 * * *", "line 5, column 16: not valid YAML: a value that begins with * must stand"),
    ("name: [a", "line 5, column 1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ("meta:\n\taccounts: all", "line 5, column 1: not valid YAML: indent with blanks, not with tabs"),
    ("name: !!timestamp x", "line 4, column 7: not valid YAML: a value that begins with ! or % must stand in quotes"),
    ("---\ntenant: other", "line 4, column 1: not valid YAML: one file holds one tenant; remove the second ---"),
    ("name: \x07", "not valid YAML: holds a character that YAML does not allow"),
    ("name: " + "[" * 5000, "line 4, column 36: is nested more than 30 levels deep, with aliases expanded"),
    ("name: &a [*a]", "line 4, column 7: contains itself, by an alias of its own anchor"),
]


class TestYaml:
    @pytest.mark.parametrize(("lines", "expected"), YAML_PROBLEMS)
    def test_that_is_malformed_is_explained_by_line(self, folder: Path, lines: str, expected: str) -> None:
        problem = only_problem(folder, f"# a comment\ntenant: acme\nstart_date: 2024-11-01\n{lines}\n")
        assert problem.startswith(expected)
        assert only_broken(folder).tenant_id == "acme"

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "is empty; a tenant file begins with tenant: <id>"),
            (b"# nothing yet\n", "is empty; a tenant file begins with tenant: <id>"),
            (b"- tenant: acme\n", "must be a mapping of keys, beginning with tenant: <id>"),
            (b"# \ntenant: \xff\n", "is not UTF-8 text (line 2, byte 11); save it as UTF-8"),
            ("tenant: acme\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
            (
                "tenant: acme\n".encode("utf-16-le"),
                "holds NUL bytes, as UTF-16 text and binary files do; save it as UTF-8 text",
            ),
        ],
    )
    def test_that_holds_no_tenant_says_so(self, folder: Path, content: bytes, expected: str) -> None:
        assert only_problem(folder, content) == expected
        assert only_broken(folder).tenant_id is None

    def test_may_hold_any_blank_inside_of_a_value(self, folder: Path) -> None:
        write(folder, changed("name", "Acme\u00a0Trading"))
        assert only_tenant(folder).name == "Acme\u00a0Trading"

    @pytest.mark.parametrize("fees", ["{shipping: 12,5}", "{shipping: [{value: 12,5}]}", "{shipping: '12,5'}"])
    def test_with_a_decimal_comma_says_to_write_a_point(self, folder: Path, fees: str) -> None:
        text = yaml.safe_dump(changed("fees", "X")).replace("fees: X", f"fees: {fees}")
        problem = only_problem(folder, text)
        assert problem.startswith("fees.")
        assert problem.endswith(NUMBER_FORM)

    def test_does_not_turn_a_leading_zero_into_another_number(self, folder: Path) -> None:
        text = yaml.safe_dump(changed("meta.accounts", ["X"])).replace("- X", "- 0123")
        assert only_problem(folder, text) == (
            "meta.accounts: entry 0: must be an ad account id, such as 1234567890 or act_1234567890; none begins with 0"
        )

    def test_does_not_read_a_time_of_day_as_minutes(self, folder: Path) -> None:
        text = yaml.safe_dump(changed("workflows.0.schedule", "X")).replace("schedule: X", "schedule: 2:30")
        assert only_problem(folder, text).startswith("workflows.0.schedule: '2:30' is not a 5-field cron expression")

    def test_that_contains_itself_is_refused(self, folder: Path) -> None:
        write(folder, yaml.safe_dump(changed("workflows", "X")).replace("workflows: X", "workflows: &a [*a]"))
        assert only_broken(folder).tenant_id == "acme"

    def test_with_an_undefined_alias_says_to_quote_the_value(self, folder: Path) -> None:
        assert only_problem(folder, "tenant: acme\nname: *nobody\n") == (
            'line 2, column 7: not valid YAML: a value that begins with * must stand in quotes, such as "*/30 * * * *"'
        )


class TestAFolder:
    def test_with_a_broken_file_still_gives_the_others(self, folder: Path) -> None:
        write(folder, {**SMALL, "tenant": "first"}, "a.yaml")
        write(folder, "tenant: broken\nname: [", "b.yaml")
        (folder / "c.yaml").mkdir()
        (folder / "d.yml").symlink_to("nowhere")
        write(folder, {**SMALL, "tenant": "last"}, "e.yml")
        write(folder, "not a tenant file", "notes.txt")
        write(folder, "swap", ".a.yaml")
        loaded = load_tenants(folder)
        assert [tenant.tenant_id for tenant in loaded.tenants] == ["first", "last"]
        assert [(broken.file.name, broken.tenant_id) for broken in loaded.broken] == [
            ("b.yaml", "broken"),
            ("c.yaml", None),
            ("d.yml", None),
        ]
        assert loaded.broken[1].problems == (f"{folder}/c.yaml: is a folder, not a file",)
        assert loaded.broken[2].problems == (f"{folder}/d.yml: cannot be read (No such file or directory)",)

    def test_gives_a_tenant_to_the_first_of_two_files_that_name_it(self, folder: Path) -> None:
        write(folder, SMALL, "b.yaml")
        write(folder, SMALL, "a.yaml")
        loaded = load_tenants(folder)
        assert len(loaded.tenants) == 1
        (broken,) = loaded.broken
        assert broken.problems == (
            f"{folder}/b.yaml: tenant: 'acme' is already the tenant of {folder}/a.yaml; choose another id",
        )

    def test_does_not_let_a_copy_step_in_for_a_broken_tenant(self, folder: Path) -> None:
        write(folder, {**SMALL, "timezone": "Nowhere"}, "acme.yaml")
        write(folder, SMALL, "acme_old.yaml")
        loaded = load_tenants(folder)
        assert loaded.tenants == ()
        assert [broken.tenant_id for broken in loaded.broken] == ["acme", "acme"]

    def test_refuses_two_jobs_of_one_name(self, folder: Path) -> None:
        workflow = SMALL["workflows"][0]
        write(folder, {**SMALL, "tenant": "a", "workflows": [{**workflow, "name": "b__c"}]}, "a.yaml")
        write(folder, {**SMALL, "tenant": "a__b", "workflows": [{**workflow, "name": "c"}]}, "b.yaml")
        loaded = load_tenants(folder)
        assert [tenant.tenant_id for tenant in loaded.tenants] == ["a"]
        assert loaded.broken[0].problems == (
            f"{folder}/b.yaml: workflows.0.name: its job a__b__c would have the name of one in {folder}/a.yaml",
        )

    def test_without_files_has_no_tenants(self, folder: Path) -> None:
        assert load_tenants(folder).tenants == ()

    def test_that_is_missing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(TenantFolderError, match="there is no such folder; create it"):
            load_tenants(tmp_path / "tenants")

    def test_that_is_a_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "tenants").write_text("")
        with pytest.raises(TenantFolderError, match="is not a folder"):
            load_tenants(tmp_path / "tenants")


class TestASecret:
    def test_is_read_from_the_environment_when_asked_for(self, folder: Path) -> None:
        write(folder, changed("meta.app_secret", {"env": "ACME_APP_SECRET"}))
        meta = only_tenant(folder).meta
        assert meta
        assert meta.app_secret
        assert meta.access_token.resolve({"ACME_META_TOKEN": TOKEN}).reveal() == TOKEN
        assert meta.app_secret.resolve({"ACME_APP_SECRET": " s3cret\n"}).reveal() == "s3cret"

    @pytest.mark.parametrize(
        ("environ", "why"),
        [
            ({}, "is not set"),
            ({"ACME_PANCAKE_KEY": " "}, "is empty"),
            ({"ACME_PANCAKE_KEY": f"{TOKEN}\n{TOKEN}"}, "holds blanks or characters that no key has"),
            ({"ACME_PANCAKE_KEY": f"{TOKEN}…"}, "holds blanks or characters that no key has"),
        ],
    )
    def test_that_cannot_be_used_names_tenant_field_and_variable(
        self, folder: Path, environ: dict[str, str], why: str
    ) -> None:
        write(folder, SMALL)
        with pytest.raises(MissingSecretError) as raised:
            only_tenant(folder).pancake[0].api_key.resolve(environ)
        error = raised.value
        assert (error.tenant, error.field) == ("acme", "pancake.0.api_key")
        expected = f"tenant acme: pancake.0.api_key: the environment variable ACME_PANCAKE_KEY {why}"
        assert str(error).startswith(expected)
        assert TOKEN not in repr(error) + repr(error.args)
        assert error.__cause__ is error.__context__ is None

    @pytest.mark.parametrize("field", ["meta.access_token", "meta.app_secret", "pancake.0.api_key", "alerts"])
    @pytest.mark.parametrize("path", ["{root}/mounted/the.token", "./key-1", "secrets/acme_2.key", "../token", "token"])
    def test_is_read_from_a_mounted_file_each_time_it_is_asked_for(self, folder: Path, field: str, path: str) -> None:
        path = path.format(root=folder.parent)
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        write(folder, changed(field, {"webhook": {"file": path}} if field == "alerts" else {"file": path}))
        tenant = only_tenant(folder)
        (secret,) = (secret for secret in tenant.secrets if secret.file)
        assert secret.source == f"file:{file.absolute()}"
        for value in (TOKEN, f"{TOKEN}-rotated"):
            file.write_text(f"{value}\n")
            assert secret.resolve({}).reveal() == value
        assert TOKEN not in repr(tenant) + tenant.model_dump_json()

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (None, "does not exist"),
            ("a folder", "is a folder, not a file"),
            (b"", "is empty"),
            (b" \n\n", "is empty"),
            (TOKEN.encode() + b"\xff", "is not UTF-8 text (line 1, byte 31); save it as UTF-8"),
            (TOKEN.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
            (f"{TOKEN}\n{TOKEN}\n".encode(), "holds blanks or characters that no key has; was it copied whole?"),
            (TOKEN.encode() * 5000, "is too long to hold a key"),
        ],
    )
    def test_in_a_file_that_cannot_be_used_names_tenant_field_and_path(
        self, folder: Path, content: bytes | str | None, why: str
    ) -> None:
        write(folder, changed("pancake.0.api_key", {"file": "keys/acme"}))
        file = folder / "keys" / "acme"
        file.parent.mkdir()
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content:
            file.mkdir()
        with pytest.raises(MissingSecretError) as raised:
            only_tenant(folder).pancake[0].api_key.resolve({})
        error = raised.value
        assert str(error) == f"tenant acme: pancake.0.api_key: the file {file} {why}"
        assert TOKEN not in "".join(traceback.format_exception(error)) + repr(error.args)
        assert error.__cause__ is error.__context__ is None

    def test_file_keeps_its_place_in_a_copy_of_the_tenant_kept_elsewhere(self, folder: Path, tmp_path: Path) -> None:
        write(folder, changed("pancake.0.api_key", {"file": "./key"}))
        (folder / "key").write_text(TOKEN)
        home = tmp_path / "home"
        load_tenants_in_use(folder, home)
        write(folder, "tenant: acme\nname: [")
        (tenant,) = load_tenants_in_use(folder, home).tenants
        assert tenant.pancake[0].api_key.source == f"file:{folder}/key"
        assert tenant.pancake[0].api_key.resolve({}).reveal() == TOKEN
        assert not [file for file in home.rglob("*") if file.is_file() and TOKEN in file.read_text()]

    def test_hides_in_every_text_form_and_in_pickles(self) -> None:
        secret = Secret(TOKEN)
        assert TOKEN not in f"{secret} {secret!r} {secret!s} {[secret]}"
        with pytest.raises(TypeError):
            pickle.dumps(secret)

    @pytest.mark.parametrize("field", ["meta.access_token", "meta.app_secret", "pancake.0.api_key"])
    @pytest.mark.parametrize(
        "written",
        [
            TOKEN,
            {"env": TOKEN},
            {TOKEN: "env"},
            {"env": "A", TOKEN: 1},
            [TOKEN],
            {"env": [TOKEN]},
            None,
            17,
            {"file": TOKEN},
            {"file": f"keys/{TOKEN}"},
            {"file": f"https://hooks.example/{TOKEN}"},
            {"file": f"{TOKEN}|{TOKEN}"},
            {"file": f" /run/{TOKEN}"},
            {"file": [TOKEN]},
            {"env": "A", "file": f"/run/{TOKEN}"},
        ],
    )
    def test_written_into_the_file_is_refused_without_repeating_it(
        self, folder: Path, field: str, written: object
    ) -> None:
        if field == "meta.app_secret" and written is None:
            return
        problem = only_problem(folder, changed(field, written))
        assert problem.startswith(f"{field}: must be {{env: NAME}} or {{file: PATH}}: ")
        assert TOKEN not in problem

    @pytest.mark.parametrize(
        "line", ["*{0}", "!{0} x", "&{0} &{0} x", "'{0}", "[{0}", "{{{0}: 1, {0}: 2}}", "%{0}", "@{0}", "{0}: {0}: x"]
    )
    def test_in_malformed_yaml_is_not_repeated(self, folder: Path, line: str) -> None:
        write(folder, f"tenant: acme\nmeta:\n  access_token: {line.format(TOKEN)}\n")
        broken = only_broken(folder)
        assert broken.problems
        assert TOKEN not in repr(broken)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
    @given(data=st.data())
    def test_put_anywhere_in_a_file_is_never_repeated(self, folder: Path, data: st.DataObject) -> None:
        content: Any = copy.deepcopy(SMALL) | {"product_costs": "x.csv", "timezone": "UTC", "rate_limit": {}}
        place = content
        while True:
            key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
            if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
                place = place[key]
                continue
            if isinstance(place, dict) and data.draw(st.booleans()):
                place[TOKEN] = place.pop(key)
            else:
                place[key] = data.draw(
                    st.sampled_from([TOKEN, [TOKEN], {TOKEN: TOKEN}, {"env": TOKEN}, {"file": TOKEN}, {"type": TOKEN}])
                )
            break
        write(folder, content)
        assert TOKEN not in repr(load_tenants(folder).broken)


def test_a_tenant_is_found_without_a_look_into_files_that_plainly_name_another(folder: Path) -> None:
    write(folder, SMALL)
    write(folder, "tenant: beta\nname: [", "beta.yaml")
    write(folder, "name: Somebody's", "whose.yaml")
    found = load_tenants(folder, only=["acme"])
    assert [tenant.tenant_id for tenant in found.tenants] == ["acme"]
    assert [broken.file.name for broken in found.broken] == ["whose.yaml"]
    assert load_tenant(folder, "acme") == found.tenants[0]


@pytest.mark.parametrize("tenant_id", ["nobody", "beta"])
def test_a_tenant_that_is_not_to_be_had_is_told_as_of_the_whole_folder(folder: Path, tenant_id: str) -> None:
    write(folder, SMALL)
    write(folder, "tenant: beta\nname: [", "beta.yaml")
    with pytest.raises(SyncPipelineError) as alone:
        load_tenant(folder, tenant_id)
    with pytest.raises(SyncPipelineError) as among:
        find_tenant(load_tenants(folder), tenant_id)
    assert str(alone.value) == str(among.value)


def test_importing_the_module_loads_neither_dagster_nor_pandas() -> None:
    code = "import sys, sync_pipeline.tenants; print({'dagster', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
