"""Which accounts and shops the token and the keys of a tenant list, and what is wrong with a list."""

from datetime import date
from pathlib import Path

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sources.errors import TokenError
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.errors import NothingListedError
from sync_pipeline.sync.meta import visible_ad_accounts
from sync_pipeline.sync.pos import discover_shops, refresh_products, shops_of_run, visible_shops
from sync_pipeline.tenants import PancakeKey, SecretRef, find_tenant, load_tenants
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import copied_demo_tenants
from sync_pipeline_tests.sync.bench import FIRST_SHOP, SECOND_SHOP, Bench

MONDAY = date(2026, 10, 5)
KEY = "LUMINA_PANCAKE_KEY"
LISTED_SHOPS = "SELECT shop_id FROM pos_shops ORDER BY 1"


def name_shops(bench: Bench, folder: Path, *shops: str) -> None:
    """Have the tenant file name these shops for its key."""
    file = copied_demo_tenants(folder / "named") / "lumina.yaml"
    file.write_text(file.read_text().replace("shops: all", f"shops: [{', '.join(shops)}]", 1))
    bench.tenant = find_tenant(load_tenants(folder / "named"), "lumina")


@pytest.mark.parametrize("go_on", [True, False])
def test_a_token_without_accounts_is_an_error(bench: Bench, go_on: bool) -> None:
    nothing = faults.json_body({"data": []})
    bench.sandbox.faults.add(Fault(nothing, path="/me/(adaccounts|assigned_ad_accounts)$", times=None))
    with pytest.raises(NothingListedError, match="the access token sees no ad account; grant it access") as failure:
        bench.sync([MONDAY], [META], go_on=go_on)
    assert (failure.value.place.source, failure.value.place.tenant) == (META, "lumina")
    assert bench.query("SELECT * FROM meta_ad_accounts") == []
    assert bench.sandbox.requests.count("insights") == 0


def test_a_key_without_shops_is_an_error_that_names_it(bench: Bench) -> None:
    bench.sandbox.faults.add(Fault(faults.json_body({"success": True, "shops": []}), path="/shops$", times=None))
    with pytest.raises(NothingListedError, match=f"the key in {KEY} sees no shop") as failure:
        bench.sync([MONDAY], [POS])
    assert failure.value.place.key == KEY
    assert bench.query(LISTED_SHOPS) == []


def test_a_named_shop_that_the_key_does_not_see_ends_the_sync(bench: Bench, tmp_path: Path) -> None:
    name_shops(bench, tmp_path, FIRST_SHOP, "999")
    with pytest.raises(NothingListedError, match=f"the key in {KEY} does not see this shop") as failure:
        bench.sync([MONDAY], [POS])
    assert (failure.value.place.shop_id, failure.value.place.key) == ("999", KEY)
    assert bench.query(LISTED_SHOPS) == []
    with pytest.raises(NothingListedError, match="does not see this shop"):
        visible_shops(bench.tenant, bench.tenant.pancake[0], bench.pancake_clients()[KEY])


def test_only_the_shops_that_the_file_names_are_synced(bench: Bench, tmp_path: Path) -> None:
    name_shops(bench, tmp_path, SECOND_SHOP)
    bench.sync([MONDAY], [POS])
    assert bench.query(LISTED_SHOPS) == [(SECOND_SHOP,)]
    assert bench.sandbox.requests.count("orders", FIRST_SHOP) == 0
    shops = visible_shops(bench.tenant, bench.tenant.pancake[0], bench.pancake_clients()[KEY])
    assert [shop.shop_id for shop in shops] == [SECOND_SHOP]


def test_accounts_that_the_token_lists_are_visible(bench: Bench) -> None:
    listed = bench.meta_client().ad_accounts()
    assert len(listed) == 3
    assert visible_ad_accounts(bench.tenant, bench.meta_client()) == listed


@pytest.mark.parametrize("refused", [False, True], ids=["listed", "refused"])
def test_each_key_is_asked_for_its_shops_once_per_run(bench: Bench, refused: bool) -> None:
    if refused:
        bench.tenant = bench.tenant.model_copy(
            update={"pancake": (*bench.tenant.pancake, with_another_key(bench, "ANOTHER_KEY"))}
        )
        bench.keys = {"ANOTHER_KEY": "revoked"}
    tenant, clients = bench.tenant, bench.pancake_clients()
    with Warehouse(bench.engine).tenant(tenant.tenant_id, name=tenant.name, timezone=tenant.timezone) as held:
        discover_shops(tenant, clients, held, "run", go_on=True)
        assert bench.sandbox.requests.count("shops") == len(clients)
        found = shops_of_run(tenant, clients, held, "run", go_on=True)
        refresh_products(tenant, clients, held, found.shops, "run", go_on=True)
        shops_of_run(tenant, clients, held, "run", go_on=True)
        assert list(found.shops) == [FIRST_SHOP, SECOND_SHOP]
        assert [refusal.error.place.key for refusal in found.refusals] == (["ANOTHER_KEY"] if refused else [])
        assert bench.sandbox.requests.count("shops") == len(clients)
        shops_of_run(tenant, clients, held, "another run", go_on=True)
        assert bench.sandbox.requests.count("shops") == 2 * len(clients)


def with_another_key(bench: Bench, variable: str) -> PancakeKey:
    """The key of the tenant file as one from another variable."""
    return bench.tenant.pancake[0].model_copy(update={"api_key": SecretRef(env=variable)})


def test_a_stored_shop_whose_key_left_the_file_is_not_synced(bench: Bench) -> None:
    bench.sync([MONDAY], [POS])
    before = bench.tables()
    bench.tenant = bench.tenant.model_copy(update={"pancake": (with_another_key(bench, "ANOTHER_KEY"),)})
    bench.keys = {"ANOTHER_KEY": bench.sandbox.environment[KEY]}
    bench.sandbox.faults.add(
        Fault(faults.json_body({"success": True, "shops": [{"id": int(SECOND_SHOP), "name": "B"}]}), path="/shops$")
    )
    bench.sandbox.requests.clear()
    [result] = bench.sync([MONDAY], [POS])
    assert result.complete
    assert bench.sandbox.requests.count("orders", FIRST_SHOP) == 0
    assert bench.sandbox.requests.count("orders", SECOND_SHOP) == 1
    assert bench.tables() == before
    keys = bench.query("SELECT shop_id, api_key_variable FROM pos_shops ORDER BY 1")
    assert keys == [(FIRST_SHOP, KEY), (SECOND_SHOP, "ANOTHER_KEY")]


def test_a_refused_key_costs_no_shop_of_a_key_that_left_the_file(bench: Bench) -> None:
    bench.sync([MONDAY], [POS])
    bench.tenant = bench.tenant.model_copy(update={"pancake": (with_another_key(bench, "ANOTHER_KEY"),)})
    bench.keys = {"ANOTHER_KEY": "revoked"}
    with pytest.raises(TokenError, match="the api_key is not accepted"):
        bench.sync([MONDAY], [POS], go_on=True)
    assert bench.query("SELECT scope FROM sync_refusals") == [("key in ANOTHER_KEY",)]
