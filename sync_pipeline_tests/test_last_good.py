"""A tenant whose file breaks goes on in its last good version; a tenant whose file goes away is gone."""

import copy
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline import last_good
from sync_pipeline.last_good import TenantsInUse, fingerprint, load_tenants_in_use
from sync_pipeline.rows.costs import load_product_costs
from sync_pipeline.tenants import Tenant, load_tenants
from sync_pipeline_tests import attacks

ACME: dict[str, Any] = {
    "tenant": "acme",
    "name": "Acme",
    "start_date": "2024-11-01",
    "meta": {"access_token": {"env": "ACME_META_TOKEN"}},
    "pancake": [{"api_key": {"env": "ACME_PANCAKE_KEY"}}],
    "product_costs": "acme_costs.csv",
    "workflows": [{"name": "nightly", "sources": ["meta"], "date_range": {"type": "rolling"}}],
}
COSTS = "shop_id,product_id,mapping,cogs,start_date,end_date\n,P1,Soap,{},,\n"


@dataclass
class Place:
    """A folder of tenants and a home for what is kept of them."""

    tenants: Path
    home: Path

    def write(self, file: str = "acme.yaml", **changes: Any) -> None:
        (self.tenants / file).write_text(yaml.safe_dump({**ACME, **changes}))

    def price(self, cogs: object) -> None:
        (self.tenants / "acme_costs.csv").write_text(COSTS.format(cogs))

    def load(self) -> TenantsInUse:
        return load_tenants_in_use(self.tenants, self.home)

    def names(self) -> dict[str, str]:
        """Tenant to name, of those in use: the name tells the version."""
        return {tenant.tenant_id: tenant.name for tenant in self.load().tenants}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "tenants", tmp_path / "home")
    place.tenants.mkdir()
    place.price(10)
    place.write()
    place.write("beta.yaml", tenant="beta", name="Beta", product_costs=None)
    return place


def unit_cost(tenant: Tenant) -> Decimal | None:
    assert tenant.product_costs
    [cost] = load_product_costs(tenant.product_costs)
    return cost.cogs


BROKEN_TEXTS = [
    "tenant: acme\nname: [",
    "tenant: acme\nname: Acme\n",
    "",
    "tenant: !x",
    "- a list",
    "tenant: Not A Name\n",
]


@pytest.mark.parametrize("text", BROKEN_TEXTS)
def test_a_file_that_breaks_leaves_the_last_good_version_in_use_and_says_so(place: Place, text: str) -> None:
    place.load()
    place.write(name="Acme Two")
    good = place.load().tenants
    (place.tenants / "acme.yaml").write_text(text)
    in_use = place.load()
    [acme, beta] = in_use.tenants
    assert acme.model_copy(update={"product_costs": None}) == good[0].model_copy(update={"product_costs": None})
    assert acme.name == "Acme Two"
    assert beta == good[1]
    [set_aside] = in_use.set_aside
    assert set_aside.file.file == place.tenants / "acme.yaml"
    assert "the last good version of acme, from 20" in set_aside.sentences[0]


def test_a_stand_in_names_the_same_secrets_and_resolves_them_as_its_file_would(place: Place) -> None:
    place.load()
    place.write(timezone="nowhere")
    [acme, _] = place.load().tenants
    assert [secret.resolve({"ACME_META_TOKEN": "a", "ACME_PANCAKE_KEY": "b"}).reveal() for secret in acme.secrets] == [
        "a",
        "b",
    ]


def test_a_file_that_was_never_good_leaves_out_its_tenant_alone(place: Place) -> None:
    place.write(start_date="soon")
    in_use = place.load()
    assert [tenant.tenant_id for tenant in in_use.tenants] == ["beta"]
    [set_aside] = in_use.set_aside
    assert set_aside.consequence == "its tenant is left out"


def test_a_repaired_file_is_in_use_at_once(place: Place) -> None:
    place.load()
    place.write(start_date="soon")
    place.load()
    place.write(name="Repaired")
    in_use = place.load()
    assert in_use.tenants[0].name == "Repaired"
    assert in_use.set_aside == ()


def test_a_version_that_comes_back_is_the_latest_again(place: Place) -> None:
    for name in ("One", "Two", "Three", "One"):
        place.write(name=name)
        place.load()
    place.write(start_date="soon")
    assert place.names()["acme"] == "One"


def test_a_deleted_file_removes_its_tenant_and_what_was_kept_of_it(place: Place) -> None:
    place.load()
    (place.tenants / "acme.yaml").unlink()
    assert place.names() == {"beta": "Beta"}
    place.write(start_date="soon")
    assert place.names() == {"beta": "Beta"}, "a tenant of the same id is another tenant"


def test_the_other_versions_stay_while_a_file_is_broken(place: Place) -> None:
    place.load()
    place.write(start_date="soon")
    for _ in range(3):
        assert place.names() == {"acme": "Acme", "beta": "Beta"}


def test_product_costs_that_break_leave_the_last_good_ones_in_use(place: Place) -> None:
    place.load()
    place.price("a lot")
    in_use = place.load()
    assert unit_cost(in_use.tenants[0]) == 10
    [set_aside] = in_use.set_aside
    assert "acme_costs.csv: line 2: cogs" in set_aside.sentences[0]
    assert "is in use" in set_aside.sentences[0]


def test_product_costs_that_go_away_leave_the_last_good_ones_in_use(place: Place) -> None:
    place.load()
    (place.tenants / "acme_costs.csv").unlink()
    in_use = place.load()
    assert unit_cost(in_use.tenants[0]) == 10
    assert "there is no file 'acme_costs.csv'" in in_use.set_aside[0].sentences[0]


def test_new_product_costs_are_a_new_version(place: Place) -> None:
    place.load()
    place.price(20)
    assert unit_cost(place.load().tenants[0]) == 20
    place.price("a lot")
    place.write(start_date="soon")
    assert unit_cost(place.load().tenants[0]) == 20


def test_a_tenant_whose_product_costs_were_never_good_stays_and_the_reason_is_shown(place: Place) -> None:
    place.price("a lot")
    in_use = place.load()
    assert [tenant.tenant_id for tenant in in_use.tenants] == ["acme", "beta"]
    assert "runs of acme that need its costs fail" in in_use.set_aside[0].sentences[0]


def test_product_costs_in_another_folder_are_kept_too(place: Place) -> None:
    (place.tenants / "acme_costs.csv").rename(place.tenants.parent / "elsewhere.csv")
    place.write(product_costs="../elsewhere.csv")
    place.load()
    (place.tenants.parent / "elsewhere.csv").unlink()
    assert unit_cost(place.load().tenants[0]) == 10


def test_a_file_that_takes_anothers_id_keeps_its_own_tenant(place: Place) -> None:
    place.load()
    place.write("beta.yaml", tenant="acme", name="Beta", product_costs=None)
    assert place.names() == {"acme": "Acme", "beta": "Beta"}


def test_a_renamed_file_that_breaks_is_known_by_the_tenant_it_names(place: Place) -> None:
    place.load()
    (place.tenants / "acme.yaml").unlink()
    place.write("trading.yaml", start_date="soon")
    assert place.names() == {"acme": "Acme", "beta": "Beta"}


def test_a_stand_in_never_comes_beside_its_tenant(place: Place) -> None:
    place.load()
    place.write("acme.yaml", start_date="soon")
    place.write("a.yaml", name="Moved")
    assert place.names() == {"acme": "Moved", "beta": "Beta"}


def test_a_stand_in_never_brings_a_job_that_another_tenant_has(place: Place) -> None:
    flow = ACME["workflows"][0]
    place.write(workflows=[{**flow, "name": "north__nightly"}])
    place.load()
    place.write(start_date="soon")
    place.write("north.yaml", tenant="acme__north", name="North", product_costs=None)
    assert place.names() == {"acme__north": "North", "beta": "Beta"}


def test_what_is_kept_is_a_tenant_file_without_secrets(place: Place) -> None:
    place.load()
    place.write(meta={"access_token": "MARKER-7f3a-secret"})
    place.load()
    kept = [file for file in place.home.rglob("*") if file.is_file()]
    assert sorted(file.name for file in kept) == ["acme.yaml", "beta.yaml", "product_costs.csv"]
    assert not any(b"MARKER" in file.read_bytes() for file in kept)


def test_nothing_is_written_while_nothing_changes(place: Place) -> None:
    place.load()

    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in place.home.rglob("*")}

    before = state()
    place.load()
    assert state() == before


def test_a_home_that_cannot_be_written_is_a_warning(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.home.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        assert place.names() == {"acme": "Acme", "beta": "Beta"}
    assert "cannot be kept" in caplog.text


def test_many_may_read_and_keep_while_files_are_edited(place: Place) -> None:
    place.load()

    def edit() -> None:
        for n in range(40):
            place.write(name=f"Acme {n}")
            place.price(n + 1)
            (place.tenants / "beta.yaml").write_text("tenant: beta\n" if n % 2 else "")

    with ThreadPoolExecutor(5) as threads:
        editing = threads.submit(edit)
        found = [threads.submit(lambda: [place.load() for _ in range(8)]) for _ in range(4)]
        editing.result()
        loads = [load for future in found for load in future.result()]
    assert all("beta" in {tenant.tenant_id for tenant in load.tenants} for load in loads)
    place.load()
    place.write(start_date="soon")
    assert place.names() == {"acme": "Acme 39", "beta": "Beta"}
    assert unit_cost(place.load().tenants[0]) == 40


texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(str.strip)
pauses = st.one_of(
    st.none(), st.fixed_dictionaries({}, optional={"meta_delay_ms": st.integers(0, 9), "pacing": st.just("adaptive")})
)


@given(name=texts, description=texts, actions=st.lists(texts, min_size=1, max_size=3), pause=pauses)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_version_says_what_the_file_said(
    place: Place, name: str, description: str, actions: list[str], pause: dict[str, Any] | None
) -> None:
    said = copy.deepcopy(ACME) | {"name": name, "product_costs": None}
    said["meta"]["lead_action_types"] = actions
    said["workflows"][0] |= {"description": description, "rate_limit": pause, "schedule": "0 2 * * *"}
    said["rate_limit"] = {"pos_delay_ms": 7}
    (place.tenants / "acme.yaml").write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")
    [acme, _] = load_tenants(place.tenants).tenants
    place.load()
    (place.tenants / "acme.yaml").write_text("tenant: acme")
    [kept, _] = place.load().tenants
    assert kept == acme
    assert kept.rate_limit_for(kept.workflows[0]) == acme.rate_limit_for(acme.workflows[0])


def test_a_fingerprint_tells_of_edits_additions_and_removals_of_tenant_files_alone(place: Place) -> None:
    before = fingerprint(place.tenants)
    (place.tenants / "notes.txt").write_text("mine")
    (place.tenants / ".acme.yaml.swp").write_text("half")
    assert fingerprint(place.tenants) == before
    place.price(11111)
    changed = fingerprint(place.tenants)
    assert changed != before
    place.write("gamma.yml", tenant="gamma")
    assert fingerprint(place.tenants) != changed
    (place.tenants / "gamma.yml").unlink()
    assert fingerprint(place.tenants) == changed
    assert fingerprint(place.tenants / "nowhere") == {}


def test_a_look_at_one_tenant_forgets_no_other(place: Place) -> None:
    place.load()
    one = load_tenants_in_use(place.tenants, place.home, only=["acme"])
    assert [tenant.tenant_id for tenant in one.tenants] == ["acme"]
    (place.tenants / "beta.yaml").write_text("tenant: beta\nname: [")
    assert place.names() == {"acme": "Acme", "beta": "Beta"}


@pytest.mark.parametrize("name", attacks.FILES)
def test_an_attack_leaves_every_version_in_use(place: Place, name: str) -> None:
    place.load()
    (place.tenants / "acme.yaml").unlink()
    attacks.FILES[name](place.tenants / "acme.yaml")
    in_use = place.load()
    assert {tenant.tenant_id: tenant.name for tenant in in_use.tenants} == {"acme": "Acme", "beta": "Beta"}
    [set_aside] = in_use.set_aside
    assert "the last good version of acme, from 20" in set_aside.sentences[0]


@pytest.mark.parametrize("name", ["pipe", "socket", "device", "loop of links", "too large", "binary", "merge bomb"])
def test_an_attack_by_product_costs_leaves_every_version_in_use(place: Place, name: str) -> None:
    place.load()
    (place.tenants / "acme_costs.csv").unlink()
    attacks.FILES[name](place.tenants / "acme_costs.csv")
    in_use = place.load()
    assert [unit_cost(in_use.tenants[0]), len(in_use.tenants), len(in_use.set_aside)] == [10, 2, 1]


def test_an_unforeseen_error_in_costs_affects_one_tenant(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise KeyError("MARKER")

    monkeypatch.setattr(last_good, "load_product_costs", fail)
    in_use = place.load()
    assert [tenant.tenant_id for tenant in in_use.tenants] == ["acme", "beta"]
    [set_aside] = in_use.set_aside
    assert "acme_costs.csv: cannot be loaded (unexpected KeyError); report this as a bug" in set_aside.sentences[0]
    assert "MARKER" not in repr(in_use.set_aside)


def test_a_version_that_cannot_be_kept_prevents_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = last_good._text

    def fail(tenant: Tenant) -> bytes:
        if tenant.tenant_id == "acme":
            raise UnicodeEncodeError("utf-8", "MARKER", 0, 1, "MARKER")
        return text(tenant)

    monkeypatch.setattr(last_good, "_text", fail)
    with caplog.at_level(logging.WARNING):
        place.load()
    assert "cannot be kept" in caplog.text
    assert "MARKER" not in caplog.text
    for file in ("acme.yaml", "beta.yaml"):
        (place.tenants / file).write_text("")
    assert place.names() == {"beta": "Beta"}


def test_a_file_that_never_rests_prevents_no_other_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count()

    def restless(folder: Path) -> last_good.Fingerprint:
        return {**fingerprint(folder), "log.csv": (next(looks), 0)}

    monkeypatch.setattr(last_good, "fingerprint", restless)
    place.load()
    (place.tenants / "acme.yaml").write_text("")
    assert place.names() == {"acme": "Acme", "beta": "Beta"}
    place.write()
    (place.tenants / "beta.yaml").unlink()
    place.load()
    place.write("beta.yaml", tenant="beta", start_date="soon")
    assert place.names() == {"acme": "Acme"}


def test_a_version_of_a_file_that_changes_meanwhile_is_not_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count()

    def changing(folder: Path) -> last_good.Fingerprint:
        return {**fingerprint(folder), "acme_costs.csv": (next(looks), 0)}

    with monkeypatch.context() as patched:
        patched.setattr(last_good, "fingerprint", changing)
        place.load()
    for file in ("acme.yaml", "beta.yaml"):
        (place.tenants / file).write_text("")
    assert place.names() == {"beta": "Beta"}
