import unicodedata
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows.costs import ProductCost, ProductCosts
from sync_pipeline.rows.errors import RowError
from sync_pipeline.rows.products import ProductRow, aliases_of, custom_ids_of, product_rows, shared_display_ids

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RAW: dict[str, Any] = {
    "id": "b7c1",
    "custom_id": "AGRI",
    "name": "Agriblast",
    "variations": [
        {"id": "v1", "product_id": "b7c1", "display_id": "AGRI-S", "retail_price": 450},
        {"id": "v2", "product_id": "b7c1", "display_id": "AGRI-L", "retail_price": "675.50"},
    ],
}
SMALL = ProductRow("1", "v1", "b7c1", "AGRI", "AGRI-S", "Agriblast", Decimal("450.00"))
LARGE = ProductRow("1", "v2", "b7c1", "AGRI", "AGRI-L", "Agriblast", Decimal("675.50"))


def problem(**changes: object) -> RowError:
    with pytest.raises(RowError) as raised:
        product_rows({**RAW, **changes}, shop_id="1")
    assert raised.value.__cause__ is None
    return raised.value


class TestProductRows:
    def test_are_one_for_each_variation(self) -> None:
        assert product_rows(RAW, shop_id="1") == [SMALL, LARGE]

    @pytest.mark.parametrize("variations", [None, []])
    def test_are_one_for_a_product_without_variations(self, variations: object) -> None:
        assert product_rows({**RAW, "variations": variations}, shop_id="1") == [
            ProductRow("1", "", "b7c1", "AGRI", None, "Agriblast", Decimal("0.00"))
        ]

    def test_normalize_names_but_not_ids(self) -> None:
        decomposed = unicodedata.normalize("NFD", "Sữa")
        [row] = product_rows({"id": decomposed, "custom_id": decomposed, "name": decomposed}, shop_id="1")
        assert (row.product_id, row.custom_id, row.name) == (decomposed, decomposed, "Sữa")

    def test_need_no_more_than_ids(self) -> None:
        assert product_rows({"id": 5, "variations": [{"id": 6}]}, shop_id="1") == [
            ProductRow("1", "6", "5", None, None, None, Decimal("0.00"))
        ]

    def test_divide_the_price_by_the_shop_s_divisor(self) -> None:
        prices = [row.retail_price for row in product_rows(RAW, shop_id="1", money_divisor=100)]
        assert prices == [Decimal("4.50"), Decimal("6.76")]

    def test_hold_a_variation_that_comes_twice_once(self) -> None:
        variations = [*RAW["variations"], {"id": "v1", "display_id": "AGRI-S", "retail_price": 450}]
        assert product_rows({**RAW, "variations": variations}, shop_id="1") == [SMALL, LARGE]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"id": None}, "id"),
            ({"name": {}}, "name"),
            ({"custom_id": []}, "custom_id"),
            ({"variations": {}}, "variations"),
            ({"variations": [None]}, "variations"),
            ({"variations": [{}]}, "id"),
            ({"variations": [{"id": ""}]}, "id"),
            ({"variations": [{"id": "v", "display_id": []}]}, "display_id"),
            ({"variations": [{"id": "v", "retail_price": "free"}]}, "retail_price"),
        ],
    )
    def test_that_cannot_be_read_name_product_shop_and_field(self, changes: dict[str, object], field: str) -> None:
        error = problem(**changes)
        assert (error.kind, error.field) == ("product", field)
        assert error.row_id == ("? of shop 1" if "id" in changes else "b7c1 of shop 1")

    @pytest.mark.parametrize("raw", [None, [], 7])
    def test_that_are_no_objects_are_refused(self, raw: Any) -> None:
        with pytest.raises(RowError) as raised:
            product_rows(raw, shop_id="1")
        assert (raised.value.field, raised.value.key) == ("entry", None)

    def test_that_cannot_be_read_name_their_id(self) -> None:
        assert problem(variations={}).key == "b7c1"
        assert problem(id="Maria Cruz", variations={}).key is None


class TestAliases:
    def test_of_a_variation_are_its_display_id_then_the_product_s_custom_id(self) -> None:
        aliases = aliases_of([SMALL, LARGE])
        assert aliases["1", "v1"] == ("AGRI-S", "AGRI")
        assert aliases["1", "v2"] == ("AGRI-L", "AGRI")

    def test_of_a_product_hold_no_display_id_that_is_one_variation_s_only(self) -> None:
        assert aliases_of([SMALL, LARGE])["1", "b7c1"] == ("AGRI",)
        assert aliases_of([SMALL])["1", "b7c1"] == ("AGRI-S", "AGRI")
        assert aliases_of([LARGE._replace(variation_id="", display_id=None)]) == {("1", "b7c1"): ("AGRI",)}

    def test_are_left_out_where_there_are_none(self) -> None:
        assert aliases_of([SMALL._replace(display_id=None, custom_id=None)]) == {}

    def test_are_those_of_the_shop(self) -> None:
        aliases = aliases_of([SMALL, SMALL._replace(shop_id="2", custom_id="OTHER")])
        assert (aliases["1", "v1"], aliases["2", "v1"]) == (("AGRI-S", "AGRI"), ("AGRI-S", "OTHER"))

    def test_let_an_item_with_ids_only_find_the_cost_of_its_own_variation(self) -> None:
        lines = [ProductCost(None, key, None, Decimal(n), None, None, n) for n, key in enumerate(("AGRI", "AGRI-L"), 2)]
        costs = ProductCosts(lines, aliases_of([SMALL, LARGE]))
        day = date(2026, 10, 6)
        found = [costs.unit_cost("1", [variation, "b7c1"], day) for variation in ("v1", "v2", "new")]
        assert found == [Decimal(2), Decimal(3), Decimal(2)]


@unhurried
@given(
    st.dictionaries(
        st.sampled_from([*RAW, "retail_price"]),
        st.none() | st.integers() | st.text(max_size=3) | st.lists(st.dictionaries(st.just("id"), st.integers())),
    )
)
def test_any_json_is_rows_or_a_row_error(changes: dict[str, Any]) -> None:
    try:
        rows = product_rows({**RAW, **changes}, shop_id="1")
    except RowError as error:
        assert error.kind == "product"  # noqa: PT017 (either outcome is right)
    else:
        assert rows
        assert len({row.variation_id for row in rows}) == len(rows)


class TestCustomIds:
    VARIATIONS: ClassVar = [{"id": "v1", "custom_id": "SKU-S"}, {"id": "v2", "custom_id": None}]

    def test_of_variations_are_their_own(self) -> None:
        rows = product_rows({**RAW, "variations": self.VARIATIONS}, shop_id="1")
        assert [(row.custom_id, row.variation_custom_id) for row in rows] == [("AGRI", "SKU-S"), ("AGRI", None)]
        assert custom_ids_of(rows) == {("1", "v1"): "SKU-S"}

    def test_of_a_product_without_variations_is_the_product_s(self) -> None:
        [row] = product_rows({**RAW, "variations": None}, shop_id="1")
        assert (row.custom_id, row.variation_custom_id) == ("AGRI", None)


class TestSharedDisplayIds:
    ROWS: ClassVar = [
        SMALL,
        LARGE,
        SMALL._replace(product_id="other", variation_id="v3"),
        SMALL._replace(shop_id="2", product_id="third"),
    ]

    def test_are_those_of_several_products_of_one_shop(self) -> None:
        assert shared_display_ids(self.ROWS) == {("1", "AGRI-S"): ("b7c1", "other")}

    def test_of_variations_of_one_product_are_not_shared(self) -> None:
        assert shared_display_ids([SMALL, LARGE._replace(display_id="AGRI-S")]) == {}

    def test_are_no_aliases(self) -> None:
        aliases = aliases_of(self.ROWS)
        assert aliases["1", "v1"] == aliases["1", "other"] == ("AGRI",)
        assert aliases["2", "v1"] == ("AGRI-S", "AGRI")
