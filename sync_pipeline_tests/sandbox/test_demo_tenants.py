"""The demo's tenant files fit the sandbox: their variables, accounts, shops and products exist there."""

import csv
import re
from pathlib import Path

import pytest

from sync_pipeline.sandbox.entities import Tenant
from sync_pipeline.sandbox.world import World

FOLDER = Path(__file__).parents[2] / "tenants"
TENANTS = World().tenants


@pytest.mark.parametrize("name", TENANTS)
def test_the_files_variables_are_those_of_the_sandbox(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    tenant = TENANTS[name]
    assert set(re.findall(r"\{env: (\w+)\}", text)) == {tenant.plan.meta_variable, *tenant.pancake_keys}
    assert f"timezone: {tenant.timezone.key}" in text
    assert {int(shop) for shop in re.findall(r"shops: \[(\d+)\]", text)} <= {shop.shop_id for shop in tenant.shops}


def product_keys(tenant: Tenant, shop_id: str) -> set[str]:
    return {
        key
        for shop in tenant.shops
        if shop_id in {"", str(shop.shop_id)}
        for product in shop.products
        for key in (product.product_id, product.custom_id, *(one.display_id for one in product.variations))
    }


@pytest.mark.parametrize("name", TENANTS)
def test_the_costs_are_of_products_that_are_sold(name: str) -> None:
    with (FOLDER / f"{name}_costs.csv").open() as file:
        costs = list(csv.DictReader(file))
    assert list(costs[0]) == ["shop_id", "product_id", "mapping", "cogs", "start_date", "end_date"]
    assert all(cost["product_id"] in product_keys(TENANTS[name], cost["shop_id"]) for cost in costs)
    priced = {cost["mapping"] for cost in costs}
    assert priced < {product.mapping for product in TENANTS[name].plan.products}, "some products are without cost"
    assert any(cost["end_date"] for cost in costs)
