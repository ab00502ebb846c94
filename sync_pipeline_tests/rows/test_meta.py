import json
import unicodedata
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows.errors import RowError, UnrequestedRowError
from sync_pipeline.rows.meta import (
    InsightRow,
    account_spend,
    campaign_mapping,
    insight_part,
    insight_row,
    leads,
    marketing_associate,
)

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RAW: dict[str, Any] = {
    "account_id": "1234567890",
    "campaign_id": "120210000000000001",
    "campaign_name": "PH_CONV_ALY_2026_Agriblast",
    "adset_id": "120210000000000002",
    "adset_name": "Broad 25-54",
    "ad_id": "120210000000000003",
    "ad_name": "EVIL EYE_UGC_1001_ALY_001",
    "spend": "14.35",
    "impressions": "18500",
    "clicks": "185",
    "inline_link_clicks": "120",
    "actions": [
        {"action_type": "link_click", "value": "120"},
        {"action_type": "onsite_conversion.lead_grouped", "value": "2"},
        {"action_type": "lead", "value": "3"},
    ],
    "date_start": "2026-11-01",
    "date_stop": "2026-11-01",
}


def read(raw: dict[str, Any], *lead_action_types: str) -> InsightRow:
    return insight_row(raw, account_id="1234567890", lead_action_types=lead_action_types or ("lead",))


def problem(**changes: object) -> RowError:
    with pytest.raises(RowError) as raised:
        read({**RAW, **changes})
    assert raised.value.__cause__ is None
    return raised.value


class TestInsightRow:
    def test_reads_every_column(self) -> None:
        assert read(RAW) == InsightRow(
            account_id="1234567890",
            ad_id="120210000000000003",
            date=date(2026, 11, 1),
            campaign_id="120210000000000001",
            campaign_name="PH_CONV_ALY_2026_Agriblast",
            adset_id="120210000000000002",
            adset_name="Broad 25-54",
            ad_name="EVIL EYE_UGC_1001_ALY_001",
            marketing_associate="ALY",
            spend=Decimal("14.35"),
            impressions=18500,
            clicks=185,
            link_clicks=120,
            leads=3,
            mapping="agriblast",
            currency=RAW.get("account_currency"),
        )

    def test_takes_metrics_meta_leaves_out_as_zero(self) -> None:
        row = read({key: RAW[key] for key in ("ad_id", "date_start", "date_stop")})
        assert row.account_id == "1234567890"
        assert row.spend == 0
        assert (row.impressions, row.clicks, row.link_clicks, row.leads) == (0, 0, 0, 0)
        assert (row.ad_name, row.marketing_associate, row.campaign_id) == (None, None, None)

    def test_link_clicks_are_neither_all_clicks_nor_the_link_click_action(self) -> None:
        assert read({**RAW, "inline_link_clicks": "7"}).link_clicks == 7

    def test_is_the_same_whether_numbers_are_text_or_not(self) -> None:
        numbers = {"spend": Decimal("14.35"), "impressions": 18500, "clicks": 185, "inline_link_clicks": 120}
        assert read({**RAW, **numbers}) == read(RAW)

    def test_keeps_ids_beyond_bigint_and_long_names_with_emoji(self) -> None:
        row = read({**RAW, "ad_id": str(2**63 + 1), "campaign_id": 2**64, "ad_name": "🎉_a_b_É\x00ric_" + "n" * 10_000})
        assert (row.ad_id, row.campaign_id) == ("9223372036854775809", "18446744073709551616")
        assert row.marketing_associate == "Éric"
        assert row.ad_name
        assert len(row.ad_name) == len("🎉_a_b_Éric_") + 10_000

    def test_normalizes_names_but_not_ids(self) -> None:
        decomposed = unicodedata.normalize("NFD", "SỮA_UGC_1_BÍCH_Đẹp")
        names = ("campaign_name", "adset_name", "ad_name")
        row = read({**RAW, **dict.fromkeys(names, decomposed), "ad_id": decomposed})
        assert (row.campaign_name, row.adset_name, row.ad_name) == ("SỮA_UGC_1_BÍCH_Đẹp",) * 3
        assert (row.marketing_associate, row.mapping, row.ad_id) == ("BÍCH", "đẹp", decomposed)

    def test_may_name_its_account_with_or_without_act(self) -> None:
        assert read({**RAW, "account_id": "act_1234567890"}) == read(RAW)

    def test_of_another_account_is_refused(self) -> None:
        error = problem(account_id="99")
        assert str(error) == (
            "insight 120210000000000003 of account 1234567890 on 2026-11-01: "
            "account_id is not the account asked for, 1234567890, found '99'"
        )

    def test_of_several_days_is_refused(self) -> None:
        error = problem(date_stop="2026-11-30")
        assert (error.field, error.why) == ("date_stop", "differs from date_start 2026-11-01")

    @pytest.mark.parametrize("changes", [{"account_id": "99"}, {"date_stop": "2026-11-30"}])
    def test_that_answers_another_request_is_told_apart(self, changes: dict[str, Any]) -> None:
        assert isinstance(problem(**changes), UnrequestedRowError)
        with pytest.raises(UnrequestedRowError):
            account_spend({**RAW, **changes}, account_id="1234567890")

    @pytest.mark.parametrize("changes", [{"account_id": []}, {"date_stop": "soon"}, {"spend": "abc"}])
    def test_that_is_only_unreadable_answers_this_request(self, changes: dict[str, Any]) -> None:
        assert not isinstance(problem(**changes), UnrequestedRowError)

    def test_names_its_ad_and_day_where_they_can_be_read(self) -> None:
        error = problem(spend="abc")
        assert (error.key, error.day) == ("120210000000000003", date(2026, 11, 1))
        error = problem(ad_id="Maria Cruz", date_start="today")
        assert (error.key, error.day) == (None, None)

    def test_names_its_part_by_ids_where_they_can_be_read(self) -> None:
        row = read(RAW)
        assert insight_part(row) == (row.campaign_id, row.adset_id)
        assert problem(spend="abc").part == insight_part(row)
        assert problem(spend="abc", campaign_id=None).part == (None, row.adset_id)
        assert problem(adset_id=[]).part is None

    @pytest.mark.parametrize("raw", [None, [], "insight", 7])
    def test_that_is_no_object_is_refused(self, raw: Any) -> None:
        with pytest.raises(RowError) as raised:
            insight_row(raw, account_id="1", lead_action_types=("lead",))
        error = raised.value
        assert (error.field, error.why, error.key, error.day) == ("entry", "is not an object", None, None)
        with pytest.raises(RowError):
            account_spend(raw, account_id="1")

    @pytest.mark.parametrize("value", [None, "", "2026-02-30", "20261101", "2026-W01-1", 20261101, ["2026-11-01"]])
    def test_without_a_readable_day_is_refused(self, value: object) -> None:
        assert problem(date_start=value, date_stop=value).field == "date_start"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("ad_id", None),
            ("ad_id", ""),
            ("ad_id", Decimal("1.2E+17")),
            ("spend", "abc"),
            ("spend", "1e12"),
            ("clicks", "1.5"),
            ("impressions", 2**63),
            ("inline_link_clicks", []),
            ("ad_name", {}),
            ("actions", "lead"),
            ("actions", ["lead"]),
            ("actions", [{"action_type": "lead", "value": "many"}]),
            ("actions", [{"action_type": "lead", "value": [3]}]),
            ("actions", [{"action_type": "lead", "value": "1e19"}]),
        ],
    )
    def test_with_an_unreadable_value_names_row_and_field(self, field: str, value: object) -> None:
        error = problem(**{field: value})
        assert (error.kind, error.field.partition(".")[0]) == ("insight", field)
        assert "1234567890" in error.row_id
        assert "2026-11-01" in error.row_id

    @unhurried
    @given(
        st.dictionaries(
            st.sampled_from(list(RAW)),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.decimals()
                | st.text(max_size=12)
                | st.sampled_from(["lead"]),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["action_type", "value"]), inner)
                ),
                max_leaves=6,
            ),
        )
    )
    def test_from_any_json_is_a_row_or_a_row_error(self, changes: dict[str, Any]) -> None:
        try:
            row = read({**RAW, **changes})
        except RowError as error:
            assert error.field.split(".")[0] in RAW  # noqa: PT017 (either outcome is right)
        else:
            assert isinstance(row, InsightRow)


class TestMarketingAssociate:
    @pytest.mark.parametrize(
        ("ad_name", "associate"),
        [
            ("EVIL EYE_UGC_1001_ALY_001", "ALY"),
            ("EVIL EYE_UGC_1001_ aly _001", "aly"),
            ("EVIL EYE_UGC_1001_ALY", "ALY"),
            ("A__C_D", "D"),
            ("A_B_C_ _E", None),
            ("A_B_C__E", None),
            ("A_B_C", None),
            ("", None),
            (None, None),
        ],
    )
    def test_is_the_fourth_part_of_the_ad_name(self, ad_name: str | None, associate: str | None) -> None:
        assert marketing_associate(ad_name) == associate


class TestCampaignMapping:
    @pytest.mark.parametrize(
        ("campaign_name", "mapping"),
        [
            ("A_B_C_D_Agriblast_F", "agriblast"),
            ("A__B_C__D_Agriblast", "agriblast"),
            ("MKT _ CBO _ PH _ 0412 _ Agriblast", "agriblast"),
            ("A_B_ _D_Foo_Bar", "bar"),
            (unicodedata.normalize("NFD", "A_B_C_D_SỮA"), "sữa"),
            ("A_B_C_D_", None),
            ("Agriblast", None),
            (None, None),
        ],
    )
    def test_is_the_fifth_part_that_is_not_empty(self, campaign_name: str | None, mapping: str | None) -> None:
        assert campaign_mapping(campaign_name) == mapping


class TestLeads:
    ACTIONS = json.loads('[{"action_type":"leadgen_grouped","value":"2"},{"action_type":"lead","value":"3"}]')

    @pytest.mark.parametrize(
        ("types", "count"),
        [
            (("lead",), 3),
            (("leadgen_grouped",), 2),
            (("leadgen_grouped", "lead"), 2),
            (("lead", "leadgen_grouped"), 3),
            (("landing_page_view", "lead"), 3),
            (("landing_page_view",), 0),
        ],
    )
    def test_are_those_of_the_first_type_present_never_a_sum(self, types: tuple[str, ...], count: int) -> None:
        assert leads(self.ACTIONS, types) == count

    def test_present_with_zero_stop_the_search(self) -> None:
        actions = [{"action_type": "lead", "value": "0"}, {"action_type": "leadgen_grouped", "value": "2"}]
        assert leads(actions, ("lead", "leadgen_grouped")) == 0

    @pytest.mark.parametrize("actions", [None, []])
    def test_without_actions_are_zero(self, actions: Any) -> None:
        assert leads(actions, ("lead",)) == 0

    @pytest.mark.parametrize(
        "actions",
        [
            [None],
            [{"action_type": "lead"}],
            [{"action_type": "lead", "value": None}],
            [{"action_type": "lead", "value": ""}],
            [{"action_type": "lead", "value": []}],
            [{"action_type": "lead", "value": [None]}],
        ],
    )
    def test_without_a_value_are_zero(self, actions: Any) -> None:
        assert read({**RAW, "actions": actions}).leads == 0

    def test_beside_a_null_are_counted(self) -> None:
        assert leads([None, {"action_type": "lead", "value": "3"}], ("lead",)) == 3

    @pytest.mark.parametrize(
        ("value", "count"), [("0.4", 0), ("0.5", 1), (Decimal("1.5"), 2), ("2.4999", 2), ("2.5", 3), ("7.0", 7)]
    )
    def test_with_a_fraction_are_rounded_half_up(self, value: object, count: int) -> None:
        assert leads([{"action_type": "lead", "value": value}], ("lead",)) == count


class TestAccountSpend:
    ROW: ClassVar = {
        "account_id": "1234567890",
        "account_currency": "PHP",
        "spend": "15210.375",
        "date_start": "2026-11-01",
        "date_stop": "2026-11-01",
    }

    def test_is_the_account_s_total_of_the_day(self) -> None:
        assert account_spend(self.ROW, account_id="1234567890") == (date(2026, 11, 1), Decimal("15210.38"))

    def test_is_zero_where_meta_leaves_it_out(self) -> None:
        row = {"date_start": "2026-11-01"}
        assert account_spend(row, account_id="1234567890") == (date(2026, 11, 1), Decimal("0.00"))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("date_start", None),
            ("date_stop", "2026-11-02"),
            ("account_id", "99"),
            ("account_id", "act_99"),
            ("spend", "much"),
            ("spend", "1000000000000"),
        ],
    )
    def test_of_several_days_another_account_or_no_amount_is_refused(self, field: str, value: object) -> None:
        with pytest.raises(RowError) as raised:
            account_spend({**self.ROW, field: value}, account_id="1234567890")
        assert (raised.value.kind, raised.value.field) == ("account day", field)
        assert raised.value.row_id.endswith("of account 1234567890")
