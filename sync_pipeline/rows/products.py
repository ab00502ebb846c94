"""Pancake products -> rows of a shop's catalogue, and the further names its products are known by."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from sync_pipeline.rows import values
from sync_pipeline.rows.errors import FieldError, RowError, key_of, label, part_of, require_object


class ProductRow(NamedTuple):
    """A row of `pos_products`: one variation, or a product without any, whose `variation_id` is blank.

    `custom_id` and `name` are the product's, `display_id`, `retail_price` and `variation_custom_id` the variation's.
    The price is in major units and often 0.
    """

    shop_id: str
    variation_id: str
    product_id: str
    custom_id: str | None
    display_id: str | None
    name: str | None
    retail_price: Decimal
    variation_custom_id: str | None = None


def product_rows(raw: values.Raw, *, shop_id: str, money_divisor: int = 1) -> list[ProductRow]:
    """Read one product of a shop, its prices divided by `money_divisor`. A variation that comes twice is one row.

    Raises RowError for a missing id of product or variation and for every value that cannot be read.
    """
    try:
        require_object(raw)
        product_id = values.identifier(raw, "id")
        variations = _variations(raw)
        sold = {values.identifier(variation, "id"): variation for variation in variations} if variations else {"": raw}
        return [
            ProductRow(
                shop_id,
                variation_id,
                product_id,
                values.optional_text(raw, "custom_id"),
                values.optional_text(variation, "display_id"),
                values.optional_name(raw, "name"),
                values.major_units(values.number(variation, "retail_price"), money_divisor, "retail_price"),
                values.optional_text(variation, "custom_id") if variation_id else None,
            )
            for variation_id, variation in sold.items()
        ]
    except FieldError as error:
        found = part_of(raw, "id")
        raise RowError(
            kind="product",
            row_id=f"{label(found)} of shop {shop_id}",
            field=error.field,
            value=error.value,
            why=error.why,
            key=key_of(found),
        ) from None


def _variations(raw: values.Raw) -> Sequence[dict[str, Any]]:
    variations = raw.get("variations")
    if variations is None:
        return ()
    if not isinstance(variations, list):
        raise FieldError("variations", variations, "is not a list")
    for variation in variations:
        if not isinstance(variation, dict):
            raise FieldError("variations", variation, "holds something other than a variation")
    return variations


def aliases_of(rows: Iterable[ProductRow]) -> dict[tuple[str, str], tuple[str, ...]]:
    """What else each variation and product of a catalogue is known by, by shop and id, for `ProductCosts`.

    A variation by its display id, then its product's custom id. A product by its custom id, and by a display id only
    where all its variations share it: another variation's display id might find another one's cost. A display id that
    several products of a shop have is no name of any of them.
    """
    rows = list(rows)
    shared = shared_display_ids(rows)
    aliases: dict[tuple[str, str], tuple[str, ...]] = {}
    products: defaultdict[tuple[str, str], set[tuple[str | None, str | None]]] = defaultdict(set)
    for row in rows:
        display_id = None if (row.shop_id, row.display_id) in shared else row.display_id
        products[row.shop_id, row.product_id].add((display_id, row.custom_id))
        if row.variation_id:
            aliases[row.shop_id, row.variation_id] = _known(display_id, row.custom_id)
    for product, names in products.items():
        display_ids, custom_ids = ({name[n] for name in names} for n in (0, 1))
        aliases[product] = _known(
            next(iter(display_ids)) if len(display_ids) == 1 else None,
            *sorted(custom_id for custom_id in custom_ids if custom_id),
        )
    return {key: names for key, names in aliases.items() if names}


def custom_ids_of(rows: Iterable[ProductRow]) -> dict[tuple[str, str], str]:
    """Return the custom id of each variation that has one of its own, by shop and variation, for `ProductCosts`."""
    return {
        (row.shop_id, row.variation_id): row.variation_custom_id
        for row in rows
        if row.variation_id and row.variation_custom_id
    }


def shared_display_ids(rows: Iterable[ProductRow]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the display ids that several products of a shop have, by shop and display id, with those products."""
    products: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        if row.display_id:
            products[row.shop_id, row.display_id].add(row.product_id)
    return {key: tuple(sorted(found)) for key, found in products.items() if len(found) > 1}


def _known(*names: str | None) -> tuple[str, ...]:
    return tuple(name for name in names if name)
