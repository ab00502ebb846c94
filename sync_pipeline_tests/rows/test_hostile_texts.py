"""Texts of a mebibyte in the fields of a row: read in linear time, and kept in no cache."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from sync_pipeline.rows import values
from sync_pipeline.rows.customers import without_customer_data
from sync_pipeline.rows.errors import FieldError
from sync_pipeline.rows.meta import campaign_mapping
from sync_pipeline.rows.notes import note_cost
from sync_pipeline.rows.pancake import order_mapping, utm_ad_id

MIB = 2**20
ENDINGS = ["", "x", " x", ".x", "e", "."]


@pytest.mark.parametrize("part", ["1", "1.", ".", " ", "1e", "-", "\t", "0", "\u0661"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_are_read_in_linear_time(part: str, ending: str) -> None:
    # With quadratic time this would take hours.
    text = part * (MIB // len(part)) + ending
    with suppress(FieldError):
        values.money({"spend": text}, "spend")


READERS: list[Callable[[str], object]] = [
    campaign_mapping,
    utm_ad_id,
    note_cost,
    lambda text: without_customer_data({text: text, "note_product": text}),
    lambda text: order_mapping([{"note_product": text}], [[]], "7", _NO_COSTS),
]


class _NoCosts:
    def mapping(self, *_: object) -> None:
        return None


_NO_COSTS = _NoCosts()  # type: ignore[assignment]


@pytest.mark.parametrize("part", ["a", "a_", "_", "- ", "-", "1,000", "-1,000", "12345678 ", "ad_id=", "aB", " "])
def test_texts_are_read_in_linear_time(part: str) -> None:
    text = part * (MIB // len(part))
    for reader in READERS:
        reader(text)
        reader(text + "!")


@pytest.mark.parametrize("found", ["x" * 65, 10**64, "9" * MIB])
def test_an_id_that_is_too_long_is_refused(found: object) -> None:
    with pytest.raises(FieldError, match="is longer than 64 characters"):
        values.identifier({"ad_id": found}, "ad_id")


def test_ids_up_to_the_limit_are_kept() -> None:
    assert values.identifier({"ad_id": "x" * 64}, "ad_id") == "x" * 64
    assert values.identifier({"ad_id": 10**63}, "ad_id") == str(10**63)


@pytest.mark.parametrize(
    ("name", "mapping"), [("A__B_C_D_Serum_x", "serum"), ("a_b_c_d", None), ("_" * 99, None), ("a_b_c_d_E", "e")]
)
def test_the_mapping_is_the_fifth_part_that_is_not_empty(name: str, mapping: str | None) -> None:
    assert campaign_mapping(name) == mapping
